"""Fitting a model: the loop that every training run executes, with or without Ray.

A run is a pure function of its configuration and dataset, whatever the number of workers (dropout
aside, whose masks are drawn per worker). Nothing random outlives a step: every generator is seeded
by (seed, epoch, step, rank). So what is needed to go on after an interruption is the weights, the
optimizer's state and `Progress`, taken between two steps.
"""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from lightsans.arrays import Int64
from lightsans.config import RunConfig
from lightsans.dataset.held_out import hold_out
from lightsans.dataset.samples import distinct_targets
from lightsans.dataset.sequences import UserSequences, for_refit
from lightsans.errors import ConfigError, TrainingError
from lightsans.losses.cross_entropy import LossType, NextItemObjective, choose_loss, trains_rows
from lightsans.losses.negatives import SHARED_LOSSES, NegativeSampler, SharedNegatives
from lightsans.model.compiled import compile_layers
from lightsans.model.network import LightSANs
from lightsans.ranking.evaluation import model_scorer, rank_held_out
from lightsans.ranking.metrics import RankingTotals
from lightsans.training import collectives as distributed
from lightsans.training.batches import Batch, RankEpoch
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.collectives import gather_ids
from lightsans.training.lazy_adam import RowAdam, renumber
from lightsans.training.optimizer import (
    clip_gradients,
    learning_rate,
    make_optimizer,
    moving_average,
    set_learning_rate,
    split_batch,
)
from lightsans.training.progress import EpochRow, Progress, StepNews
from lightsans.training.tally import ExchangeTimer, Tally, peak_memory_mib

PROGRESS_EVERY_S = 1.0
ITEMS, AVERAGE, LAST = "items", "average", "last"
"""What the names of some state begin with: of `RowAdam`, of the average, and of the weights that
training goes on with where a model is an average. That of the other parameters has a number."""


class MidEpoch(NamedTuple):
    """Checkpoints in the middle of an epoch."""

    clock: CheckpointClock
    save: Callable[[], None]
    """Called between two steps on every worker, when `Trainer.progress` says which."""


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
        weights: What the model begins with; None for new weights.
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
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        loss_type = choose_loss(config.model, num_items, device.type)
        config = _settle_loss(config, loss_type)
        self._is_refit = config.train.refit_epochs is not None
        if self._is_refit:
            users = {shard: for_refit(sequences) for shard, sequences in users.items()}
        self._config, self._num_items, self._users = config, num_items, users
        self._device, self._on_step = device, on_step
        torch.manual_seed(config.train.seed)  # every worker starts from the same weights
        self.model = LightSANs(config.model, num_items).to(device)
        if weights is not None:
            self.model.load_state_dict(weights)
        self._row_adam = self._take_over_rows() if trains_rows(config.model) else None
        self._average = self._begin_average()
        if config.train.compile:
            self._compile()
        self._objective = wrap(NextItemObjective(self.model))
        self._exchange = ExchangeTimer(self._objective)
        self._is_settled = not isinstance(self._objective, DistributedDataParallel)
        self._sampler: NegativeSampler | None = None
        if loss_type in SHARED_LOSSES:
            self._sampler = NegativeSampler(config, num_items, item_counts)
        self._optimizer = make_optimizer(self.model, config.train)
        self._parameters = list(self.model.parameters())
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
        train = self._config.train
        done = len(self.progress.history) >= (train.refit_epochs or train.epochs)
        return done or self.progress.stopped

    def run_epoch(self, mid_epoch: MidEpoch | None = None) -> EpochRow:
        """Train one epoch, or what is left of it, validate, and update `progress`."""
        row = self._train_epoch(len(self.progress.history), mid_epoch)
        trained = time.monotonic()
        if not self._is_refit:
            row = replace(row, valid=self.validate())
        row = replace(row, valid_s=round(time.monotonic() - trained, 3))
        self._update_progress(row)
        return row

    def validate(self) -> dict[str, float]:
        """Full-ranking metrics on the valid targets of all workers' users."""
        model = self._validated.eval()
        ks = self._config.evaluate.ks
        totals = RankingTotals.zero(ks)
        with torch.inference_mode():
            for users in self._users.values():
                totals += rank_held_out(
                    model_scorer(model, self._device),
                    hold_out(users, "valid"),
                    ks=ks,
                    num_items=self._num_items,
                    max_seq_len=self._config.model.max_seq_len,
                    remove_seen=self._config.evaluate.remove_seen,
                    batch_size=self._config.train.eval_batch_size,
                )
        summed = distributed.sum_over_workers(totals.to_array(), self._device)
        return RankingTotals.from_array(summed, ks).metrics()

    def weights(self) -> dict[str, Tensor]:
        """What the run has come to so far, as a ``state_dict``: validated, and worth keeping.

        The model's own weights, or with ``train.ema_decay`` their average.
        """
        return self._validated.state_dict()

    def state(self) -> dict[str, Tensor]:
        """What is needed beside `weights` and `progress` to go on: named tensors."""
        tensors = {}
        for index, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"{index}.{name}"] = torch.as_tensor(value).contiguous()
        if self._row_adam is not None:
            for name, value in self._row_adam.state().items():
                tensors[f"{ITEMS}.{name}"] = value
        if self._average is not None:
            tensors[f"{AVERAGE}.steps"] = self._average.n_averaged
            for name, value in self.model.state_dict().items():
                tensors[f"{LAST}.{name}"] = value
        return tensors

    def restore(self, weights: dict[str, Tensor], state: dict[str, Tensor], progress: str) -> None:
        """Go on from a checkpoint: `weights`, `state` and ``progress.to_json()``."""
        by_index: dict[str, dict[str, Any]] = {}
        for key, value in state.items():
            index, name = key.split(".", 1)
            by_index.setdefault(index, {})[name] = value
        self._validated.load_state_dict(weights)
        if self._average is not None:
            self._average.n_averaged.copy_(by_index.pop(AVERAGE)["steps"])
            self.model.load_state_dict(by_index.pop(LAST))
        if self._row_adam is not None:
            self._row_adam.load_state(by_index.pop(ITEMS))
        groups = self._optimizer.state_dict()["param_groups"]
        dense = {int(index): values for index, values in by_index.items()}
        self._optimizer.load_state_dict({"state": dense, "param_groups": groups})
        self.progress = Progress.from_json(progress)

    def _train_epoch(self, epoch: int, mid_epoch: MidEpoch | None) -> EpochRow:
        """What the epoch came to, before validation."""
        self._objective.train()
        batches = RankEpoch(self._users, epoch, self._config, self._num_items)
        num_steps = distributed.max_over_workers(batches.longest_shard, self._device)
        batches.set_num_steps(num_steps)
        own_targets = batches.targets_per_step()
        targets = distributed.sum_over_workers(own_targets, self._device)
        partial, self.progress.partial = self.progress.partial, None
        begin = partial.step if partial else 0
        tally = Tally(partial, self._device)
        watch = _Watch(self._on_step, epoch, num_steps, targets, begin)
        if mid_epoch is not None:
            mid_epoch.clock.begin_epoch(begin)
        for step in range(begin, num_steps):
            with tally.measure("load_s"):
                batch = batches.batch(step)
            shared = self._shared_negatives(batch, epoch, step)
            self._set_learning_rate(epoch + (step + 1) / num_steps)
            if not self._is_settled:
                # After its first backward pass DDP packs gradients anew, and with three workers or
                # more the packing decides in which order they are added: no step may be the first.
                self._backward(batch, shared, 0.0)
                self._is_settled = True
            self._seed(epoch, step)
            loss_sum, norm = self._step(batch, shared, float(targets[step]), tally)
            tally.add_step(loss_sum, norm)
            if watch.is_due(step):
                loss = float(loss_sum) / max(1.0, float(own_targets[step]))
                self._require_finite(loss, epoch, step)
                watch.tell(step, loss)
            if mid_epoch is None or step + 1 == num_steps or not mid_epoch.clock.is_due(step + 1):
                continue
            self.progress.partial = tally.to_partial(step + 1)
            self._require_finite(sum(self.progress.partial.loss_sums), epoch, step)
            mid_epoch.save()
            self.progress.partial = None
        return self._row(epoch, num_steps, int(targets.sum()), tally)

    def _row(self, epoch: int, num_steps: int, targets: int, tally: Tally) -> EpochRow:
        loss = sum(tally.loss_sums()) / targets
        self._require_finite(loss, epoch, num_steps)
        seconds = tally.seconds
        compute_s = seconds["train_s"] - seconds["load_s"] - seconds["communication_s"]
        return EpochRow(
            epoch=epoch + 1,
            loss=loss,
            targets=targets,
            distinct_targets=self._distinct,
            valid_s=0.0,
            valid={},
            compute_s=round(compute_s, 3),
            gradient_norm=tally.norm_sum / num_steps,
            learning_rate=learning_rate(self._config.train, epoch + 1),
            memory_mib=round(peak_memory_mib(self._device), 1),
            **{name: round(value, 3) for name, value in seconds.items()},
        )

    def _seed(self, epoch: int, step: int) -> None:
        """Workers draw different dropout masks, and the same ones when a step is repeated."""
        words = [self._config.train.seed, epoch, step, distributed.rank()]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        torch.default_generator.manual_seed(seed)  # a tenth of what torch.manual_seed takes
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _set_learning_rate(self, position: float) -> None:
        rate = learning_rate(self._config.train, position)
        set_learning_rate(self._optimizer, rate)
        if self._row_adam is not None:
            self._row_adam.learning_rate = rate

    def _compile(self) -> None:
        reason = compile_layers(self.model)
        if reason is not None:
            warnings.warn(
                f"train.compile is set, but the layers cannot be compiled here ({reason}); "
                "training goes on uncompiled",
                stacklevel=3,
            )

    def _take_over_rows(self) -> RowAdam:
        """Take the item table away from the dense optimizer and from DDP."""
        table, train = self.model.item_embedding, self._config.train
        if train.table_precision == "bf16":
            table.to(torch.bfloat16)
        table.requires_grad_(False)
        return RowAdam(table.weight, train.learning_rate, train.seed)

    @property
    def _validated(self) -> LightSANs:
        """The model whose weights `weights` are."""
        if self._average is None:
            return self.model
        assert isinstance(self._average.module, LightSANs)
        return self._average.module

    def _begin_average(self) -> AveragedModel | None:
        decay = self._config.train.ema_decay
        if decay is None:
            return None
        if self._row_adam is not None:
            raise ConfigError(
                f"train.ema_decay={decay} averages all item vectors in every step, and "
                f"model.loss_type={self._config.model.loss_type} is there to leave most of them "
                "alone; set train.ema_decay to null, or model.loss_type to CE"
            )
        return moving_average(self.model, decay)

    def _shared_negatives(self, batch: Batch, epoch: int, step: int) -> SharedNegatives | None:
        """Negatives of the step; None where the loss takes none that targets share."""
        if self._sampler is None:
            return None
        targets = None
        if self._sampler.needs_targets:
            targets = gather_ids(batch.target_ids[batch.target_ids > 0], self._device)
        return self._sampler.draw(epoch, step, targets)

    def _step(
        self, batch: Batch, shared: SharedNegatives | None, global_targets: float, tally: Tally
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step; gives this worker's sum of losses and the norm of the gradient."""
        # DDP averages gradients over workers: undo that, and divide by the targets of all of them.
        scale = distributed.world_size() / max(global_targets, 1.0)
        self._optimizer.zero_grad(set_to_none=True)
        loss_sum, rows_R, vectors_RD = self._backward(batch, shared, scale)
        tally.add_seconds("communication_s", self._exchange.take())
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if self._row_adam is not None:
            assert rows_R is not None
            assert vectors_RD is not None
            assert vectors_RD.grad is not None
            with tally.measure("communication_s"):
                # Padding comes first, and is no row to train.
                rows_R, row_grads = distributed.sum_rows(rows_R[1:], vectors_RD.grad[1:])
            gradients.append(row_grads.div_(distributed.world_size()))
        norm = clip_gradients(gradients, self._config.train.clip_norm)
        self._optimizer.step()
        if self._row_adam is not None:
            assert rows_R is not None
            self._row_adam.step(rows_R, gradients[-1])
        if self._average is not None:
            self._average.update_parameters(self.model)
        return loss_sum, norm

    def _backward(
        self, batch: Batch, shared: SharedNegatives | None, scale: float
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Add the gradients of a batch, averaged over workers.

        Returns:
            This worker's sum of losses; where items are trained by rows, the rows of the batch and
            their vectors, which hold their gradients.
        """
        common: dict[str, Tensor] = {}
        rows_R = vectors_RD = None
        negative_ids = batch.negative_ids if shared is None else shared.item_ids
        if self._row_adam is not None:
            numbered = renumber(
                batch.item_ids, batch.target_ids, *([] if negative_ids is None else [negative_ids])
            )
            item_ids, target_ids, *negatives = (p.astype(np.int32) for p in numbered.positions)
            negative_ids = negatives[0] if negatives else None
            own = None if shared is not None else negative_ids
            batch = Batch(item_ids, batch.lengths, target_ids, own)
            rows_R = self._tensor(numbered.rows)
            vectors_RD = common["item_vectors"] = self._row_adam.take(rows_R).requires_grad_()
        if shared is not None:
            assert negative_ids is not None
            common["negative_ids"] = self._tensor(negative_ids)
            common["log_expected"] = self._tensor(shared.log_expected)
        loss_sum = torch.zeros((), device=self._device)
        *first, last = split_batch(batch, self._config.train.micro_batches)
        for piece in first:
            with self._without_exchange():
                loss_sum += self._backward_piece(piece, common, scale)
        return loss_sum + self._backward_piece(last, common, scale), rows_R, vectors_RD

    def _backward_piece(self, batch: Batch, common: dict[str, Tensor], scale: float) -> Tensor:
        inputs = dict(common)
        for name in ("item_ids", "lengths", "target_ids", "negative_ids"):
            array = getattr(batch, name)
            if array is not None:
                inputs[name] = self._tensor(array)
        is_rounded = self._config.train.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=is_rounded):
            loss_sum: Tensor = self._objective(**inputs)
        (loss_sum * scale).backward()  # type: ignore[no-untyped-call]
        return loss_sum.detach()

    def _without_exchange(self) -> AbstractContextManager[None]:
        if isinstance(self._objective, DistributedDataParallel):
            return self._objective.no_sync()
        return nullcontext()

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":  # from pinned memory the host does not wait for the copy
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

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
        if self._is_refit:
            progress.best_epoch = row.epoch
            return
        best = max(progress.history, key=lambda r: (r.valid[train.valid_metric], -r.epoch))
        progress.best_epoch = best.epoch
        progress.stopped = 0 < train.patience <= row.epoch - best.epoch


def _settle_loss(config: RunConfig, loss_type: LossType) -> RunConfig:
    """The configuration with the loss that ``auto`` stands for; CE keeps the item table float32."""
    model, train = replace(config.model, loss_type=loss_type), config.train
    if not trains_rows(model):
        train = replace(train, table_precision="fp32")
    return replace(config, model=model, train=train)


class _Watch:
    """Decides when to speak about an epoch, and what."""

    def __init__(
        self,
        tell: Callable[[StepNews], None],
        epoch: int,
        num_steps: int,
        targets: Any,
        begin: int,
    ) -> None:
        self._tell, self._epoch, self._num_steps = tell, epoch, num_steps
        self._targets = np.cumsum(targets)
        self._before = float(self._targets[begin - 1]) if begin else 0.0
        self._started = self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        return time.monotonic() - self._last >= PROGRESS_EVERY_S

    def tell(self, step: int, loss: float) -> None:
        self._last = time.monotonic()
        done, all_targets = float(self._targets[step]), float(self._targets[-1])
        speed = (done - self._before) / (self._last - self._started)
        left_s = (all_targets - done) / max(speed, 1e-9)
        self._tell(StepNews(self._epoch + 1, step + 1, self._num_steps, loss, speed, left_s))
