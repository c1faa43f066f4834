"""Shapes: B sequences, L positions, K interests, J = 2 K, N heads, H head size, D = N * H."""

import pytest
import torch
from torch import Tensor

from lightsans.config.kinds import Attention
from lightsans.model import attention
from lightsans.model.attention import (
    AbsoluteLogits,
    HeadMap,
    Positions,
    Projected,
    RelativeLogits,
    Unmapped,
    causal_weights,
    newest_context,
    position_divisors,
)
from lightsans.model.causal import Dropout
from lightsans.model.kinds import CODE

B, L, K, N, H = 3, 7, 4, 2, 5
D = N * H


def no_dropout(x: Tensor) -> Tensor:
    return x


def scaled_twice(q: Tensor, k: Tensor) -> AbsoluteLogits:
    return AbsoluteLogits(q, k, position_divisors(q.shape[-1], is_scaled_twice=True))


def position_logits(q: Tensor, k: Tensor) -> Tensor:
    return scaled_twice(q, k).block(0, q.shape[1], k.shape[1])


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
    nothing = Positions(RelativeLogits(torch.zeros(N, length), length), [])
    x = Unmapped(torch.randn(B, length, D), logits, q, k, v, nothing)
    return with_positions(x, torch.randn(N, length, H), torch.randn(N, length, H))


def mapped(x: Unmapped) -> Projected:
    q, k, v = (maps.by_head(x.x).transpose(1, 2) for maps in (x.query, x.key, x.value))
    return Projected(q, k, v, x.logits, x.positions)


def with_positions(x: Unmapped, position_q: Tensor, position_k: Tensor) -> Unmapped:
    return x._replace(positions=Positions(scaled_twice(position_q, position_k), []))


def matrix_positions(x: Unmapped) -> Positions:
    assert isinstance(x.positions, Positions)
    return x.positions


def with_matrix(x: Unmapped, kind: Attention) -> Unmapped:
    logits = matrix_positions(x).logits
    return x._replace(positions=Positions(logits, CODE[kind].position_matrix(logits)))


def with_padding(x: Unmapped, lengths: Tensor) -> tuple[Unmapped, Tensor]:
    is_item = torch.arange(x.logits.shape[1]) < lengths.unsqueeze(1)
    return x._replace(logits=x.logits.masked_fill(~is_item.unsqueeze(-1), -torch.inf)), is_item


def with_value(x: Unmapped, value: float) -> Unmapped:
    """Every item has the same value, whatever its vector."""
    return x._replace(value=HeadMap(torch.zeros(N, H, D), torch.full((N, H), value)))


@pytest.mark.parametrize("length", [1, 128, 129, 300])
def test_blocks_of_position_weights_are_the_causal_half_of_the_matrix(length):
    q, k = torch.randn(2, N, length, H)
    is_later = torch.ones(length, length, dtype=torch.bool).triu(1)
    whole = position_logits(q, k).masked_fill(is_later, -torch.inf).softmax(-1)
    logits = scaled_twice(q, k)
    blocks = causal_weights(logits)
    size = attention.POSITION_BLOCK
    for i, block in enumerate(blocks):
        end = min((i + 1) * size, length)
        torch.testing.assert_close(block, whole[:, i * size : end, :end])
    assert sum(block.shape[1] for block in blocks) == length
    v = torch.randn(B, N, length, H)
    torch.testing.assert_close(attention.read_positions(blocks, v), whole @ v)
    for shorter in {1, length // 2 + 1, length}:
        first = Positions(logits, blocks).first(shorter)
        read = attention.read_positions(first.matrix, v[:, :, :shorter])
        torch.testing.assert_close(read, whole[:, :shorter, :shorter] @ v[:, :, :shorter])


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


def test_a_relative_logit_is_that_of_the_distance():
    logits = RelativeLogits(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 3)
    expected = torch.tensor([[[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]])
    torch.testing.assert_close(logits.block(0, 3, 3), expected)
    torch.testing.assert_close(logits.block(1, 3, 2), expected[:, 1:, :2])
    torch.testing.assert_close(logits.rows(torch.tensor([2, 0])), expected[:, [2, 0]])
    torch.testing.assert_close(logits.first(2).rows(torch.tensor([1])), expected[:, [1], :2])


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


@pytest.mark.parametrize("kind", ["causal", "masked", "steep", "newest"])
def test_dropout_of_position_weights_leaves_the_item_branch_alone(kind):
    """With all of them dropped, equal values are read once instead of twice."""
    x, is_item = with_padding(with_value(unmapped(), 7.0), torch.tensor([7, 3, 1]))
    if kind == "steep":
        q, k = torch.randn(2, N, L, H)
        x = with_positions(x, 100 * q, 100 * k)
    x = with_matrix(x, "causal" if kind == "causal" else "masked")
    x = x._replace(positions=matrix_positions(x)._replace(dropout=torch.zeros_like))
    if kind == "causal":
        read = attention.causal_context(mapped(x), no_dropout)
    elif kind == "newest":
        read = newest_context(x, is_item, torch.tensor([6, 2, 0]), no_dropout)
    else:
        read = attention.masked_context(x, is_item, no_dropout)
    torch.testing.assert_close(read, torch.full_like(read, 7.0))


def test_dropout_is_applied_to_the_probabilities_over_interests():
    """With all of them dropped, only the position branch is left."""
    x, is_item = with_padding(unmapped(), torch.full((B,), L))
    equal = torch.zeros(N, L, H)
    still = with_positions(x, equal, equal)
    values_BLD = x.value.by_head(x.x).flatten(2)
    mean = values_BLD.mean(dim=1, keepdim=True).expand(-1, L, -1)
    torch.testing.assert_close(masked_context(still, is_item, torch.zeros_like), mean)
    so_far = values_BLD.cumsum(dim=1) / torch.arange(1, L + 1).view(L, 1)
    torch.testing.assert_close(causal_context(still, torch.zeros_like), so_far)
    torch.testing.assert_close(reference_context(still, None, torch.zeros_like), mean)
