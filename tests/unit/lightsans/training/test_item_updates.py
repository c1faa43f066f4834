"""A step of the item table: the inputs of the objective, and which rows change."""

import numpy as np
import pytest
import torch

from lightsans.config import TrainConfig
from lightsans.losses.negatives import SharedNegatives
from lightsans.training.batches import Batch
from lightsans.training.item_updates import DenseItems, RowItems
from tests.models import small_model

CPU = torch.device("cpu")


def batch(negative_ids: np.ndarray | None = None) -> Batch:
    return Batch(
        np.array([[3, 7, 0]], np.int32),
        np.array([2]),
        np.array([[7, 5, 0]], np.int32),
        negative_ids,
    )


def shared() -> SharedNegatives:
    return SharedNegatives(np.array([5, 8]), np.zeros(2, np.float32))


def test_dense_items_leave_batch_gradients_and_state_alone():
    items, given = DenseItems(CPU), batch()
    assert items.begin(given, None) == (given, {})
    assert list(items.begin(batch(), shared()).common["negative_ids"]) == [5, 8]
    assert items.gradients() == []
    assert items.state() == {}


def test_rows_are_numbered_from_padding_and_hold_their_vectors():
    trained = small_model(9)
    table = trained.item_embedding.weight.detach().clone()
    numbered, common = RowItems(trained, TrainConfig(), CPU).begin(batch(), shared())
    rows = torch.tensor([0, 3, 5, 7, 8])
    assert torch.equal(common["item_vectors"], table[rows])
    assert rows[torch.from_numpy(numbered.item_ids)].tolist() == [[3, 7, 0]]
    assert rows[torch.from_numpy(numbered.target_ids)].tolist() == [[7, 5, 0]]
    assert rows[common["negative_ids"]].tolist() == [5, 8]
    assert numbered.negative_ids is None


def test_negatives_of_each_target_stay_with_their_batch():
    drawn = np.array([[9, 1, 0]], np.int32)
    numbered, common = RowItems(small_model(9), TrainConfig(), CPU).begin(batch(drawn), None)
    rows = torch.tensor([0, 1, 3, 5, 7, 9])
    assert numbered.negative_ids is not None
    assert rows[torch.from_numpy(numbered.negative_ids)].tolist() == [[9, 1, 0]]
    assert common.keys() == {"item_vectors"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_changes_the_rows_of_its_items_alone(precision):
    trained = small_model(9)
    items = RowItems(trained, TrainConfig(table_precision=precision), CPU)
    before = trained.item_embedding.weight.detach().clone()
    _, common = items.begin(batch(), None)
    common["item_vectors"].sum().backward()
    (gradient,) = items.gradients()
    assert gradient.shape == (3, 8)  # items 3, 5 and 7: padding is not trained
    items.update(learning_rate=0.1)
    changed = (trained.item_embedding.weight != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [3, 5, 7]
    assert not trained.item_embedding.weight.requires_grad
