"""Shapes: B sequences, L positions, K interests, J = 2 K, N heads, H head size, D = N * H."""

import pytest
import torch
from torch import Tensor

from lightsans.model import attention, causal
from lightsans.model.attention import (
    HeadMap,
    Positions,
    Projected,
    Unmapped,
    causal_weights,
    newest_context,
    position_logits,
)
from lightsans.model.causal import Dropout, causal_item_context
from tests.oracle import item_context

B, L, K, N, H = 3, 7, 4, 2, 5
D = N * H


def no_dropout(x: Tensor) -> Tensor:
    return x


def causal_context(x: Unmapped, dropout: Dropout) -> Tensor:
    return attention.causal_context(mapped(with_matrix(x, "causal")), dropout)


def masked_context(x: Unmapped, is_item: Tensor, dropout: Dropout) -> Tensor:
    return attention.masked_context(with_matrix(x, "masked"), is_item, dropout)


def reference_context(x: Unmapped, newest: Tensor | None, dropout: Dropout) -> Tensor:
    return attention.reference_context(with_matrix(x, "reference"), newest, dropout)


def unmapped(*, length: int = L, seed: int = 0) -> Unmapped:
    torch.manual_seed(seed)
    q, k, v = (HeadMap(torch.randn(N, H, D) / D**0.5, torch.randn(N, H)) for _ in range(3))
    logits = torch.randn(B, length, 2 * K)
    nothing = torch.zeros(N, length, H)
    x = Unmapped(torch.randn(B, length, D), logits, q, k, v, Positions(nothing, nothing, []))
    return with_positions(x, torch.randn(N, length, H), torch.randn(N, length, H))


def mapped(x: Unmapped) -> Projected:
    q, k, v = (maps.by_head(x.x).transpose(1, 2) for maps in (x.query, x.key, x.value))
    return Projected(q, k, v, x.logits, x.positions)


def with_positions(x: Unmapped, position_q: Tensor, position_k: Tensor) -> Unmapped:
    return x._replace(positions=Positions(position_q, position_k, []))


def with_matrix(x: Unmapped, kind: str) -> Unmapped:
    q, k, _ = x.positions
    logits = position_logits(q, k)
    matrix = {"masked": [logits], "reference": [logits.softmax(dim=1)]}
    return x._replace(positions=Positions(q, k, matrix.get(kind) or causal_weights(q, k)))


def with_padding(x: Unmapped, lengths: Tensor) -> tuple[Unmapped, Tensor]:
    is_item = torch.arange(x.logits.shape[1]) < lengths.unsqueeze(1)
    return x._replace(logits=x.logits.masked_fill(~is_item.unsqueeze(-1), -torch.inf)), is_item


def with_value(x: Unmapped, value: float) -> Unmapped:
    """Every item has the same value, whatever its vector."""
    return x._replace(value=HeadMap(torch.zeros(N, H, D), torch.full((N, H), value)))


def compare_with_oracle(logits: Tensor) -> None:
    """Forward and all gradients of the causal item branch against float64, prefix by prefix."""
    torch.manual_seed(1)
    q, k, v = torch.randn(3, len(logits), N, logits.shape[1], H)
    ours = [x.clone().requires_grad_() for x in (q, k, v, logits)]
    exact = [x.double().requires_grad_() for x in (q, k, v, logits)]
    out = causal_item_context(ours[0], ours[1], ours[2], ours[3], no_dropout)
    rows = [
        torch.stack(
            [
                item_context(exact[0][b, n], exact[1][b, n], exact[2][b, n], exact[3][b])
                for n in range(N)
            ]
        )
        for b in range(len(logits))
    ]
    expected = torch.stack(rows)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(out)
    out.backward(direction)
    expected.backward(direction.double())
    for x, y in zip(ours, exact, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 150])
def test_the_causal_item_branch_equals_a_softmax_over_each_prefix(length):
    torch.manual_seed(length)
    compare_with_oracle(torch.randn(2, length, 2 * K) * 3)


@pytest.mark.parametrize("value", [-1000.0, -100.0, 100.0, 1000.0])
@pytest.mark.parametrize("position", [0, 5, 63, 64, 99])
def test_an_extreme_logit_anywhere_changes_neither_values_nor_gradients(value, position):
    torch.manual_seed(0)
    logits = torch.randn(1, 100, 2 * K)
    logits[:, position, ::2] = value
    compare_with_oracle(logits)


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
    compare_with_oracle(torch.randn(2, 90, 2 * K) * scale)


@pytest.mark.parametrize("rise", [-70.0, -59.0, 30.0, 59.0, 61.0, 120.0])
def test_logits_may_rise_or_fall_steadily(rise):
    """The largest rise that one exponential per item is used for, and more."""
    slope = torch.linspace(0, rise, causal.CHUNK)
    compare_with_oracle(slope[None, :, None] + torch.rand(1, causal.CHUNK, 2 * K))


def numbers_for_backward(length: int) -> int:
    """How many numbers the item branch keeps for its backward pass."""
    x = mapped(unmapped(length=length))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    q, k, v, logits = (t.detach().requires_grad_() for t in (x.q, x.k, x.v, x.logits))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = causal_item_context(q, k, v, logits, no_dropout)
    assert out.shape == (B, N, length, H)
    return sum(kept.values())


def test_the_memory_of_the_item_branch_is_linear_in_the_length():
    """To 4,096 positions; a matrix of them would be 16 times as large as that of 1,024."""
    short, long = numbers_for_backward(1024), numbers_for_backward(4096)
    assert 3.5 < long / short < 4.5


@pytest.mark.parametrize("length", [1, 128, 129, 300])
def test_blocks_of_position_weights_are_the_causal_half_of_the_matrix(length):
    q, k = torch.randn(2, N, length, H)
    is_later = torch.ones(length, length, dtype=torch.bool).triu(1)
    whole = position_logits(q, k).masked_fill(is_later, -torch.inf).softmax(-1)
    blocks = causal_weights(q, k)
    size = attention.POSITION_BLOCK
    for i, block in enumerate(blocks):
        end = min((i + 1) * size, length)
        torch.testing.assert_close(block, whole[:, i * size : end, :end])
    assert sum(block.shape[1] for block in blocks) == length
    v = torch.randn(B, N, length, H)
    torch.testing.assert_close(attention.read_positions(blocks, v), whole @ v)
    for shorter in {1, length // 2 + 1, length}:
        first = Positions(q, k, blocks).first(shorter)
        read = attention.read_positions(first.matrix, v[:, :, :shorter])
        torch.testing.assert_close(read, whole[:, :shorter, :shorter] @ v[:, :, :shorter])


def test_both_ways_of_weighting_items_give_the_same_numbers(monkeypatch):
    x = mapped(unmapped(length=100))
    one_per_item = causal_item_context(x.q, x.k, x.v, x.logits, no_dropout)
    monkeypatch.setattr(causal, "MAX_RISE", -1.0)
    one_per_pair = causal_item_context(x.q, x.k, x.v, x.logits, no_dropout)
    torch.testing.assert_close(one_per_pair, one_per_item)


def test_only_steep_chunks_are_weighted_pair_by_pair():
    logits = torch.zeros(1, 200, 2)
    assert causal._plan_chunks(logits) == ([64, 64, 64, 8], [True] * 4)
    logits[0, 70] = 100.0
    assert causal._plan_chunks(logits) == ([64, 16, 64, 56], [True, False, True, True])


def test_a_position_of_a_masked_sequence_reads_a_mean_of_values_twice():
    """Equal values in: the item branch gives that value, and so does the position branch."""
    x, is_item = with_padding(with_value(unmapped(), 7.0), torch.tensor([7, 3, 1]))
    torch.testing.assert_close(masked_context(x, is_item, no_dropout), torch.full((B, L, D), 14.0))


def test_the_causal_branches_read_means_too():
    x = with_value(unmapped(), 7.0)
    torch.testing.assert_close(causal_context(x, no_dropout), torch.full((B, L, D), 14.0))


def test_the_reference_normalises_over_query_positions():
    """Each of K interests and L keys spreads a weight of one over the queries: K + L in all."""
    total = reference_context(with_value(unmapped(), 7.0), None, no_dropout).sum(dim=1)
    torch.testing.assert_close(total, torch.full((B, D), 7.0 * (K + L)))


def test_position_logits_are_scaled_twice():
    q = torch.full((1, 1, 8), 2.0)  # H = 8: 8 * 2 * 3 / sqrt(16) / sqrt(8)
    torch.testing.assert_close(position_logits(q, q * 1.5), torch.tensor([[[48 / 4 / 8**0.5]]]))


def test_the_reference_at_one_position_is_that_row_of_all():
    x, newest = unmapped(), torch.tensor([0, 6, 3])
    rows = reference_context(x, None, no_dropout)[torch.arange(B), newest].unsqueeze(1)
    torch.testing.assert_close(reference_context(x, newest, no_dropout), rows)


def test_the_newest_position_is_that_row_of_masked_and_of_causal_attention():
    lengths = torch.tensor([7, 4, 1])
    x, is_item = with_padding(unmapped(), lengths)
    newest = newest_context(x, is_item, lengths - 1, no_dropout)
    for whole in (masked_context(x, is_item, no_dropout), causal_context(x, no_dropout)):
        rows = whole[torch.arange(B), lengths - 1].unsqueeze(1)
        torch.testing.assert_close(newest, rows)


def test_causal_attention_is_masked_attention_on_every_prefix():
    x = unmapped()
    whole = causal_context(x, no_dropout)
    for t in range(L):
        prefix, is_item = with_padding(x, torch.full((B,), t + 1))
        masked = masked_context(prefix, is_item, no_dropout)
        torch.testing.assert_close(whole[:, t], masked[:, t])


@pytest.mark.parametrize("spread", [10.0, 200.0])
def test_position_weights_of_short_sequences_survive_a_far_larger_later_logit(spread):
    """Key 4 outweighs all others; sequences that end before it must not feel it."""
    torch.manual_seed(0)
    logits = torch.randn(N, L, L)
    logits[:, :, 4] += spread
    v = torch.randn(B, N, L, H)
    is_item = torch.arange(L) < torch.tensor([[7], [4], [1]])
    weights = logits.masked_fill(~is_item[:, None, None, :], -torch.inf).softmax(-1)
    ours = attention._read_masked_positions(logits, v, is_item)
    torch.testing.assert_close(ours, weights @ v)


def test_dropout_is_applied_to_the_probabilities_over_interests():
    """With all of them dropped, only the position branch is left."""
    x, is_item = with_padding(unmapped(), torch.full((B,), L))
    equal = torch.zeros_like(x.positions.q)
    still = with_positions(x, equal, equal)
    values_BLD = x.value.by_head(x.x).flatten(2)
    mean = values_BLD.mean(dim=1, keepdim=True).expand(-1, L, -1)
    torch.testing.assert_close(masked_context(still, is_item, torch.zeros_like), mean)
    so_far = values_BLD.cumsum(dim=1) / torch.arange(1, L + 1).view(L, 1)
    torch.testing.assert_close(causal_context(still, torch.zeros_like), so_far)
    torch.testing.assert_close(reference_context(still, None, torch.zeros_like), mean)
