"""Shapes: B sequences, L positions, K interests, J = 2 K, N heads, H head size."""

import pytest
import torch
from torch import Tensor

from lightsans.model import causal
from lightsans.model.causal import causal_item_context
from tests.oracle import item_context, require_exact_item_context

B, K, N, H = 3, 4, 2, 5


def no_dropout(x: Tensor) -> Tensor:
    return x


def require_exact(logits: Tensor) -> None:
    torch.manual_seed(1)
    q, k, v = torch.randn(3, len(logits), N, logits.shape[1], H)
    require_exact_item_context(q, k, v, logits)


def projections(length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values and pooling logits."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, B, N, length, H)
    return q, k, v, torch.randn(B, length, 2 * K)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 150])
def test_the_causal_item_branch_equals_a_softmax_over_each_prefix(length):
    torch.manual_seed(length)
    require_exact(torch.randn(2, length, 2 * K) * 3)


@pytest.mark.parametrize("value", [-1000.0, -100.0, 100.0, 1000.0])
@pytest.mark.parametrize("position", [0, 5, 63, 64, 99])
def test_an_extreme_logit_anywhere_changes_neither_values_nor_gradients(value, position):
    torch.manual_seed(0)
    logits = torch.randn(1, 100, 2 * K)
    logits[:, position, ::2] = value
    require_exact(logits)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


@pytest.mark.parametrize("value", [-1000.0, -100.0, 0.0, 100.0, 1000.0])
@pytest.mark.parametrize("position", [0, 99])
def test_bfloat16_products_keep_float32_sums_whatever_the_logits(value, position):
    """Under autocast q, k and v are bfloat16, whose neighbours are 2^-8 apart; logits are not."""
    torch.manual_seed(0)
    logits = torch.randn(1, 100, 2 * K)
    logits[:, position, ::2] = value
    q, k, v = torch.randn(3, 1, 1, 100, H).bfloat16()
    ours = [x.clone().requires_grad_() for x in (q, k, v, logits)]
    exact = [x.double().requires_grad_() for x in (q[0, 0], k[0, 0], v[0, 0], logits[0])]
    with torch.autocast("cpu", torch.bfloat16):
        out = causal_item_context(ours[0], ours[1], ours[2], ours[3], no_dropout)[0, 0]
    expected = item_context(*exact)
    assert relative_error(out, expected) < 0.02
    direction = torch.randn_like(expected)
    out.backward(direction.to(out.dtype))
    expected.backward(direction)
    for x, y in zip(ours, exact, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        assert relative_error(x.grad.view_as(y), y.grad) < 0.05


@pytest.mark.parametrize("scale", [20.0, 100.0, 1000.0])
def test_widely_spread_logits_are_exact(scale):
    torch.manual_seed(0)
    require_exact(torch.randn(2, 90, 2 * K) * scale)


@pytest.mark.parametrize("rise", [-70.0, -59.0, 30.0, 59.0, 61.0, 120.0])
def test_logits_may_rise_or_fall_steadily(rise):
    """The largest rise that one exponential per item is used for, and more."""
    slope = torch.linspace(0, rise, causal.CHUNK)
    require_exact(slope[None, :, None] + torch.rand(1, causal.CHUNK, 2 * K))


def numbers_for_backward(length: int) -> int:
    """How many numbers the item branch keeps for its backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    q, k, v, logits = (t.detach().requires_grad_() for t in projections(length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = causal_item_context(q, k, v, logits, no_dropout)
    assert out.shape == (B, N, length, H)
    return sum(kept.values())


def test_the_memory_of_the_item_branch_is_linear_in_the_length():
    """To 4,096 positions; a matrix of them would be 16 times as large as that of 1,024."""
    short, long = numbers_for_backward(1024), numbers_for_backward(4096)
    assert 3.5 < long / short < 4.5


def test_both_ways_of_weighting_items_give_the_same_numbers(monkeypatch):
    given = projections(100)
    one_per_item = causal_item_context(*given, no_dropout)
    monkeypatch.setattr(causal, "MAX_RISE", -1.0)
    one_per_pair = causal_item_context(*given, no_dropout)
    torch.testing.assert_close(one_per_pair, one_per_item)


def test_only_steep_chunks_are_weighted_pair_by_pair():
    logits = torch.zeros(1, 200, 2)
    assert causal._plan_chunks(logits) == ([64, 64, 64, 8], [True] * 4)
    logits[0, 70] = 100.0
    assert causal._plan_chunks(logits) == ([64, 16, 64, 56], [True, False, True, True])
