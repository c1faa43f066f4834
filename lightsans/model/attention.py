"""Context vectors of the positions of a sequence, for each kind of LightSANs attention.

Item branch: a sequence is summarised as K interests, and every position reads from those interests
instead of from all items. Position branch: how much one position reads from another depends on the
two alone, so there is one matrix per head, the same for all sequences. The branches are added.
Interests are pooled with one set of weights for all heads and split into heads afterwards.

Shapes (a capital suffix names a tensor's axes, in order):
    B sequences   L positions   K interests   J = 2 K: interests of the keys, then of the values
    N heads   H head size   D hidden size, D = N * H   S = N * R: R vectors of each head

Source: Fan et al., "Lighter and Better: Low-Rank Decomposed Self-Attention Networks for Next-Item
Recommendation", SIGIR 2021, and its code in RecBole 1.2.1, recbole/model/layers.py.
"""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lightsans.model.causal import Dropout, causal_item_context, exact_product, unchanged
from lightsans.model.fading import FadingPositions

MAX_SPREAD: Final = 60.0
"""Largest difference of position logits in a row for which sequences can share exponentials."""
POSITION_BLOCK: Final = 128
"""Rows of the causal position matrix that are treated at once: of a block's columns, only those up
to its last row exist. Smaller blocks leave out more, larger ones are faster to multiply."""


class AbsoluteLogits(NamedTuple):
    """Logits that depend on two positions: products of their queries and keys."""

    q: Tensor
    """Queries of the positions, (N, L, H); keys likewise."""
    k: Tensor
    divisors: tuple[float, ...]
    """Divisors of the products, one after the other."""

    @property
    def length(self) -> int:
        """Number of positions."""
        return self.q.shape[1]

    def first(self, length: int) -> "AbsoluteLogits":
        """The same for the first positions alone."""
        return self._replace(q=self.q[:, :length], k=self.k[:, :length])

    def block(self, start: int, end: int, columns: int) -> Tensor:
        """Rows ``start`` to ``end`` and the first columns, (N, end - start, columns)."""
        return self._products(self.q[:, start:end], self.k[:, :columns])

    def rows(self, position_B: Tensor) -> Tensor:
        """One row for each sequence, (N, B, L)."""
        return self._products(self.q.index_select(1, position_B), self.k)

    def _products(self, q_NCH: Tensor, k_NEH: Tensor) -> Tensor:
        logits_NCE = exact_product(q_NCH, k_NEH.transpose(-1, -2))
        for divisor in self.divisors:
            logits_NCE = logits_NCE / divisor
        return logits_NCE


class RelativeLogits(NamedTuple):
    """Logits that depend on the distance of two positions."""

    by_distance: Tensor
    """(N, M), M at least ``length``."""
    length: int

    def first(self, length: int) -> "RelativeLogits":
        """The same for the first positions alone."""
        return RelativeLogits(self.by_distance, length)

    def block(self, start: int, end: int, columns: int) -> Tensor:
        """Rows ``start`` to ``end`` and the first columns, (N, end - start, columns)."""
        rows_C = torch.arange(start, end, device=self.by_distance.device)
        return self._logits(rows_C, columns)

    def rows(self, position_B: Tensor) -> Tensor:
        """One row for each sequence, (N, B, L)."""
        return self._logits(position_B, self.length)

    def _logits(self, rows_C: Tensor, columns: int) -> Tensor:
        columns_E = torch.arange(columns, device=rows_C.device)
        distances_CE = (rows_C.unsqueeze(1) - columns_E).abs()
        picked = self.by_distance.index_select(1, distances_CE.flatten())
        return picked.view(len(self.by_distance), *distances_CE.shape)


PositionLogits = AbsoluteLogits | RelativeLogits
"""How much each position (row) reads from each other (column), before the softmax; by head."""


class Positions(NamedTuple):
    """Logits and weights of positions: the same for all sequences."""

    logits: PositionLogits
    matrix: list[Tensor]
    """Weight of each position (columns) for each other (rows), in blocks of rows: `causal_weights`;
    for masked attention one block of logits, for the reference one of weights, (N, L, L). Empty
    where nothing needs it."""
    dropout: Dropout = unchanged
    """Applied to the weights where they are read."""

    def first(self, length: int) -> "Positions":
        """The same as if there were no later positions; not for the reference, which reads all."""
        starts = range(0, length, POSITION_BLOCK if len(self.matrix) > 1 else length)
        blocks = [
            block[:, : length - start, :length]
            for start, block in zip(starts, self.matrix, strict=False)
        ]
        return self._replace(logits=self.logits.first(length), matrix=blocks)

    def every_prefix(self, v_BNLH: Tensor) -> Tensor:
        """Context of each position from the prefix that it ends, (B, N, L, H)."""
        return read_positions([self.dropout(block) for block in self.matrix], v_BNLH)

    def newest(self, newest_B: Tensor, is_item_BL: Tensor) -> Tensor:
        """Weights with which each sequence's newest position reads its items, (B, N, L)."""
        logits_BNL = self.logits.rows(newest_B).transpose(0, 1)
        logits_BNL = logits_BNL.masked_fill(~is_item_BL.unsqueeze(1), float("-inf"))
        weights_BNL: Tensor = self.dropout(logits_BNL.softmax(dim=-1))
        return weights_BNL

    def whole(self, v_BNLH: Tensor, is_item_BL: Tensor) -> Tensor:
        """Context of each position from the whole sequence, (B, N, L, H)."""
        (logits_NLL,) = self.matrix
        return _read_masked_positions(logits_NLL, v_BNLH, is_item_BL, self.dropout)


class HeadMap(NamedTuple):
    """A linear map to D numbers, seen as N maps to H each."""

    weight: Tensor
    """(N, H, D)"""
    bias: Tensor
    """(N, H)"""

    def by_head(self, x: Tensor) -> Tensor:
        """All maps of vectors (..., D): (..., N, H)."""
        mapped = functional.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
        return mapped.view(*x.shape[:-1], *self.bias.shape)


class Unmapped(NamedTuple):
    """A layer's input and what is to be read from it, before any linear map.

    An interest is a mean of mapped items, hence the map of a mean of items: so K vectors of a
    sequence pass through the maps of keys and values instead of L. Likewise an item's query is
    compared with a key by comparing the item with the key drawn back through the queries' map.
    """

    x: Tensor
    """(B, L, D)"""
    logits: Tensor
    """Weight of each item in each interest, before the softmax, (B, L, J). Minus infinity at
    padding, except for the reference."""
    query: HeadMap
    key: HeadMap
    value: HeadMap
    positions: Positions | FadingPositions


class Projected(NamedTuple):
    """A layer's input after all of its linear maps, split into heads."""

    q: Tensor
    """Queries of the items, (B, N, L, H); keys and values likewise."""
    k: Tensor
    v: Tensor
    logits: Tensor
    """The same as in `Unmapped`."""
    positions: Positions | FadingPositions


def project(x: Unmapped) -> Projected:
    """All items through the maps of queries, keys and values: one product."""
    B, L, _ = x.x.shape
    N, H = x.query.bias.shape
    maps = (x.query, x.key, x.value)
    weight = torch.cat([m.weight.flatten(0, 1) for m in maps])
    bias = torch.cat([m.bias.flatten() for m in maps])
    qkv = functional.linear(x.x, weight, bias).view(B, L, 3, N, H)
    # One copy, so that the many products by head and sequence need none.
    q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    return Projected(q, k, v, x.logits, x.positions)


def reference_context(x: Unmapped, newest_B: Tensor | None, dropout: Dropout) -> Tensor:
    """The released code, number for number: (B, L, D), or (B, 1, D) at ``newest_B``.

    Scores and position weights are normalised over the *query* positions, and padding takes part
    in everything, so all queries are scored even if one is wanted.
    """
    key_weights, value_weights = x.logits.softmax(dim=1).chunk(2, dim=-1)
    probs_BLNK = _interest_scores(x, key_weights).softmax(dim=1)
    assert isinstance(x.positions, Positions)  # the released code has no others
    (position_NLL,) = x.positions.matrix
    if newest_B is None:
        items_BLD = _read_interests(dropout(probs_BLNK), value_weights, x)
        return items_BLD + _side_by_side(read_positions([position_NLL], _values(x)))
    probs_BNK = take_positions(probs_BLNK, newest_B)
    position_BNL = position_NLL.index_select(1, newest_B).transpose(0, 1)
    return _read_items(dropout(probs_BNK) @ value_weights.transpose(1, 2) + position_BNL, x)


def masked_context(x: Unmapped, is_item_BL: Tensor, dropout: Dropout) -> Tensor:
    """The paper, padding left out: all positions read from the whole sequence, (B, L, D)."""
    key_weights, value_weights = x.logits.softmax(dim=1).chunk(2, dim=-1)
    probs_BLNK = _interest_scores(x, key_weights).softmax(dim=-1)
    items_BLD = _read_interests(dropout(probs_BLNK), value_weights, x)
    positions_BNLH = x.positions.whole(_values(x), is_item_BL)
    return items_BLD + _side_by_side(positions_BNLH)


def causal_context(x: Projected, dropout: Dropout) -> Tensor:
    """Every position reads from the prefix that it ends, (B, L, D).

    At position t this is what `masked_context` gives for the sequence cut off after t.
    """
    items_BNLH = causal_item_context(x.q, x.k, x.v, x.logits, dropout)
    return _side_by_side(items_BNLH + x.positions.every_prefix(x.v))


def newest_context(x: Unmapped, is_item_BL: Tensor, newest_B: Tensor, dropout: Dropout) -> Tensor:
    """The row of `masked_context` and of `causal_context` at ``newest_B``, (B, 1, D).

    With one query per sequence, interests need not be formed: both branches are weights on items.
    """
    newest_BD = take_positions(x.x, newest_B)
    q_BNH = x.query.by_head(newest_BD)
    matches_BNL = _match(q_BNH.unsqueeze(1), x.key, x.x).squeeze(3).transpose(1, 2)
    key_weights, value_weights = x.logits.softmax(dim=1).chunk(2, dim=-1)
    probs_BNK = dropout((matches_BNL @ key_weights).float().softmax(dim=-1))
    position_BNL = x.positions.newest(newest_B, is_item_BL)
    return _read_items(probs_BNK @ value_weights.transpose(1, 2) + position_BNL, x)


def position_divisors(head_size: int, is_scaled_twice: bool) -> tuple[float, ...]:
    """Divisors of position logits: (2 H) ** 0.5, and in the released code H ** 0.5 as well."""
    once = math.sqrt(2 * head_size)
    return (once, math.sqrt(head_size)) if is_scaled_twice else (once,)


def causal_weights(logits: PositionLogits) -> list[Tensor]:
    """Weights of each position for itself and each earlier one, in blocks of C rows.

    Block i is (N, C, (i + 1) C): what comes after its last row is left out, nearly half of it all.
    """
    blocks = []
    for start in range(0, logits.length, POSITION_BLOCK):
        end = min(start + POSITION_BLOCK, logits.length)
        logits_NCE = logits.block(start, end, end)
        is_later_CE = torch.ones_like(logits_NCE[0], dtype=torch.bool).triu(start + 1)
        blocks.append(logits_NCE.masked_fill(is_later_CE, float("-inf")).softmax(dim=-1))
    return blocks


def masked_logits(logits: PositionLogits) -> list[Tensor]:
    """All logits, (N, L, L): the softmax over a sequence's own items comes later."""
    return [logits.block(0, logits.length, logits.length)]


def reference_weights(logits: PositionLogits) -> list[Tensor]:
    """Weights normalised over the query positions, (N, L, L)."""
    return [logits.block(0, logits.length, logits.length).softmax(dim=1)]


def take_positions(x: Tensor, position_B: Tensor) -> Tensor:
    """One position of each sequence, (B, ...), of ``x``, (B, L, ...)."""
    rows_B = torch.arange(x.shape[0], device=x.device) * x.shape[1] + position_B
    return x.flatten(0, 1).index_select(0, rows_B)


def _interest_scores(x: Unmapped, key_weights_BLK: Tensor) -> Tensor:
    """Every item's query against every interest, (B, L, N, K) float32."""
    keys_BKNH = x.key.by_head(key_weights_BLK.transpose(1, 2) @ x.x)
    return _match(keys_BKNH, x.query, x.x).float()


def _match(y_BRNH: Tensor, maps: HeadMap, x_BLD: Tensor) -> Tensor:
    """Products of R vectors of each head with the maps of all items, scaled, (B, L, N, R)."""
    (B, R, N, H), (_, L, D) = y_BRNH.shape, x_BLD.shape
    y_NPH = (y_BRNH / math.sqrt(H)).permute(2, 0, 1, 3).reshape(N, B * R, H)
    back_BSD = (y_NPH @ maps.weight).view(N, B, R, D).transpose(0, 1).reshape(B, N * R, D)
    bias_NP1 = y_NPH @ maps.bias.unsqueeze(-1)
    bias_B1S = bias_NP1.view(N, B, R).transpose(0, 1).reshape(B, 1, N * R)
    return torch.baddbmm(bias_B1S, x_BLD, back_BSD.transpose(1, 2)).view(B, L, N, R)


def _read_interests(probs_BLNK: Tensor, value_weights_BLK: Tensor, x: Unmapped) -> Tensor:
    """Means of the interests' values, (B, L, D): one product for all heads, zeros off a head."""
    B, _, N, K = probs_BLNK.shape
    values_BKNH = x.value.by_head(value_weights_BLK.transpose(1, 2) @ x.x)
    is_own_N1N1 = torch.eye(N, dtype=values_BKNH.dtype, device=values_BKNH.device).view(N, 1, N, 1)
    values_BNKNH = values_BKNH.unsqueeze(1) * is_own_N1N1
    return probs_BLNK.flatten(2) @ values_BNKNH.view(B, N * K, x.x.shape[2])


def _read_items(weights_BNL: Tensor, x: Unmapped) -> Tensor:
    """Sums of the items' values, one for each head, side by side, (B, 1, D)."""
    sums_NBD = (weights_BNL @ x.x).transpose(0, 1)
    context_BNH = (sums_NBD @ x.value.weight.transpose(1, 2)).transpose(0, 1)
    return (
        (context_BNH + weights_BNL.sum(dim=-1, keepdim=True) * x.value.bias).flatten(1).unsqueeze(1)
    )


def _values(x: Unmapped) -> Tensor:
    """The items' values by head, (B, N, L, H)."""
    return x.value.by_head(x.x).transpose(1, 2)


def _side_by_side(x_BNLH: Tensor) -> Tensor:
    """The heads of each position in one vector, (B, L, D)."""
    return x_BNLH.transpose(1, 2).flatten(2)


def read_positions(blocks: list[Tensor], v_BNLH: Tensor) -> Tensor:
    """Apply one matrix per head to every sequence: a product with B * H columns for each block.

    A block has weights for the first positions only, as many as it has columns.
    """
    B, N, L, H = v_BNLH.shape
    columns = v_BNLH.permute(1, 2, 0, 3).reshape(N, L, B * H)
    contexts = [weights_NCE @ columns[:, : weights_NCE.shape[2]] for weights_NCE in blocks]
    context = contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=1)
    return context.view(N, L, B, H).permute(2, 0, 1, 3)


def _read_masked_positions(
    logits_NLL: Tensor, v_BNLH: Tensor, is_item_BL: Tensor, dropout: Dropout = unchanged
) -> Tensor:
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
        return read_positions([dropout(exp_NLL)], items_BNLH) * (-z_BNL.log()).exp().unsqueeze(-1)
    is_padding_B11L = ~is_item_BL[:, None, None, :]
    weights_BNLL = logits_NLL.masked_fill(is_padding_B11L, float("-inf")).softmax(dim=-1)
    return dropout(weights_BNLL) @ v_BNLH
