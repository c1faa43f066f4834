"""Shapes: V rows of a table   R rows of a step   D hidden size."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightsans import ConfigError
from lightsans.config import RunConfig
from lightsans.dataset.sequences import UserSequences
from lightsans.training.lazy_adam import RowAdam, renumber, round_stochastically
from lightsans.training.trainer import Trainer
from tests.factories import sequences_of
from tests.models import WITHOUT_DROPOUT, small_config, small_run

V, D = 40, 6


def gradient_of(step: int) -> Tensor:
    return torch.randn(V, D, generator=torch.Generator().manual_seed(step))


def test_ids_are_numbered_by_their_distinct_values_and_padding_stays_0():
    rows, positions = renumber(np.array([[7, 3], [7, 0]]), np.array([9, 3]), np.array([], np.int32))
    assert rows.tolist() == [0, 3, 7, 9]
    assert positions[0].tolist() == [[2, 1], [2, 0]]
    assert positions[1].tolist() == [3, 1]
    assert positions[2].shape == (0,)
    assert renumber(np.array([5]))[0].tolist() == [0, 5]


def test_with_every_row_in_every_step_it_is_adam():
    start = torch.randn(V, D)
    table, parameter = start.clone(), torch.nn.Parameter(start.clone())
    ours, adam = RowAdam(table, 0.01), torch.optim.Adam([parameter], lr=0.01)
    for step in range(30):
        parameter.grad = gradient_of(step)
        adam.step()
        ours.step(torch.arange(V), gradient_of(step))
    torch.testing.assert_close(table, parameter.detach(), rtol=1e-5, atol=1e-6)


def test_with_some_rows_it_is_pytorchs_sparse_adam():
    start = torch.randn(V, D)
    table, parameter = start.clone(), torch.nn.Parameter(start.clone())
    ours, sparse = RowAdam(table, 0.01), torch.optim.SparseAdam([parameter], lr=0.01)
    for step in range(30):
        rows = torch.randperm(V)[:7].sort().values
        grad = gradient_of(step)[rows]
        parameter.grad = torch.sparse_coo_tensor(
            rows.unsqueeze(0), grad, (V, D), check_invariants=True
        )
        sparse.step()
        ours.step(rows, grad)
    torch.testing.assert_close(table, parameter.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_are_not_met_neither_move_nor_decay(dtype):
    table = torch.randn(V, D).to(dtype)
    ours = RowAdam(table, 0.01)
    ours.step(torch.tensor([1, 2]), torch.ones(2, D))
    before = table.clone(), {name: value.clone() for name, value in ours.state().items()}
    for _ in range(5):
        ours.step(torch.tensor([2, 3]), torch.ones(2, D))
    others = [v for v in range(V) if v not in (2, 3)]
    assert torch.equal(table[others], before[0][others])
    assert not torch.equal(table[2:4], before[0][2:4])
    for name in ("mean", "square"):
        assert torch.equal(ours.state()[name][others], before[1][name][others])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_optimizer_goes_on_with_the_same_bits(dtype):
    table = torch.randn(V, D).to(dtype)
    first = RowAdam(table, 0.01, seed=4)
    for step in range(3):
        first.step(torch.arange(1, 9), gradient_of(step)[1:9])
    copy = table.clone()
    second = RowAdam(copy, 0.01, seed=4)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for optimizer in (first, second):
        optimizer.step(torch.arange(5, 12), gradient_of(9)[5:12])
    assert torch.equal(copy, table)
    for name, value in first.state().items():
        assert torch.equal(second.state()[name], value)


def test_stochastic_rounding_takes_a_neighbour_and_is_right_on_average():
    """1 + 2^-9 lies a quarter of the way from 1 to the next bfloat16, 1 + 2^-7."""
    generator = torch.Generator().manual_seed(0)
    for sign in (1.0, -1.0):
        drawn = round_stochastically(torch.full((20_000,), sign * (1 + 2**-9)), generator)
        assert drawn.dtype == torch.bfloat16
        assert set((drawn.float() * sign).tolist()) == {1.0, 1 + 2**-7}
        assert (drawn.float() * sign).mean().item() == pytest.approx(1 + 2**-9, abs=1e-4)
    exact = torch.tensor([0.0, -0.5, 3.0, torch.inf, -torch.inf])
    assert torch.equal(round_stochastically(exact, generator).float(), exact)
    assert round_stochastically(torch.tensor([torch.nan]), generator).isnan().all()


def test_updates_too_small_for_bfloat16_add_up():
    """300 steps of 1e-5 away from 1, whose neighbours are 4e-3 away."""
    table = torch.ones(2000, 1, dtype=torch.bfloat16)
    ours = RowAdam(table, 1e-5)
    for _ in range(300):
        ours.step(torch.arange(2000), torch.ones(2000, 1))
    assert table.float().mean().item() == pytest.approx(1 - 300e-5, abs=5e-4)


def settings(loss_type="sampled_softmax", attention="causal", **train) -> RunConfig:
    sizes = {"n_layers": 1, "k_interests": 2, "num_negatives": 4}
    model = small_config(attention=attention, loss_type=loss_type, **sizes, **WITHOUT_DROPOUT)
    return small_run(model, **{"batch_size": 3, "learning_rate": 0.02, **train})


def two_users() -> dict[int, UserSequences]:
    return {0: sequences_of([3, 9, 4, 3, 7, 5], [9, 4, 6, 3, 8, 7])}


def make_trainer(config: RunConfig, num_items=30) -> Trainer:
    return Trainer(config, num_items, two_users(), torch.device("cpu"))


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that anything made by an operation holds."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, list | tuple) else [out]:
            if isinstance(value, Tensor) and (
                value.untyped_storage().data_ptr() not in self._known
            ):
                self.numbers = max(self.numbers, value.numel())
        return out


@pytest.mark.parametrize("loss_type", ["sampled_softmax", "gBCE", "BPR"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_operation_of_a_step_makes_anything_as_large_as_the_catalogue(loss_type, precision):
    trainer = make_trainer(settings(loss_type, table_precision=precision), num_items=100_000)
    state = trainer.state()
    known = [trainer.model.item_table(), state["items.mean"], state["items.square"]]
    with LargestTensor(known) as largest:
        trainer._train_epoch(0, None)
    assert 100 < largest.numbers < 10_000


def test_items_that_no_step_meets_keep_their_vectors_and_padding_stays_zero():
    trainer = make_trainer(settings("BPR"), num_items=1000)
    before = trainer.model.item_table().clone()
    trainer.run_epoch()
    moved = (trainer.model.item_table() != before).any(dim=1).nonzero().flatten().tolist()
    assert {3, 4, 6, 9} <= set(moved)  # without the two interactions that each user holds out
    assert 0 not in moved
    assert len(moved) < 30
    assert not trainer.model.item_table()[0].any()


def test_a_table_of_bfloat16_is_ranked_in_float32():
    trainer = make_trainer(settings(table_precision="bf16"))
    model = trainer.model
    assert model.item_table().dtype == torch.bfloat16
    ids, lengths = torch.tensor([[3, 9, 4]]), torch.tensor([3])
    expected = model.encode(ids, lengths) @ model.item_table().float().t()
    scores = model.score_items(ids, lengths)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores[:, 1:], expected[:, 1:])


@pytest.mark.parametrize(("loss", "attention"), [("CE", "causal"), ("BPR", "reference")])
def test_a_rounded_table_is_refused_where_every_item_moves_in_every_step(loss, attention):
    with pytest.raises(ConfigError, match=rf"table_precision=bf16 .* model\.loss_type={loss} with"):
        settings(loss, attention, table_precision="bf16")


def test_where_auto_turns_out_to_be_cross_entropy_the_table_stays_float32():
    trainer = make_trainer(settings("auto", table_precision="bf16"))
    assert trainer.model.config.loss_type == "CE"
    assert trainer.model.item_table().dtype == torch.float32
    assert trainer.run_epoch().loss > 0
