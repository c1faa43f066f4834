"""One step of training: forward, backward, reduction of gradients, update.

Nothing random outlives a step, and what a step changes is in `TrainingStep.weights` and
`TrainingStep.state`.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from lightsans.config import RunConfig
from lightsans.errors import ConfigError
from lightsans.losses.negatives import SharedNegatives
from lightsans.losses.objective import NextItemObjective
from lightsans.model.compiled import compile_layers
from lightsans.model.network import LightSANs
from lightsans.training import collectives
from lightsans.training.batches import Batch
from lightsans.training.id_dropout import kept_ids
from lightsans.training.item_updates import DenseItems, ItemUpdates, RowItems, to_device
from lightsans.training.optimizer import (
    clip_gradients,
    learning_rate,
    make_optimizer,
    moving_average,
    split_batch,
)
from lightsans.training.tally import CommunicationTimer, Tally

ITEMS, AVERAGE, LAST = "items", "average", "last"
"""Prefixes of names in a state: the optimizer of `ItemUpdates`, the moving average, and the weights
that training goes on with where the model is an average. Other parameters have a number."""


class Position(NamedTuple):
    """Position of a step in a run."""

    epoch: int
    """Number of the epoch, from 0."""
    step: int
    """Number of the step in its epoch, from 0."""
    num_steps: int
    """Steps of the epoch."""

    @property
    def epochs_done(self) -> float:
        """Epochs, with fraction, that are done when the step ends."""
        return self.epoch + (self.step + 1) / self.num_steps


class TrainingStep:
    """A model with what changes it.

    Args:
        config: The run, its loss settled.
        model: The model to train, on its device.
        by_rows: Whether items are trained by the rows of each step.
        wrap: Makes the objective distributed (DDP). With the identity, gradients are averaged when
            all of them are ready.
    """

    def __init__(
        self,
        config: RunConfig,
        model: LightSANs,
        by_rows: bool,
        wrap: Callable[[nn.Module], nn.Module],
    ) -> None:
        self.model, self._train = model, config.train
        self._device = model.item_embedding.weight.device
        # First of all: it takes the item table away from what follows.
        self._items: ItemUpdates = DenseItems(self._device)
        if by_rows:
            self._items = RowItems(model, config.train, self._device)
        self._average = _begin_average(config, model, by_rows)
        if config.train.compile:
            _compile(model)
        candidates = None
        if model.item_features is not None and model.item_features.met_ids is not None:
            candidates = torch.from_numpy(model.item_features.met_ids).to(self._device)
        self._objective = wrap(NextItemObjective(model, candidates))
        self._communication = CommunicationTimer(self._objective)
        self._is_settled = not isinstance(self._objective, DistributedDataParallel)
        self._optimizer = make_optimizer(model, config.train)

    @property
    def kept(self) -> LightSANs:
        """The model that is validated and kept: the trained one, or the average of its weights."""
        if self._average is None:
            return self.model
        assert isinstance(self._average.module, LightSANs)
        return self._average.module

    def begin_epoch(self) -> None:
        """Switch dropout on."""
        self._objective.train()

    def run(
        self,
        batch: Batch,
        shared: SharedNegatives | None,
        position: Position,
        global_targets: float,
        tally: Tally,
    ) -> Tensor:
        """Take one step; a collective.

        Args:
            batch: This worker's samples.
            shared: Negatives that all targets share; None where the loss takes none.
            position: Decides the learning rate and the dropout masks.
            global_targets: Targets of the step, of all workers, or the sum of their weights.
            tally: Takes losses, gradient norms and times.

        Returns:
            This worker's sum of losses.
        """
        if not self._is_settled:
            # After its first backward pass DDP packs gradients anew, and with three workers or
            # more the packing decides in which order they are added: no step may be the first.
            self._backward(batch, shared, position, 0.0)
            self._is_settled = True
        _seed(self._train.seed, position, self._device)
        rate = learning_rate(self._train, position.epochs_done)

        # Gradients of this worker's targets. They are averaged over workers, by DDP as they become
        # ready: undo the average, and divide by the targets of all.
        scale = collectives.world_size() / (global_targets or 1.0)
        self._optimizer.zero_grad()
        loss_sum = self._backward(batch, shared, position, scale)
        tally.add_seconds("communication_s", self._communication.take())

        # Gradients that DDP does not reduce. From here on all workers compute the same.
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        with tally.measure("communication_s"):
            if not isinstance(self._objective, DistributedDataParallel):
                collectives.average(gradients)
            item_gradients = self._items.gradients()
        norm = clip_gradients([*gradients, *item_gradients], self._train.clip_norm)

        # Update the parameters, the items' rows, and the average of both.
        self._optimizer.learning_rate = rate
        self._optimizer.step()
        self._items.update(rate)
        if self._average is not None:
            self._average.update_parameters(self.model)
        tally.add_step(loss_sum, norm)
        return loss_sum

    def state(self) -> dict[str, Tensor]:
        """State beside the weights of `kept`: named tensors."""
        tensors = self._optimizer.state()
        for name, value in self._items.state().items():
            tensors[f"{ITEMS}.{name}"] = value
        if self._average is not None:
            tensors[f"{AVERAGE}.steps"] = self._average.n_averaged
            for name, value in self.model.state_dict().items():
                tensors[f"{LAST}.{name}"] = value
        return tensors

    def restore(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Go on from the weights of `kept` and a `state`."""
        by_prefix: dict[str, dict[str, Any]] = {}
        for key, value in state.items():
            prefix, name = key.split(".", 1)
            by_prefix.setdefault(prefix, {})[name] = value
        self.kept.load_state_dict(weights)
        if self._average is not None:
            self._average.n_averaged.copy_(by_prefix.pop(AVERAGE)["steps"])
            self.model.load_state_dict(by_prefix.pop(LAST))
        self._items.load_state(by_prefix.pop(ITEMS, {}))
        dense = {key: value for key, value in state.items() if key[0].isdigit()}
        self._optimizer.load_state(dense)

    def _backward(
        self, batch: Batch, shared: SharedNegatives | None, position: Position, scale: float
    ) -> Tensor:
        """Add the gradients of a batch times a scale; this worker's sum of losses."""
        batch, common = self._items.begin(batch, shared)
        common |= self._feature_inputs(position)
        loss_sum = torch.zeros((), device=self._device)
        *first, last = split_batch(batch, self._train.micro_batches)
        for piece in first:
            with self._without_reduction():
                loss_sum += self._backward_piece(piece, common, scale)
        return loss_sum + self._backward_piece(last, common, scale)

    def _feature_inputs(self, position: Position) -> dict[str, Tensor]:
        """Inputs of the objective about the step's items, where these have features."""
        features = self.model.item_features
        if features is None:
            return {}
        rows, described = self._items.rows, features.arrays.is_described
        item_ids = np.arange(len(described)) if rows is None else rows
        keeps_id = kept_ids(
            self._train.seed,
            position.epoch,
            position.step,
            item_ids,
            described,
            self._train.id_dropout_prob,
        )
        found = {"keeps_id": to_device(keeps_id, self._device)}
        if rows is not None:
            found["item_rows"] = to_device(rows, self._device)
        return found

    def _backward_piece(self, batch: Batch, common: dict[str, Tensor], scale: float) -> Tensor:
        inputs = dict(common)
        for field in fields(batch):
            array = getattr(batch, field.name)
            if array is not None:
                inputs[field.name] = to_device(array, self._device)
        is_rounded = self._train.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=is_rounded):
            loss_sum: Tensor = self._objective(**inputs)
        (loss_sum * scale).backward()  # type: ignore[no-untyped-call]
        return loss_sum.detach()

    def _without_reduction(self) -> AbstractContextManager[None]:
        if isinstance(self._objective, DistributedDataParallel):
            return self._objective.no_sync()
        return nullcontext()


def _seed(seed: int, position: Position, device: torch.device) -> None:
    """Let workers draw different dropout masks, and the same ones when a step is repeated."""
    words = [seed, position.epoch, position.step, collectives.rank()]
    word = int(np.random.SeedSequence(words).generate_state(1)[0])
    torch.default_generator.manual_seed(word)  # a tenth of what torch.manual_seed takes
    if device.type == "cuda":
        torch.cuda.manual_seed(word)


def _begin_average(config: RunConfig, model: LightSANs, by_rows: bool) -> AveragedModel | None:
    decay = config.train.ema_decay
    if decay is None:
        return None
    if by_rows:
        raise ConfigError(
            f"train.ema_decay={decay} averages all item vectors in every step, and "
            f"model.loss_type={config.model.loss_type} is there to leave most of them "
            "alone; set train.ema_decay to null, or model.loss_type to CE"
        )
    return moving_average(model, decay)


def _compile(model: LightSANs) -> None:
    reason = compile_layers(model)
    if reason is not None:
        warnings.warn(
            f"train.compile is set, but the layers cannot be compiled here ({reason}); "
            "training goes on uncompiled",
            stacklevel=4,
        )
