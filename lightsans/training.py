"""Fitting a model: the loop that every training run executes, with or without Ray.

A run is a pure function of its configuration and dataset, whatever the number of workers (dropout
aside). What is needed to go on after an interruption is `Trainer.state`, taken between epochs.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightsans import distributed
from lightsans.batches import Batch, RankEpoch
from lightsans.config import RunConfig
from lightsans.distributed import gather_ids
from lightsans.errors import TrainingError
from lightsans.evaluation import model_scorer, rank_held_out
from lightsans.learning_curve import EpochRow, Progress, StepNews
from lightsans.loss import NextItemObjective, choose_loss
from lightsans.metrics import RankingTotals
from lightsans.model import LightSANs
from lightsans.negatives import SHARED_LOSSES, NegativeSampler
from lightsans.sequences import Int64, UserSequences, distinct_targets
from lightsans.split import hold_out

PROGRESS_EVERY_S = 1.0


class Trainer:
    """One worker's share of a training run.

    Args:
        config: The whole run.
        num_items: Size of the catalogue.
        users: The trainable sequences of each virtual shard that this worker owns.
        device: Where to train.
        wrap: Makes the objective distributed (DDP); the identity for one worker.
        on_step: Told about progress now and then, on every worker.
        item_counts: (num_items,) interactions of each item, for negatives drawn by popularity.
    """

    def __init__(
        self,
        config: RunConfig,
        num_items: int,
        users: dict[int, UserSequences],
        device: torch.device,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        on_step: Callable[[StepNews], None] = lambda news: None,
        item_counts: Int64 | None = None,
    ) -> None:
        loss_type = choose_loss(config.model, num_items, device.type)
        config = replace(config, model=replace(config.model, loss_type=loss_type))
        self._config, self._num_items, self._users = config, num_items, users
        self._device, self._on_step = device, on_step
        torch.manual_seed(config.train.seed)  # every worker starts from the same weights
        self.model = LightSANs(config.model, num_items).to(device)
        self._objective = wrap(NextItemObjective(self.model))
        self._sampler: NegativeSampler | None = None
        if loss_type in SHARED_LOSSES:
            self._sampler = NegativeSampler(config, num_items, item_counts)
        self._optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.train.learning_rate, fused=True
        )
        self.progress = Progress()
        own_distinct = sum(distinct_targets(sequences) for sequences in users.values())
        self._distinct = int(distributed.sum_over_workers(np.array([own_distinct]), device)[0])
        if self._distinct == 0:
            raise TrainingError(
                "no user has two interactions left for training (leave-one-out keeps the last two "
                "of three or more); train on more data or relax the filters of the data section"
            )

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or early stopping has ended the run."""
        done = len(self.progress.history) >= self._config.train.epochs
        return done or self.progress.stopped

    def run_epoch(self) -> EpochRow:
        """Train one epoch, validate, and update `progress`."""
        epoch = len(self.progress.history)
        started = time.monotonic()
        loss, targets = self._train_epoch(epoch)
        trained = time.monotonic()
        row = EpochRow(
            epoch=epoch + 1,
            loss=loss,
            targets=targets,
            distinct_targets=self._distinct,
            train_s=round(trained - started, 3),
            valid=self.validate(),
            valid_s=round(time.monotonic() - trained, 3),
        )
        self._update_progress(row)
        return row

    def validate(self) -> dict[str, float]:
        """Full-ranking metrics on the valid targets of all workers' users."""
        self.model.eval()
        ks = self._config.evaluate.ks
        totals = RankingTotals.zero(ks)
        with torch.inference_mode():
            for users in self._users.values():
                totals += rank_held_out(
                    model_scorer(self.model, self._device),
                    hold_out(users, "valid"),
                    ks=ks,
                    num_items=self._num_items,
                    max_seq_len=self._config.model.max_seq_len,
                    remove_seen=self._config.evaluate.remove_seen,
                    batch_size=self._config.train.eval_batch_size,
                )
        summed = distributed.sum_over_workers(totals.to_array(), self._device)
        return RankingTotals.from_array(summed, ks).metrics()

    def state(self) -> dict[str, Tensor]:
        """The optimizer's state as named tensors; the model's own is ``model.state_dict()``."""
        tensors = {}
        for index, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"{index}.{name}"] = torch.as_tensor(value).contiguous()
        return tensors

    def restore(self, weights: dict[str, Tensor], state: dict[str, Tensor], progress: str) -> None:
        """Go on from a checkpoint: the model's weights, `state` and ``progress.to_json()``."""
        self.model.load_state_dict(weights)
        by_index: dict[int, dict[str, Any]] = {}
        for key, value in state.items():
            index, name = key.split(".", 1)
            by_index.setdefault(int(index), {})[name] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": by_index, "param_groups": groups})
        self.progress = Progress.from_json(progress)

    def _train_epoch(self, epoch: int) -> tuple[float, int]:
        """Mean loss over the targets of all workers, and their number."""
        # Workers draw different dropout masks, and the same ones when an epoch is repeated.
        seeds = np.random.SeedSequence([self._config.train.seed, epoch, distributed.rank()])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        self._objective.train()
        batches = RankEpoch(self._users, epoch, self._config, self._num_items)
        num_steps = distributed.max_over_workers(batches.longest_shard, self._device)
        batches.set_num_steps(num_steps)
        own_targets = batches.targets_per_step()
        targets = distributed.sum_over_workers(own_targets, self._device)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        watch = _Watch(self._on_step, epoch, num_steps, targets)
        for step in range(num_steps):
            batch = batches.batch(step)
            shared = self._shared_negatives(batch, epoch, step)
            loss_sum = self._step(batch, shared, float(targets[step]))
            total += loss_sum
            if watch.is_due(step):
                loss = float(loss_sum) / max(1.0, float(own_targets[step]))
                self._require_finite(loss, epoch, step)
                watch.tell(step, loss)
        summed = distributed.sum_over_workers(total.cpu().numpy().reshape(1), self._device)
        loss = float(summed[0]) / float(targets.sum())
        self._require_finite(loss, epoch, num_steps)
        return loss, int(targets.sum())

    def _shared_negatives(self, batch: Batch, epoch: int, step: int) -> list[Tensor]:
        """Negatives of the step and their logarithms; nothing where the loss takes none."""
        if self._sampler is None:
            return []
        targets = None
        if self._sampler.needs_targets:
            targets = gather_ids(batch.target_ids[batch.target_ids > 0], self._device)
        drawn = self._sampler.draw(epoch, step, targets)
        return [self._tensor(drawn.item_ids), self._tensor(drawn.log_expected)]

    def _step(self, batch: Batch, shared: list[Tensor], global_targets: float) -> Tensor:
        """One optimizer step; gives this worker's sum of losses."""
        self._optimizer.zero_grad(set_to_none=True)
        inputs = [self._tensor(batch.item_ids), self._tensor(batch.lengths)]
        inputs.append(self._tensor(batch.target_ids))
        if batch.negative_ids is not None:
            shared = [self._tensor(batch.negative_ids)]
        loss_sum: Tensor = self._objective(*inputs, *shared)
        # DDP averages gradients over workers: undo that, and divide by the targets of all of them.
        (loss_sum * (distributed.world_size() / max(global_targets, 1.0))).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss_sum.detach()

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _require_finite(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            rate = self._config.train.learning_rate
            raise TrainingError(
                f"the loss became {loss} in epoch {epoch + 1}, by step {step}; "
                f"lower train.learning_rate (now {rate})"
            )

    def _update_progress(self, row: EpochRow) -> None:
        progress, train = self.progress, self._config.train
        progress.history.append(row)
        best = max(progress.history, key=lambda r: (r.valid[train.valid_metric], -r.epoch))
        progress.best_epoch = best.epoch
        progress.stopped = 0 < train.patience <= row.epoch - best.epoch


class _Watch:
    """Decides when to speak about an epoch, and what."""

    def __init__(
        self, tell: Callable[[StepNews], None], epoch: int, num_steps: int, targets: Any
    ) -> None:
        self._tell, self._epoch, self._num_steps = tell, epoch, num_steps
        self._targets = np.cumsum(targets)
        self._started = self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        return time.monotonic() - self._last >= PROGRESS_EVERY_S

    def tell(self, step: int, loss: float) -> None:
        self._last = time.monotonic()
        speed = float(self._targets[step]) / (self._last - self._started)
        self._tell(StepNews(self._epoch + 1, step + 1, self._num_steps, loss, speed))
