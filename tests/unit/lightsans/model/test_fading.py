"""Positions that read means that fade, against a matrix of all pairs in float64."""

import pytest
import torch
from torch import Tensor

from lightsans.model.causal import CHUNK, SAFE_CHUNK
from lightsans.model.fading import FadingPositions

N, M, H = 2, 3, 4
LENGTHS = [1, SAFE_CHUNK, SAFE_CHUNK + 1, CHUNK, CHUNK + 1, 150]
LONG = 10**4
"""Ages by which nothing is left, and whose exponentials no float32 holds."""


def matrix(logits_BLM: Tensor, mix_NM: Tensor) -> Tensor:
    """Weights of each position (rows) for itself and each earlier one, (B, N, L, L)."""
    length = logits_BLM.shape[1]
    is_later = torch.ones(length, length, dtype=torch.bool).triu(1).unsqueeze(-1)
    each = logits_BLM.unsqueeze(1).masked_fill(is_later, -torch.inf).softmax(dim=2)
    return torch.einsum("nm,btsm->bnts", mix_NM, each)


def draw(batch: int, length: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a clock that never falls, a mixture, and values, in float64 with gradients."""
    clock = (step * torch.rand(batch, length, 1, dtype=torch.float64)).round(decimals=2).cumsum(1)
    rates = torch.tensor([0.003, 0.2, 3.0], dtype=torch.float64)
    mix = torch.rand(N, M, dtype=torch.float64).softmax(dim=-1)
    values = torch.randn(3, N, length, H, dtype=torch.float64)
    return (clock * rates).requires_grad_(), mix.requires_grad_(), values.requires_grad_()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("batch", [1, 3], ids=["one clock", "a clock each"])
@pytest.mark.parametrize("step", [0.01, 1.0, LONG])
def test_chunks_equal_the_matrix_of_all_pairs_in_values_and_gradients(length, batch, step):
    exact = draw(batch, length, step)
    ours = [x.detach().float().requires_grad_() for x in exact]
    out = FadingPositions(ours[0], ours[1]).every_prefix(ours[2])
    expected = matrix(exact[0], exact[1]) @ exact[2]
    tolerance = 2e-3 if step == LONG else 1e-4  # float32 tells large logits apart less well
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    direction = torch.randn_like(expected)
    out.backward(direction.float())
    expected.backward(direction)
    for x, y in zip(ours, exact, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        assert bool(x.grad.isfinite().all())
        torch.testing.assert_close(x.grad.double(), y.grad, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_newest_position_reads_its_own_row(batch):
    logits, mix, values = (x.detach().float() for x in draw(batch, 70, 1.0))
    positions = FadingPositions(logits, mix)
    newest = torch.tensor([69, 40, 0])
    is_item = torch.arange(70) <= newest.unsqueeze(1)
    weights = positions.newest(newest, is_item)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, N))
    assert not weights[1, :, 41:].any()
    read = torch.einsum("bnl,bnlh->bnh", weights, values)
    every = positions.every_prefix(values)
    torch.testing.assert_close(read, every[torch.arange(3), :, newest])
    whole = positions.whole(values, is_item)
    torch.testing.assert_close(whole, read.unsqueeze(2).expand_as(whole))


def test_memory_is_linear_in_the_length():
    kept = []
    for length in (512, 1024):
        logits, mix, values = (x.detach().float().requires_grad_() for x in draw(1, length, 1.0))
        sizes: list[int] = []

        def keep(saved: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(saved.numel())
            return saved

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            FadingPositions(logits, mix).every_prefix(values)
        kept.append(sum(sizes))
    assert kept[1] < 2.1 * kept[0]
