"""Exact top-K items for user vectors, without seen items and padding.

Shapes: B users   D hidden size   V = num_items + 1: items and padding   K items of a list
    S seen items of all users   C items of a block   R users for whom a block holds something
"""

from typing import NamedTuple

import torch
from torch import Tensor

SCORES_BUDGET = {"cpu": 2**22, "cuda": 2**28}
"""Scores held at once."""
NOTHING = float("-inf")


class TopK(NamedTuple):
    """The best items of each user, best first."""

    item_ids: Tensor
    """(B, K), int64; 0 fills the row of a user with fewer than K items left to recommend."""
    scores: Tensor
    """(B, K); minus infinity where the item id is 0."""


@torch.no_grad()
def top_k(
    vectors_BD: Tensor,
    table_VD: Tensor,
    k: int,
    seen_rows_S: Tensor | None = None,
    seen_item_ids_S: Tensor | None = None,
    *,
    block_items: int | None = None,
) -> TopK:
    """The K items with the highest score, vector times item vector, of each user.

    Items with equal scores are ordered by their id, also where the list ends between them. Items
    are scored in blocks, and no more than a block of users times items exists at a time.

    Args:
        vectors_BD: One row per user.
        table_VD: One row per item; row 0, padding, is never recommended.
        k: Length of the lists.
        seen_rows_S: With ``seen_item_ids_S`` the items to leave out: for the user of this row, the
            item of this id. In any order; repetitions and 0 do no harm.
        seen_item_ids_S: See ``seen_rows_S``.
        block_items: Items scored at once; chosen by the number of users unless given.

    Raises:
        ValueError: A vector is not finite, or k is less than 1.
    """
    _check(vectors_BD, table_VD, k)
    B, V = vectors_BD.shape[0], table_VD.shape[0]
    step = block_items or _block_items(vectors_BD)
    seen = _SeenItems(seen_rows_S, seen_item_ids_S)
    best_ids_BK = torch.zeros(B, k, dtype=torch.int64, device=vectors_BD.device)
    best_scores_BK = vectors_BD.new_full((B, k), NOTHING)
    for first in range(1, V, step):
        scores_BC = vectors_BD @ table_VD[first : first + step].t()
        seen.remove(scores_BC, first)
        # Later items have higher ids: they must be strictly better than the last of the list.
        rows_R = (scores_BC.amax(dim=1) > best_scores_BK[:, -1]).nonzero().squeeze(1)
        if rows_R.numel():
            columns_RK, scores_RK = _best_columns(scores_BC.index_select(0, rows_R), k)
            all_scores = torch.cat([best_scores_BK[rows_R], scores_RK], dim=1)
            all_ids = torch.cat([best_ids_BK[rows_R], columns_RK + first], dim=1)
            # Stable: the lower ids, which the list has already, stay ahead of equal scores; so do
            # its zeros, ahead of seen items.
            scores, order = all_scores.sort(dim=1, descending=True, stable=True)
            best_scores_BK[rows_R] = scores[:, :k]
            best_ids_BK[rows_R] = all_ids.gather(1, order[:, :k])
    return TopK(best_ids_BK, best_scores_BK)


def _best_columns(scores_RC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best columns of each row and their scores; equal scores in order of column."""
    C = scores_RC.shape[1]
    if k >= C:
        scores_RK, columns_RK = scores_RC.sort(dim=1, descending=True, stable=True)
        return columns_RK, scores_RK
    top_scores, columns = scores_RC.topk(k + 1, dim=1)
    # topk may return any of several equal scores. Which columns belong to the best k is only in
    # doubt where the next score equals the last; those rows are sorted whole.
    in_doubt_R = (top_scores[:, k] == top_scores[:, k - 1]) & (top_scores[:, k] > NOTHING)
    columns_RK = columns[:, :k].sort(dim=1).values
    rows = in_doubt_R.nonzero().squeeze(1)
    if rows.numel():
        order = scores_RC[rows].sort(dim=1, descending=True, stable=True).indices
        columns_RK[rows] = order[:, :k].sort(dim=1).values
    scores_RK, order = scores_RC.gather(1, columns_RK).sort(dim=1, descending=True, stable=True)
    return columns_RK.gather(1, order), scores_RK


class _SeenItems:
    """(row, item) pairs in order of item, so that a block finds its own at once."""

    def __init__(self, rows_S: Tensor | None, item_ids_S: Tensor | None) -> None:
        if (rows_S is None) != (item_ids_S is None):
            raise ValueError("give seen_rows and seen_item_ids together, or neither")
        self._any = rows_S is not None and item_ids_S is not None and rows_S.numel() > 0
        if rows_S is not None and item_ids_S is not None:
            self._item_ids_S, order_S = item_ids_S.long().sort()
            self._rows_S = rows_S.long()[order_S]

    def remove(self, scores_BC: Tensor, first: int) -> None:
        """Set the scores of seen items in a block that starts at item ``first``, in place."""
        if not self._any:
            return
        ends = torch.tensor([first, first + scores_BC.shape[1]], device=scores_BC.device)
        begin, end = torch.searchsorted(self._item_ids_S, ends).tolist()
        columns = self._item_ids_S[begin:end] - first
        scores_BC[self._rows_S[begin:end], columns] = NOTHING


def _block_items(vectors_BD: Tensor) -> int:
    budget = SCORES_BUDGET.get(vectors_BD.device.type, SCORES_BUDGET["cpu"])
    return max(1024, budget // max(1, vectors_BD.shape[0]))


def _check(vectors_BD: Tensor, table_VD: Tensor, k: int) -> None:
    if k < 1:
        raise ValueError(f"k={k} is too small; the least is 1")
    for whose, x in (("a user's", vectors_BD), ("an item's", table_VD)):
        if not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"{whose} vector is not finite, so its scores have no order; the model is broken: "
                "train it again, with a lower learning rate"
            )
