"""Updates of the item table: with all other parameters, or by the rows of each step alone.

A training step does not know which: it asks an `ItemUpdates` for the inputs of the objective, for
the gradients that are summed nowhere else over workers, and to update its parameters.

Shapes: R distinct ids of a step   D hidden size
"""

from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Array, Ids, Int64
from lightsans.config import TrainConfig
from lightsans.losses.negatives import SharedNegatives
from lightsans.model.network import LightSANs
from lightsans.training import collectives
from lightsans.training.batches import Batch
from lightsans.training.lazy_adam import RowAdam, renumber


class StepInputs(NamedTuple):
    """Inputs of the objective in one step."""

    batch: Batch
    common: dict[str, Tensor]
    """Inputs that all micro-batches share, by the name of the objective's argument."""


class ItemUpdates(Protocol):
    """The item table's part of a training step."""

    rows: Int64 | None
    """(R,) items of the step that was begun last, whose vectors are inputs; None for all."""

    def begin(self, batch: Batch, shared: SharedNegatives | None) -> StepInputs:
        """Make the inputs of a step from a batch and the negatives that its targets share."""

    def gradients(self) -> list[Tensor]:
        """Gradients of what `update` changes, averaged over workers; a collective."""

    def update(self, learning_rate: float) -> None:
        """Take the step, with the gradients given out last."""

    def state(self) -> dict[str, Tensor]:
        """State of the optimizer of what `update` changes: named tensors."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`."""


class DenseItems:
    """The item table is averaged and updated with all other parameters."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.rows: Int64 | None = None

    def begin(self, batch: Batch, shared: SharedNegatives | None) -> StepInputs:
        """Inputs with the ids of the table."""
        if shared is None:
            return StepInputs(batch, {})
        return StepInputs(batch, _shared_inputs(shared, shared.item_ids, self._device))

    def gradients(self) -> list[Tensor]:
        """Nothing: they are among those of all other parameters."""
        return []

    def update(self, learning_rate: float) -> None:
        """Nothing: the optimizer has done it."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing."""


class RowItems:
    """Each step gathers the rows of its items and updates these rows alone.

    Takes the item table away from the optimizer of all other parameters and from DDP: to be made
    before them.

    Args:
        model: The model; its table gets the precision ``train.table_precision``.
        train: ``table_precision``, ``learning_rate`` and ``seed`` matter here.
        device: Where to train.
    """

    def __init__(self, model: LightSANs, train: TrainConfig, device: torch.device) -> None:
        table = model.item_embedding
        if train.table_precision == "bf16":
            table.to(torch.bfloat16)
        table.requires_grad_(False)
        self._adam = RowAdam(table.weight, train.learning_rate, train.seed)
        self._device = device
        self.rows: Int64 | None = None
        self._rows_R = self._vectors_RD = self._grad_RD = torch.empty(0)

    def begin(self, batch: Batch, shared: SharedNegatives | None) -> StepInputs:
        """Inputs whose ids number the rows of this step, and the vectors of these rows."""
        negative_ids = batch.negative_ids if shared is None else shared.item_ids
        arrays: list[Ids] = [batch.item_ids, batch.target_ids]
        if negative_ids is not None:
            arrays.append(negative_ids)
        numbered = renumber(*arrays)
        item_ids, target_ids, *negatives = (p.astype(np.int32) for p in numbered.positions)
        self.rows = numbered.rows
        self._rows_R = to_device(numbered.rows, self._device)
        self._vectors_RD = self._adam.take(self._rows_R).requires_grad_()
        common = {"item_vectors": self._vectors_RD}
        own = negatives[0] if negatives else None
        if shared is not None:
            assert own is not None
            common |= _shared_inputs(shared, own, self._device)
            own = None
        numbered_batch = replace(batch, item_ids=item_ids, target_ids=target_ids, negative_ids=own)
        return StepInputs(numbered_batch, common)

    def gradients(self) -> list[Tensor]:
        """Gradients of the rows of all workers."""
        assert self._vectors_RD.grad is not None
        # Padding comes first, and is no row to train.
        rows_R, grad_RD = collectives.sum_rows(self._rows_R[1:], self._vectors_RD.grad[1:])
        self._rows_R, self._grad_RD = rows_R, grad_RD.div_(collectives.world_size())
        return [self._grad_RD]

    def update(self, learning_rate: float) -> None:
        """Update the rows of the step."""
        self._adam.learning_rate = learning_rate
        self._adam.step(self._rows_R, self._grad_RD)

    def state(self) -> dict[str, Tensor]:
        """Moments of all rows."""
        return self._adam.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`."""
        self._adam.load_state(state)


def to_device(array: Array, device: torch.device) -> Tensor:
    """An array as a tensor on a device; the host does not wait for a copy to a GPU."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":  # from pinned memory the host does not wait
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _shared_inputs(
    shared: SharedNegatives, negative_ids: Array, device: torch.device
) -> dict[str, Tensor]:
    return {
        "negative_ids": to_device(negative_ids, device),
        "log_expected": to_device(shared.log_expected, device),
    }
