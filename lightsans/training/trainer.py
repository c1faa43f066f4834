"""Fitting a model: the loop that every training run executes, with or without Ray.

A run is a pure function of its configuration and dataset, whatever the number of workers (dropout
aside, whose masks are drawn per worker). Nothing random outlives a step: every generator is seeded
by (seed, epoch, step, rank). So what is needed to go on after an interruption is the weights, the
state of the optimizers and `Progress`, taken between two steps.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightsans.arrays import Float64, Int64
from lightsans.config import RunConfig
from lightsans.config.kinds import LOSSES, Loss, trains_rows
from lightsans.dataset.feature_arrays import FeatureArrays
from lightsans.dataset.held_out import hold_out
from lightsans.dataset.samples import distinct_targets
from lightsans.dataset.sequences import UserSequences, for_refit
from lightsans.errors import InputError, TrainingError
from lightsans.losses.negatives import NegativeSampler, SharedNegatives
from lightsans.losses.objective import choose_loss
from lightsans.model.item_features import ItemFeatures
from lightsans.model.network import LightSANs
from lightsans.ranking.evaluation import rank_held_out, score_by_model
from lightsans.ranking.metrics import RankingTotals
from lightsans.training import collectives
from lightsans.training.batches import Batch, RankEpoch
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.optimizer import learning_rate
from lightsans.training.progress import EpochRow, Progress, ProgressThrottle, StepProgress
from lightsans.training.step import Position, TrainingStep
from lightsans.training.tally import Tally, peak_memory_mib


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
        wrap: Makes the objective distributed (DDP). With the identity, gradients are averaged when
            all of them are ready.
        on_step: Called with the progress of an epoch about once a second, on every worker.
        item_counts: (num_items,) interactions of each item, for negatives drawn by popularity.
        weights: Weights that the model begins with; None for new ones.
        features: Features of the items, which their vectors are made of, too; None without any.
    """

    def __init__(
        self,
        config: RunConfig,
        num_items: int,
        users: dict[int, UserSequences],
        device: torch.device,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        on_step: Callable[[StepProgress], None] = lambda progress: None,
        item_counts: Int64 | None = None,
        weights: dict[str, Tensor] | None = None,
        features: FeatureArrays | None = None,
    ) -> None:
        loss_type = choose_loss(config.model, num_items, device.type)
        config = _settle_loss(config, loss_type)
        if config.train.refit_epochs is not None:
            users = {shard: for_refit(sequences) for shard, sequences in users.items()}
        self._config, self._num_items, self._users = config, num_items, users
        self._device, self._on_step = device, on_step
        torch.manual_seed(config.train.seed)  # every worker starts from the same weights
        model = LightSANs(config.model, num_items).to(device)
        self._candidates: Int64 | None = None
        if features is not None:
            _require_met(users, features)
            self._candidates = features.met_ids
            size, std = config.model.hidden_size, config.model.initializer_range
            model.item_features = ItemFeatures(features, size, std, device)
        if weights is not None:
            model.load_state_dict(weights)
        if features is not None:  # nothing trains the own vectors of items that nobody met
            with torch.no_grad():
                model.item_embedding.weight[torch.from_numpy(features.new_ids)] = 0.0
        by_rows = trains_rows(loss_type, config.model.attention)
        self._step = TrainingStep(config, model, by_rows, wrap)
        self._sampler: NegativeSampler | None = None
        if LOSSES[loss_type].shares_negatives:
            self._sampler = NegativeSampler(config, num_items, item_counts, self._candidates)
        self.progress = Progress()
        own_distinct = sum(distinct_targets(sequences) for sequences in users.values())
        self._distinct = int(collectives.sum_over_workers(np.array([own_distinct]), device)[0])
        if self._distinct == 0:
            raise InputError(
                "no user has two interactions left for training (leave-one-out keeps the last two "
                "of three or more); train on more data or relax the filters of the data section"
            )

    @property
    def model(self) -> LightSANs:
        """The model that steps change."""
        return self._step.model

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
        if self._config.train.refit_epochs is None:
            row = replace(row, valid=self.validate())
        row = replace(row, valid_s=round(time.monotonic() - trained, 3))
        self._update_progress(row)
        return row

    def validate(self) -> dict[str, float]:
        """Full-ranking metrics on the valid targets of all workers' users; {} without targets."""
        model = self._step.kept.eval().composed()
        ks = self._config.evaluate.ks
        totals = RankingTotals.zero(ks)
        with torch.inference_mode():
            for users in self._users.values():
                totals += rank_held_out(
                    score_by_model(model, self._device, self._config.model.max_seq_len),
                    hold_out(users, "valid"),
                    ks=ks,
                    num_items=self._num_items,
                    remove_seen=self._config.evaluate.remove_seen,
                    batch_size=self._config.train.eval_batch_size,
                )
        summed = collectives.sum_over_workers(totals.to_array(), self._device)
        return RankingTotals.from_array(summed, ks).metrics()

    def weights(self) -> dict[str, Tensor]:
        """Weights that were validated and are worth keeping, as a ``state_dict``.

        The model's own weights, or with ``train.ema_decay`` their average.
        """
        return self._step.kept.state_dict()

    def state(self) -> dict[str, Tensor]:
        """State beside `weights` and `progress` that a checkpoint needs: named tensors."""
        return self._step.state()

    def restore(
        self, weights: dict[str, Tensor], state: dict[str, Tensor], progress: Progress
    ) -> None:
        """Go on from a checkpoint: `weights`, `state` and `progress` of then."""
        self._step.restore(weights, state)
        self.progress = progress

    def _train_epoch(self, epoch: int, mid_epoch: MidEpoch | None) -> EpochRow:
        """Train an epoch, or what is left of it; its row of the learning curve."""
        # The plan of the epoch: equally many steps on all workers, and how many targets each has.
        self._step.begin_epoch()
        batches = RankEpoch(self._users, epoch, self._config, self._num_items, self._candidates)
        num_steps = collectives.max_over_workers(batches.longest_shard, self._device)
        batches.set_num_steps(num_steps)
        own_targets = batches.targets_per_step()
        targets = collectives.sum_over_workers(own_targets, self._device)
        own_weights: Int64 | Float64 = own_targets
        weights: Int64 | Float64 = targets
        if collectives.max_over_workers(int(batches.is_weighted), self._device):
            own_weights = batches.weights_per_step()
            weights = collectives.sum_over_workers(own_weights, self._device)

        # An interrupted epoch goes on with the sums of the steps that are done.
        partial, self.progress.partial = self.progress.partial, None
        begin = partial.step if partial else 0
        tally = Tally(partial, self._device)
        throttle = ProgressThrottle(self._on_step, epoch, targets, begin)
        if mid_epoch is not None:
            mid_epoch.clock.begin_epoch(begin)

        for step in range(begin, num_steps):
            with tally.measure("load_s"):
                batch = batches.batch(step)
            shared = self._shared_negatives(batch, epoch, step)
            position = Position(epoch, step, num_steps)
            loss_sum = self._step.run(batch, shared, position, float(weights[step]), tally)

            # Reading the loss waits for the device: only now and then.
            if throttle.is_due():
                loss = float(loss_sum) / (float(own_weights[step]) or 1.0)
                self._require_finite(loss, epoch, step)
                throttle.report(step, loss)

            # All workers ask the clock, whose answer is the same for all. After the last step the
            # caller writes the checkpoint of the whole epoch.
            is_last = step + 1 == num_steps
            if mid_epoch is not None and not is_last and mid_epoch.clock.is_due(step + 1):
                self.progress.partial = tally.to_partial(step + 1)
                self._require_finite(sum(self.progress.partial.loss_sums), epoch, step)
                mid_epoch.save()
                self.progress.partial = None
        return self._row(epoch, num_steps, int(targets.sum()), float(weights.sum()), tally)

    def _row(
        self, epoch: int, num_steps: int, targets: int, weight: float, tally: Tally
    ) -> EpochRow:
        loss = sum(tally.loss_sums()) / weight
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

    def _shared_negatives(self, batch: Batch, epoch: int, step: int) -> SharedNegatives | None:
        """Negatives of the step; None where the loss takes none that targets share."""
        if self._sampler is None:
            return None
        targets = None
        if self._sampler.needs_targets:
            own_targets = batch.target_ids[batch.target_ids > 0]
            targets = collectives.gather_ids(own_targets, self._device)
        return self._sampler.draw(epoch, step, targets)

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
        if not row.valid:  # a refit, or nobody has a valid target: nothing to choose by
            progress.best_epoch = row.epoch
            return
        best = max(progress.history, key=lambda r: (r.valid[train.valid_metric], -r.epoch))
        progress.best_epoch = best.epoch
        progress.stopped = 0 < train.patience <= row.epoch - best.epoch


def _require_met(users: dict[int, UserSequences], features: FeatureArrays) -> None:
    """Check that items of the sequences count as met: others are compared with nothing."""
    for sequences in users.values():
        assert features.is_met[sequences.item_ids].all() or not features.is_met.any()


def _settle_loss(config: RunConfig, loss_type: Loss) -> RunConfig:
    """The configuration with the loss that ``auto`` stands for; CE keeps the item table float32."""
    model, train = replace(config.model, loss_type=loss_type), config.train
    if not trains_rows(loss_type, model.attention):
        train = replace(train, table_precision="fp32")
    return replace(config, model=model, train=train)
