"""A training run in this process: the epoch that valid chooses, its test metrics, its cost."""

import copy
import json
import time
from typing import NamedTuple

import torch

from benchmarks.movielens import Log
from lightsans.config import RunConfig
from lightsans.dataset.held_out import hold_out
from lightsans.model.network import LightSANs
from lightsans.ranking.evaluation import rank_held_out, score_by_model
from lightsans.training.progress import EpochRow
from lightsans.training.trainer import Trainer


class Trained(NamedTuple):
    """A run that ended; its model has the weights of the best epoch."""

    model: torch.nn.Module
    curve: list[EpochRow]
    seconds: list[float]
    """Time since the beginning, at the end of each epoch."""
    best_epoch: int
    test: dict[str, float]
    """Test metrics of the best epoch."""

    @property
    def best(self) -> EpochRow:
        """The best epoch."""
        return self.curve[self.best_epoch - 1]

    @property
    def seconds_to_best(self) -> float:
        """Time until the best epoch had ended."""
        return self.seconds[self.best_epoch - 1]


def train(log: Log, config: RunConfig, minutes: float, clock: str) -> Trained:
    """Train until early stopping, the last epoch, or out of time; test the best epoch.

    Args:
        log: The log; one shard has all its users.
        config: The run.
        minutes: Most time.
        clock: ``cpu`` for the processor time of this process, else wall-clock.
    """
    trainer = Trainer(config, log.num_items, {0: log.users}, torch.device("cpu"))
    return finish(trainer, log, config, minutes, clock)


def finish(trainer: Trainer, log: Log, config: RunConfig, minutes: float, clock: str) -> Trained:
    """`train` with a trainer that was made before."""
    read = time.process_time if clock == "cpu" else time.monotonic
    best, seconds, started = copy.deepcopy(trainer.weights()), list[float](), read()
    while not trainer.finished and read() - started < 60 * minutes:
        row = trainer.run_epoch()
        seconds.append(round(read() - started, 2))
        if trainer.progress.best_epoch == row.epoch:
            best = copy.deepcopy(trainer.weights())
        valid = {name: round(row.valid[name], 4) for name in ("hit@10", "ndcg@10")}
        shown = {"epoch": row.epoch, "loss": round(row.loss, 4), "seconds": seconds[-1], **valid}
        print(json.dumps(shown), flush=True)
    trainer.model.load_state_dict(best)
    test = test_metrics(trainer.model, log, config, torch.device("cpu"))
    progress = trainer.progress
    return Trained(trainer.model, progress.history, seconds, progress.best_epoch, test)


def test_metrics(
    model: LightSANs, log: Log, config: RunConfig, device: torch.device
) -> dict[str, float]:
    """Metrics of a model on the held-out newest items."""
    totals = rank_held_out(
        score_by_model(model.eval(), device, config.model.max_seq_len),
        hold_out(log.users, "test"),
        ks=config.evaluate.ks,
        num_items=log.num_items,
        remove_seen=config.evaluate.remove_seen,
    )
    return totals.metrics()
