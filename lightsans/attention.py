"""What every position of a sequence reads, for the three kinds of LightSANs attention.

Item branch: a sequence is summarised as K interests, and every position reads from those interests
instead of from all items. Position branch: how much one position reads from another is learned from
the position table alone, so there is one matrix per head, the same for all sequences. The two are
added. Interests are pooled with one set of weights for all heads and split into heads afterwards.

Shapes (a capital suffix names a tensor's axes, in order):
    B sequences   L positions   K interests   J = 2 K: interests of the keys, then of the values
    N heads   H head size   D hidden size, D = N * H

Source: Fan et al., "Lighter and Better: Low-Rank Decomposed Self-Attention Networks for Next-Item
Recommendation", SIGIR 2021, and its code in RecBole 1.2.1, recbole/model/layers.py.
"""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lightsans.causal import Dropout, causal_item_context, exact_product, pool_interests

MAX_SPREAD: Final = 60.0
"""Largest difference of position logits in a row for which sequences can share exponentials."""
POSITION_BLOCK: Final = 128
"""Rows of the causal position matrix that are treated at once: of a block's columns, only those up
to its last row exist. Smaller blocks leave out more, larger ones are faster to multiply."""


class Positions(NamedTuple):
    """What a layer has learnt about positions: the same for all sequences."""

    q: Tensor
    """Queries of the positions, (N, L, H); keys likewise."""
    k: Tensor
    matrix: list[Tensor]
    """How much each position (rows) reads from each other, in blocks of rows: `causal_weights`;
    for masked attention one block of logits, for the reference one of weights, (N, L, L). Empty
    where nothing needs it."""

    def first(self, length: int) -> "Positions":
        """The same as if there were no later positions; not for the reference, which reads all."""
        starts = range(0, length, POSITION_BLOCK if len(self.matrix) > 1 else length)
        blocks = [
            block[:, : length - start, :length]
            for start, block in zip(starts, self.matrix, strict=False)
        ]
        return Positions(self.q[:, :length], self.k[:, :length], blocks)


class Projected(NamedTuple):
    """A layer's input after all of its linear maps, split into heads."""

    q: Tensor
    """Queries of the items, (B, N, L, H); keys and values likewise."""
    k: Tensor
    v: Tensor
    logits: Tensor
    """How much each item counts in each interest, before the softmax, (B, L, J). Minus infinity at
    padding, except for the reference."""
    positions: Positions


def reference_context(x: Projected, newest_B: Tensor | None, dropout: Dropout) -> Tensor:
    """The released code, number for number: (B, N, L, H), or (B, N, 1, H) at ``newest_B``.

    Scores and position weights are normalised over the *query* positions, and padding takes part
    in everything, so all queries are scored even if one is wanted.
    """
    key_weights, value_weights = x.logits.softmax(dim=1).chunk(2, dim=-1)
    keys_BNKH = pool_interests(x.k, key_weights)
    values_BNKH = pool_interests(x.v, value_weights)
    probs_BNLK = _interest_scores(x.q, keys_BNKH).softmax(dim=2)
    (position_NLL,) = x.positions.matrix
    if newest_B is None:
        return dropout(probs_BNLK) @ values_BNKH + read_positions(x.positions.matrix, x.v)
    probs_BN1K = _take(probs_BNLK, newest_B)
    position_BN1L = position_NLL.index_select(1, newest_B).transpose(0, 1).unsqueeze(2)
    return dropout(probs_BN1K) @ values_BNKH + position_BN1L @ x.v


def masked_context(x: Projected, is_item_BL: Tensor, dropout: Dropout) -> Tensor:
    """The paper, padding left out: all positions read from the whole sequence, (B, N, L, H)."""
    key_weights, value_weights = x.logits.softmax(dim=1).chunk(2, dim=-1)
    scores_BNLK = _interest_scores(x.q, pool_interests(x.k, key_weights))
    items_BNLH = dropout(scores_BNLK.softmax(dim=-1)) @ pool_interests(x.v, value_weights)
    (logits_NLL,) = x.positions.matrix
    return items_BNLH + _read_masked_positions(logits_NLL, x.v, is_item_BL)


def causal_context(x: Projected, dropout: Dropout) -> Tensor:
    """Every position reads from the prefix that it ends, (B, N, L, H).

    At position t this is what `masked_context` gives for the sequence cut off after t.
    """
    items_BNLH = causal_item_context(x.q, x.k, x.v, x.logits, dropout)
    return items_BNLH + read_positions(x.positions.matrix, x.v)


def newest_context(x: Projected, is_item_BL: Tensor, newest_B: Tensor, dropout: Dropout) -> Tensor:
    """The row of `masked_context` and of `causal_context` at ``newest_B``, (B, N, 1, H).

    With one query per sequence, interests need not be formed: both branches are weights on items.
    """
    q_BN1H = _take(x.q, newest_B)
    key_weights, value_weights = x.logits.softmax(dim=1).unsqueeze(1).chunk(2, dim=-1)
    matches_BN1L = q_BN1H @ x.k.transpose(-1, -2) / math.sqrt(q_BN1H.shape[-1])
    probs_BN1K = dropout((matches_BN1L @ key_weights).float().softmax(dim=-1))
    position_q_NBH = x.positions.q.index_select(1, newest_B)
    logits_BNL = position_logits(position_q_NBH, x.positions.k).transpose(0, 1)
    logits_BNL = logits_BNL.masked_fill(~is_item_BL.unsqueeze(1), float("-inf"))
    position_BN1L = logits_BNL.softmax(dim=-1).unsqueeze(2)
    return (probs_BN1K @ value_weights.transpose(-1, -2) + position_BN1L) @ x.v


def position_logits(q_NLH: Tensor, k_NLH: Tensor) -> Tensor:
    """How much each position (rows) reads from each other, (N, L, L), before the softmax.

    Scaled twice, by (2 H) ** -0.5 and by H ** -0.5, as in the released code.
    """
    H = q_NLH.shape[-1]
    return exact_product(q_NLH, k_NLH.transpose(-1, -2)) / math.sqrt(2 * H) / math.sqrt(H)


def causal_weights(q_NLH: Tensor, k_NLH: Tensor) -> list[Tensor]:
    """How much each position reads from itself and each earlier one, in blocks of C rows.

    Block i is (N, C, (i + 1) C): what comes after its last row is left out, nearly half of it all.
    """
    blocks = []
    for start in range(0, q_NLH.shape[1], POSITION_BLOCK):
        end = min(start + POSITION_BLOCK, q_NLH.shape[1])
        logits_NCE = position_logits(q_NLH[:, start:end], k_NLH[:, :end])
        is_later_CE = torch.ones_like(logits_NCE[0], dtype=torch.bool).triu(start + 1)
        blocks.append(logits_NCE.masked_fill(is_later_CE, float("-inf")).softmax(dim=-1))
    return blocks


def _take(x_BNLH: Tensor, position_B: Tensor) -> Tensor:
    """One position of each sequence, (B, N, 1, H). Unlike take_along_dim, this can be exported."""
    _, N, _, H = x_BNLH.shape
    return x_BNLH.gather(2, position_B[:, None, None, None].expand(-1, N, 1, H))


def _interest_scores(q_BNLH: Tensor, keys_BNKH: Tensor) -> Tensor:
    scores_BNLK = q_BNLH @ keys_BNKH.transpose(-1, -2)
    return scores_BNLK.float() / math.sqrt(q_BNLH.shape[-1])


def read_positions(blocks: list[Tensor], v_BNLH: Tensor) -> Tensor:
    """Apply one matrix per head to every sequence: a product with B * H columns for each block.

    A block has weights for the first positions only, as many as it has columns.
    """
    B, N, L, H = v_BNLH.shape
    columns = v_BNLH.permute(1, 2, 0, 3).reshape(N, L, B * H)
    contexts = [weights_NCE @ columns[:, : weights_NCE.shape[2]] for weights_NCE in blocks]
    context = contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=1)
    return context.view(N, L, B, H).permute(2, 0, 1, 3)


def _read_masked_positions(logits_NLL: Tensor, v_BNLH: Tensor, is_item_BL: Tensor) -> Tensor:
    """Softmax over each sequence's own items, applied to ``v_BNLH``.

    Sequences differ only in how many of the keys they have, so numerator and denominator are
    products with the same exponentials, and no (B, N, L, L) tensor is needed. Where the first key,
    which every sequence has, lies far below its row's maximum, a short sequence's denominator could
    vanish: then the softmax is done for each sequence, as in an exported program, which cannot
    look at numbers and choose.
    """
    top_NL1 = logits_NLL.detach().amax(dim=-1, keepdim=True)
    spread = top_NL1 - logits_NLL.detach()[..., :1]
    if not torch.compiler.is_exporting() and bool(spread.amax() <= MAX_SPREAD):
        exp_NLL = (logits_NLL - top_NL1).exp()
        items_BNLH = v_BNLH.masked_fill(~is_item_BL[:, None, :, None], 0.0)
        z_BNL = exact_product(exp_NLL, is_item_BL.to(exp_NLL.dtype).t()).permute(2, 0, 1)
        # exp(-log z) rather than 1 / z: the derivative of 1 / z squares it, which overflows.
        return read_positions([exp_NLL], items_BNLH) * (-z_BNL.log()).exp().unsqueeze(-1)
    is_padding_B11L = ~is_item_BL[:, None, None, :]
    return logits_NLL.masked_fill(is_padding_B11L, float("-inf")).softmax(dim=-1) @ v_BNLH
