"""The item branch for every prefix of a sequence in one pass.

Shapes: B sequences   L positions   C positions of one chunk   K interests
    J = 2 K: interests of the keys, then of the values   N heads   H head size
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

Dropout = Callable[[Tensor], Tensor]

CHUNK: Final = 64
"""Positions that are treated at once; time grows with L * CHUNK."""
SAFE_CHUNK: Final = 16
"""The same where pairs of positions are weighted one by one: B * C * C * J numbers in memory."""
MAX_RISE: Final = 60.0
"""Largest rise, in logits, from a prefix's own maximum to the maximum of the chunk for which one
exponential per item will do: exp(-60) leaves room for sums, their inverses and their gradients in
float32, whose normal numbers end near exp(-87) and exp(88)."""


def unchanged(x: Tensor) -> Tensor:
    """No dropout."""
    return x


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    """The product in float32, also under autocast: for what is exponentiated or summed up."""
    if not torch.is_autocast_enabled(left.device.type):
        return left @ right
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


def pool_interests(x_BNLH: Tensor, weights_BLK: Tensor) -> Tensor:
    """Summarise each sequence as K interests, (B, N, K, H): weighted sums over its positions."""
    return weights_BLK.transpose(1, 2).unsqueeze(1) @ x_BNLH


class _Carry(NamedTuple):
    """The sums over all earlier chunks, in units of exp(top)."""

    top: Tensor
    """Largest logit so far, (B, J)."""
    z: Tensor
    """Sum of the weights, (B, J)."""
    keys: Tensor
    """Weighted sum of the keys, (B, N, K, H); of the values likewise."""
    values: Tensor


def causal_item_context(
    q_BNLH: Tensor, k_BNLH: Tensor, v_BNLH: Tensor, logits_BLJ: Tensor, dropout: Dropout
) -> Tensor:
    """Let every position read from the interests of the prefix that it ends, (B, N, L, H).

    The interests of prefix t are sums over its items divided by the sum of their weights. Instead
    of K interests for each of L prefixes, (B, L, K, D), the products are reordered: first query
    times key, (C, C) within a chunk of positions, then the sums over the prefix. Earlier chunks
    are carried along as K interests, so cost and memory are linear in L.

    Args:
        q_BNLH: Queries.
        k_BNLH: Keys.
        v_BNLH: Values.
        logits_BLJ: Pooling logits of the keys and of the values, side by side. Any finite value;
            minus infinity at padding, which must not come first in a sequence.
        dropout: Applied to the probabilities over interests.
    """
    sizes, is_flat = _plan_chunks(logits_BLJ.detach())
    carry: _Carry | None = None
    contexts: list[Tensor] = []
    parts = [torch.split(x, sizes, dim=2) for x in (q_BNLH, k_BNLH, v_BNLH)]
    parts.append(torch.split(logits_BLJ, sizes, dim=1))
    for i, (q, k, v, logits_BCJ) in enumerate(zip(*parts, strict=True)):
        attend = _attend_flat if is_flat[i] else _attend_steep
        contexts.append(attend(q, k, v, logits_BCJ, carry, dropout))
        if i + 1 < len(sizes):
            carry = _advance(k, v, logits_BCJ, carry)
    return torch.cat(contexts, dim=2)


def _plan_chunks(logits_BLJ: Tensor) -> tuple[list[int], list[bool]]:
    """Cut the positions into chunks: their sizes, and whether one exponential per item will do.

    An exported program cannot look at numbers and choose, so it takes the way that is always safe.
    """
    if torch.compiler.is_exporting():
        chunks = torch.split(logits_BLJ, SAFE_CHUNK, dim=1)
        return [chunk.shape[1] for chunk in chunks], [False] * len(chunks)
    top_BJ = torch.full_like(logits_BLJ[:, 0], float("-inf"))
    length = logits_BLJ.shape[1]
    sizes: list[int] = []
    is_flat: list[bool] = []
    start = 0
    while start < length:
        chunk_BCJ = logits_BLJ[:, start : start + CHUNK]
        first_BJ = torch.maximum(top_BJ, chunk_BCJ[:, 0])
        rise_BJ = torch.maximum(top_BJ, chunk_BCJ.amax(dim=1)) - first_BJ
        is_flat.append(rise_BJ.numel() == 0 or bool(rise_BJ.amax() <= MAX_RISE))
        if not is_flat[-1]:
            chunk_BCJ = chunk_BCJ[:, :SAFE_CHUNK]
        top_BJ = torch.maximum(top_BJ, chunk_BCJ.amax(dim=1))
        sizes.append(chunk_BCJ.shape[1])
        start += sizes[-1]
    return sizes, is_flat


def _top(logits_BCJ: Tensor, carry: _Carry | None) -> Tensor:
    """The maximum of everything up to a chunk's end. No gradient: it cancels in every ratio."""
    top_BJ = logits_BCJ.detach().amax(dim=1)
    return top_BJ if carry is None else torch.maximum(top_BJ, carry.top)


def _attend_flat(
    q_BNCH: Tensor,
    k_BNCH: Tensor,
    v_BNCH: Tensor,
    logits_BCJ: Tensor,
    carry: _Carry | None,
    dropout: Dropout,
) -> Tensor:
    """One chunk with one exponential per item, taken relative to the chunk's maximum.

    Logits, exponentials and their sums are float32; under autocast only products with q, k and v
    are bfloat16.
    """
    top_BJ = _top(logits_BCJ, carry)
    exp_BCJ = (logits_BCJ - top_BJ.unsqueeze(1)).exp()
    z_BCJ = exp_BCJ.cumsum(dim=1)
    if carry is not None:
        decay_BJ = (carry.top - top_BJ).exp()
        key_decay, value_decay = decay_BJ[:, None, :, None].chunk(2, dim=2)
        z_BCJ = z_BCJ + (decay_BJ * carry.z).unsqueeze(1)
    # exp(-log z) rather than 1 / z: the derivative of 1 / z squares it, which overflows.
    key_inverse, value_inverse = (-z_BCJ.log()).exp().unsqueeze(1).chunk(2, dim=-1)
    key_exp, value_exp = exp_BCJ.unsqueeze(1).chunk(2, dim=-1)

    # Later items are multiplied by 0: every number here is finite.
    C = q_BNCH.shape[2]
    is_due_CC = q_BNCH.new_ones(C, C).tril()
    scores = (q_BNCH @ k_BNCH.transpose(-1, -2) * is_due_CC) @ key_exp
    if carry is not None:
        scores = scores + q_BNCH @ (key_decay * carry.keys).transpose(-1, -2)
    probs = (scores * key_inverse / math.sqrt(q_BNCH.shape[-1])).softmax(dim=-1)
    reads = dropout(probs) * value_inverse
    context = (reads @ value_exp.transpose(-1, -2) * is_due_CC) @ v_BNCH
    return context if carry is None else context + reads @ (value_decay * carry.values)


def _attend_steep(
    q_BNCH: Tensor,
    k_BNCH: Tensor,
    v_BNCH: Tensor,
    logits_BCJ: Tensor,
    carry: _Carry | None,
    dropout: Dropout,
) -> Tensor:
    """One chunk with an exponential per pair: query t weighs item s by exp(logit_s - top_t)."""
    C = logits_BCJ.shape[1]
    top_BCJ = logits_BCJ.detach().cummax(dim=1).values
    if carry is not None:
        top_BCJ = torch.maximum(top_BCJ, carry.top.unsqueeze(1))
    is_later_CC1 = torch.ones(C, C, dtype=torch.bool, device=q_BNCH.device).triu(1).unsqueeze(-1)
    gaps_BCCJ = logits_BCJ.unsqueeze(1) - top_BCJ.unsqueeze(2)
    exp_BCCJ = gaps_BCCJ.masked_fill(is_later_CC1, float("-inf")).exp()
    z_BCJ = exp_BCCJ.sum(dim=2)
    if carry is not None:
        decay_BCJ = (carry.top.unsqueeze(1) - top_BCJ).exp()
        key_decay, value_decay = decay_BCJ.unsqueeze(1).chunk(2, dim=-1)
        z_BCJ = z_BCJ + decay_BCJ * carry.z.unsqueeze(1)
    key_z, value_z = z_BCJ.unsqueeze(1).chunk(2, dim=-1)
    key_exp, value_exp = exp_BCCJ.chunk(2, dim=-1)

    matches_BCNC = (q_BNCH @ k_BNCH.transpose(-1, -2)).transpose(1, 2)
    scores = (matches_BCNC @ key_exp).transpose(1, 2)
    if carry is not None:
        scores = scores + q_BNCH @ carry.keys.transpose(-1, -2) * key_decay
    probs = (scores / key_z / math.sqrt(q_BNCH.shape[-1])).softmax(dim=-1)
    reads = dropout(probs) / value_z
    weights_BCNC = reads.transpose(1, 2) @ value_exp.transpose(-1, -2)
    context = weights_BCNC.transpose(1, 2) @ v_BNCH
    return context if carry is None else context + (reads * value_decay) @ carry.values


def _advance(k_BNCH: Tensor, v_BNCH: Tensor, logits_BCJ: Tensor, carry: _Carry | None) -> _Carry:
    """Add a chunk to the sums."""
    top_BJ = _top(logits_BCJ, carry)
    exp_BCJ = (logits_BCJ - top_BJ.unsqueeze(1)).exp()
    key_exp, value_exp = exp_BCJ.chunk(2, dim=-1)
    z_BJ = exp_BCJ.sum(dim=1)
    keys, values = pool_interests(k_BNCH, key_exp), pool_interests(v_BNCH, value_exp)
    if carry is None:
        return _Carry(top_BJ, z_BJ, keys, values)
    decay_BJ = (carry.top - top_BJ).exp()
    key_decay, value_decay = decay_BJ[:, None, :, None].chunk(2, dim=2)
    return _Carry(
        top_BJ,
        z_BJ + decay_BJ * carry.z,
        keys + key_decay * carry.keys,
        values + value_decay * carry.values,
    )
