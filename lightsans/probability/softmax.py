"""Softmax sums over what may be recommended to each user.

Products are float32, so sums may differ in their last digits with the number of users at once.

Shapes: B users   D hidden size   V = num_items + 1   S seen items of all users
    C items of a block   U users of a stretch
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_USERS, _ITEMS = 512, 1024
"""Users and items of a product: its result stays in the cache until it is added up."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Items that may be recommended to each of B users."""

    is_eligible: Tensor
    """(V,) bool: whether an item may be recommended at all; not padding."""
    seen_rows: Tensor
    """(S,) with ``seen_item_ids`` the items to leave out, by user."""
    seen_item_ids: Tensor
    denied: Tensor | None = None
    """(V,) bits of the segment rules that forbid an item; with ``segments``."""
    segments: Tensor | None = None
    """(B,) bits of the segment rules that are about a user."""

    def stretch(self, begin: int, end: int) -> "Scope":
        """The same of the users from ``begin`` to ``end``, who are numbered from 0."""
        is_theirs_S = (self.seen_rows >= begin) & (self.seen_rows < end)
        return Scope(
            self.is_eligible,
            self.seen_rows[is_theirs_S] - begin,
            self.seen_item_ids[is_theirs_S],
            self.denied,
            None if self.segments is None else self.segments[begin:end],
        )

    def holds(self, ids_BK: Tensor) -> Tensor:
        """(B, K) whether items may be recommended to the user of their row."""
        V = len(self.is_eligible)
        rows_B1 = torch.arange(len(ids_BK), device=ids_BK.device)[:, None]
        seen_S = self.seen_rows * V + self.seen_item_ids
        return self.allows(rows_B1, ids_BK) & ~torch.isin(rows_B1 * V + ids_BK, seen_S)

    def allows(self, rows: Tensor, ids: Tensor) -> Tensor:
        """Whether items may be recommended to the users of some rows, seen items aside."""
        may: Tensor = self.is_eligible[ids]
        if self.denied is not None and self.segments is not None:
            may &= (self.denied[ids] & self.segments[rows]) == 0
        return may


def scored_blocks(
    vectors_BD: Tensor, table_VD: Tensor, scope: Scope, step: int
) -> Iterator[tuple[int, Tensor]]:
    """First item and (B, C) scores of every block; minus infinity outside the scope."""
    order_S = scope.seen_item_ids.argsort()
    rows_S, ids_S = scope.seen_rows[order_S], scope.seen_item_ids[order_S]
    segments_B = scope.segments
    has_rules = scope.denied is not None and segments_B is not None and bool(segments_B.any())
    for first in range(0, len(table_VD), step):
        block = slice(first, min(len(table_VD), first + step))
        scores_BC = vectors_BD @ table_VD[block].t()
        left_out = (~scope.is_eligible[block]).nonzero().squeeze(1)
        if len(left_out):  # rare, and a mask of all would take as long as a third of the product
            scores_BC[:, left_out] = -torch.inf
        ends = torch.tensor([block.start, block.stop], device=ids_S.device)
        begin, end = torch.searchsorted(ids_S, ends).tolist()
        scores_BC[rows_S[begin:end], ids_S[begin:end] - first] = -torch.inf
        if has_rules:
            assert scope.denied is not None
            assert segments_B is not None
            scores_BC.masked_fill_(
                (scope.denied[block][None] & segments_B[:, None]) != 0, -torch.inf
            )
        yield first, scores_BC


@dataclass(frozen=True, slots=True)
class Moments:
    """Softmax over the scope of each user, at some scale of the scores."""

    log_sum: Tensor
    """(B,) float64 log of the sum of exp(scale * score); minus infinity of an empty scope."""
    mean: Tensor
    """(B,) float64 mean of the scores under the softmax; 0 of an empty scope."""
    variance: Tensor
    """(B,) float64 variance of the scores, likewise."""


def log_sums(vectors_BD: Tensor, table_VD: Tensor, scope: Scope, scale: float = 1.0) -> Tensor:
    """(B,) float64: logarithms of the sums of exp(scale * score)."""
    return moments(vectors_BD, table_VD, scope, scale, sums_alone=True).log_sum


@torch.no_grad()
def moments(
    vectors_BD: Tensor,
    table_VD: Tensor,
    scope: Scope,
    scale: float = 1.0,
    *,
    sums_alone: bool = False,
) -> Moments:
    """The softmax of every user in numbers; without the mean and variance where sums do.

    Args:
        vectors_BD: One row per user, float32.
        table_VD: One row per item, where the users are.
        scope: Items that may be recommended to them.
        scale: Inverse of the temperature.
        sums_alone: Whether mean and variance are left out.
    """
    pieces = [torch.zeros(3, 0, dtype=torch.float64, device=vectors_BD.device)]
    for begin in range(0, len(vectors_BD), _USERS):
        end = min(len(vectors_BD), begin + _USERS)
        within = scope.stretch(begin, end)
        pieces.append(_stretch(vectors_BD[begin:end], table_VD, within, scale, sums_alone))
    return Moments(*torch.cat(pieces, dim=1))


def _stretch(
    vectors_UD: Tensor, table_VD: Tensor, scope: Scope, scale: float, sums_alone: bool
) -> Tensor:
    """(3, U) log-sum, mean and variance."""
    U, device = len(vectors_UD), vectors_UD.device
    most_U = torch.full((U,), -torch.inf, device=device)
    sums = torch.zeros(3, U, dtype=torch.float64, device=device)  # of exp, and times score, score²
    for _, scores_UC in scored_blocks(vectors_UD, table_VD, scope, _ITEMS):
        scores_UC.mul_(scale)
        before_U, most_U = most_U, torch.maximum(most_U, scores_UC.amax(1))
        # Sums are relative to the greatest score so far, so that none overflows.
        shift_U = torch.where(most_U.isfinite(), most_U, 0.0)
        weights_UC = (scores_UC - shift_U[:, None]).exp_()
        sums *= (before_U - shift_U).double().exp()
        sums[0] += weights_UC.sum(1).double()
        if not sums_alone:
            scores_UC = scores_UC.masked_fill_(scores_UC == -torch.inf, 0.0)
            weighted_UC = weights_UC.mul_(scores_UC)
            sums[1] += weighted_UC.sum(1).double()
            sums[2] += (weighted_UC.mul_(scores_UC)).sum(1).double()
    shift_U = torch.where(most_U.isfinite(), most_U, 0.0).double()
    total_U = sums[0].clamp(min=1e-300)
    mean_U = sums[1] / total_U
    variance_U = (sums[2] / total_U - mean_U.square()).clamp(min=0.0)
    return torch.stack([shift_U + sums[0].log(), mean_U / scale, variance_U / scale**2])
