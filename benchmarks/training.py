"""A training run in this process: the epoch that valid chooses, its test metrics, its cost."""

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.movielens import Log
from lightsans.arrays import Int64
from lightsans.config import RunConfig
from lightsans.dataset.held_out import Split, hold_out
from lightsans.model.network import LightSANs
from lightsans.ranking.evaluation import rank_targets, score_by_model
from lightsans.ranking.metrics import RankingTotals
from lightsans.training.progress import EpochRow
from lightsans.training.trainer import Trainer

CPU = torch.device("cpu")
Ends = Callable[[EpochRow], bool]
"""Whether a run ends after an epoch, though others were planned."""


class Trained(NamedTuple):
    """A run that ended; its model has the weights of the best epoch."""

    model: LightSANs
    curve: list[EpochRow]
    seconds: list[float]
    """Time since the beginning, at the end of each epoch."""
    best_epoch: int
    test: dict[str, float]
    """Test metrics of the best epoch."""
    test_ranks: Int64
    """(E,) places of the test targets at the best epoch."""

    @property
    def best(self) -> EpochRow:
        """The best epoch."""
        return self.curve[self.best_epoch - 1]

    @property
    def seconds_to_best(self) -> float:
        """Time until the best epoch had ended."""
        return self.seconds[self.best_epoch - 1]


class Choice:
    """The best epoch under a convention: its weights, and the curve that it is chosen by."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.curve: list[EpochRow] = []
        self.best_epoch = 0
        self.weights: dict[str, Tensor] = {}

    def look(self, row: EpochRow, trainer: Trainer) -> None:
        """Take an epoch in, and keep its weights where it is the best so far."""
        self.curve.append(row)
        metric = self.config.train.valid_metric
        best = self.curve[self.best_epoch - 1].valid[metric] if self.best_epoch else -1.0
        if row.valid[metric] > best:
            self.best_epoch = row.epoch
            self.weights = copy.deepcopy(trainer.weights())


def never(row: EpochRow) -> bool:
    """A run has all its epochs."""
    return False


def train(log: Log, config: RunConfig, minutes: float, clock: str, ends: Ends = never) -> Trained:
    """Train until early stopping, the last epoch, or out of time; test the best epoch.

    Args:
        log: The log; one shard has all its users.
        config: The run.
        minutes: Most time.
        clock: ``cpu`` for the processor time of this process, else wall-clock.
        ends: Ends the run before.
    """
    return train_for(log, [config], minutes, clock, ends)[0]


def train_for(
    log: Log, conventions: Sequence[RunConfig], minutes: float, clock: str, ends: Ends = never
) -> list[Trained]:
    """`train` once, and choose and test an epoch under each of some conventions.

    Args:
        log: The log.
        conventions: They differ in section ``evaluate`` alone; the first one decides when to stop.
        minutes: Most time.
        clock: As of `train`.
        ends: Ends the run before.
    """
    trainer = Trainer(conventions[0], log.num_items, {0: log.users}, CPU)
    return _finish(trainer, log, conventions, minutes, clock, ends)


def finish(trainer: Trainer, log: Log, config: RunConfig, minutes: float, clock: str) -> Trained:
    """`train` with a trainer that was made before."""
    return _finish(trainer, log, [config], minutes, clock, never)[0]


def _finish(
    trainer: Trainer,
    log: Log,
    conventions: Sequence[RunConfig],
    minutes: float,
    clock: str,
    ends: Ends,
) -> list[Trained]:
    read = time.process_time if clock == "cpu" else time.monotonic
    choices = [Choice(config) for config in conventions]
    seconds, started, is_over = list[float](), read(), False
    while not (is_over or trainer.finished) and read() - started < 60 * minutes:
        row = trainer.run_epoch()
        choices[0].look(row, trainer)
        for choice in choices[1:]:
            model = trainer._step.kept.eval().composed()
            valid = metrics_of(model, log, choice.config, "valid")[0]
            choice.look(replace(row, valid=valid), trainer)
        seconds.append(round(read() - started, 2))
        is_over = ends(row)
        for choice in choices:
            valid = {m: round(choice.curve[-1].valid[m], 4) for m in ("hit@10", "ndcg@10")}
            shown = {"epoch": row.epoch, "loss": round(row.loss, 4), "seconds": seconds[-1]}
            print(json.dumps(shown | valid), flush=True)
    found = []
    for choice in choices:
        trainer.model.load_state_dict(choice.weights)
        model = trainer.model if choice is choices[-1] else copy.deepcopy(trainer.model)
        test, ranks = metrics_of(model, log, choice.config, "test")
        found.append(Trained(model, choice.curve, seconds, choice.best_epoch, test, ranks))
    return found


def metrics_of(
    model: LightSANs, log: Log, config: RunConfig, split: Split
) -> tuple[dict[str, float], Int64]:
    """Metrics of a model on held-out items, and the place of each."""
    with torch.inference_mode():
        device = next(model.parameters()).device
        ranks = rank_targets(
            score_by_model(model.eval(), device, config.model.max_seq_len),
            hold_out(log.users, split),
            num_items=log.num_items,
            remove_seen=config.evaluate.remove_seen,
        ).ranks
    return RankingTotals.from_ranks(ranks, config.evaluate.ks).metrics(), ranks
