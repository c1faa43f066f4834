"""Exact top-K items for user vectors, without seen items and padding.

Products are fast and approximate, with a proven bound on their error. They decide which items may
be among the best; those few are scored again in float64, rounded to float32, and ordered by that
score, then by id. Where the order of adding up could decide how a score is rounded, as it does
where large products cancel out, its sum is taken exactly. So the lists are the same whatever the
size of blocks and batches, the number of threads, and the precision of the products.

Shapes: B users   D hidden size   V = num_items + 1: items and padding   K items of a list
    N items that may be recommended   S seen items of all users   C items of a block
    M candidates of a user   R users for whom a block holds something
"""

import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Int64
from lightsans.ranking.error_bounds import ErrorBound, Slack
from lightsans.ranking.products import (
    ScannedUsers,
    as_factors,
    exact_dots,
    find_kernels,
    prefers_bfloat16,
    prefers_compiled,
    round_scores,
    score_pairs,
)
from lightsans.ranking.seen_items import NOTHING, SeenItems, by_one_thread

SCORES_BUDGET = {"cpu": 2**22, "cuda": 2**28}
"""Scores held at once where torch alone looks at them."""

_BLOCK_USERS, _BLOCK_ITEMS = 512, 1024
"""Users and items of a product on the CPU: its result stays in the cache until it is read."""
_FIRST_BLOCK_ITEMS = 8192
"""Items of the first one: a look at so many gives a threshold that few of the rest exceed."""
_BFLOAT16_NOTHING = 0xFF80
"""Bits of minus infinity."""
_SLACK_ITEMS = 32
"""Candidates beyond K without Numba, so that nearly all lists can be proven right."""


class TopK(NamedTuple):
    """The best items of each user, best first."""

    item_ids: Tensor
    """(B, K), int64; 0 fills the row of a user with fewer than K items left to recommend."""
    scores: Tensor
    """(B, K) float32; minus infinity where the item id is 0."""


class ItemIndex:
    """Item vectors made ready for `top_k`, for any number of batches of users.

    Args:
        table_VD: One row per item; row 0, padding, is never recommended.
        eligible_ids: The only items to recommend, in any order; all unless given.
        products: ``bfloat16`` is faster where the processor multiplies it; ``auto`` takes it
            there. No effect on results, nor anywhere but on the CPU.

    Raises:
        ValueError: A vector is not finite, or an eligible id is not in the table.
    """

    def __init__(
        self, table_VD: Tensor, eligible_ids: Tensor | None = None, products: str = "auto"
    ) -> None:
        _require_finite("an item's", table_VD)
        items_ND = table_VD.detach()[1:].float()
        self._ids_N: Tensor | None = None
        if eligible_ids is not None:
            self._ids_N = torch.unique(eligible_ids.to(table_VD.device).long())
            if self._ids_N.numel() and not 0 < self._ids_N[0] <= self._ids_N[-1] < len(table_VD):
                raise ValueError(f"eligible item ids must be from 1 to {len(table_VD) - 1}")
            items_ND = items_ND[self._ids_N - 1]
            self._position_V = torch.full((len(table_VD),), -1, device=table_VD.device)
            self._position_V[self._ids_N] = torch.arange(len(self._ids_N), device=table_VD.device)
        self.items_ND = items_ND.contiguous()
        if products == "auto":
            products = "bfloat16" if prefers_bfloat16(self.items_ND) else "float32"
        # A GPU may round its sums more than once (reduced precision reductions).
        is_bfloat16 = products == "bfloat16" and items_ND.device.type == "cpu"
        self.products = torch.bfloat16 if is_bfloat16 else torch.float32
        self.factors_ND = as_factors(self.items_ND, self.products)
        self.error_bound = ErrorBound(self.items_ND, self.factors_ND)

    @torch.no_grad()
    def top_k(
        self,
        vectors_BD: Tensor,
        k: int,
        seen_rows_S: Tensor | None = None,
        seen_item_ids_S: Tensor | None = None,
        *,
        min_score: float = NOTHING,
        block_items: int | None = None,
        compiled: bool | None = None,
    ) -> TopK:
        """The K items with the highest score, vector times item vector, of each user.

        Items with equal scores are ordered by their id, also where the list ends between them.
        Items are scored in blocks, and no more than a block of users times items exists at a time.
        On the CPU as many threads work as torch is set to.

        Args:
            vectors_BD: One row per user, where the items are.
            k: Length of the lists.
            seen_rows_S: With ``seen_item_ids_S`` the items to leave out: for the user of this
                row, the item of this id. In any order; repetitions and 0 do no harm.
            seen_item_ids_S: See ``seen_rows_S``.
            min_score: Items with a lower score are left out.
            block_items: Items scored at once; chosen by device and users unless given.
            compiled: Read blocks with Numba; by `prefers_compiled` unless given.

        Raises:
            ValueError: A vector is not finite, or k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k={k} is too small; the least is 1")
        if (seen_rows_S is None) != (seen_item_ids_S is None):
            raise ValueError("give seen_rows and seen_item_ids together, or neither")
        _require_finite("a user's", vectors_BD)
        vectors_BD = vectors_BD.detach().float()
        if not len(self.items_ND):
            return _empty_lists(vectors_BD, k)
        rows_S = vectors_BD.new_zeros(0, dtype=torch.int64) if seen_rows_S is None else seen_rows_S
        ids_S = rows_S[:0] if seen_item_ids_S is None else seen_item_ids_S
        seen = SeenItems(*self._positions(rows_S.long(), ids_S.long()), len(vectors_BD))
        if compiled is None:
            compiled = prefers_compiled(vectors_BD)
        search = _scan_blocks if compiled else _sort_blocks
        with torch.autocast(vectors_BD.device.type, enabled=False):  # it would round products
            found, in_doubt_B = search(self, vectors_BD, k, seen, min_score, block_items)
            rows_R = in_doubt_B.nonzero().squeeze(1)
            if rows_R.numel():
                vectors_RD = vectors_BD[rows_R]
                error_R = self.error_bound.sum_error(vectors_RD)
                exact = _sort(
                    vectors_RD.double(), self.items_ND, k, seen.of(rows_R), block_items, error_R
                )
                found.item_ids[rows_R], found.scores[rows_R] = exact
        is_item_BK = (found.scores > NOTHING) & (found.scores >= min_score)
        ids_BK = found.item_ids + 1 if self._ids_N is None else self._ids_N[found.item_ids]
        return TopK(ids_BK * is_item_BK, found.scores.masked_fill(~is_item_BK, NOTHING))

    def prepare(self, vectors_BD: Tensor) -> tuple[Tensor, Slack]:
        """Users as they are multiplied, and how far below the K-th score to look.

        Users whose products may overflow get zeros, and an infinite slack: all items tie, so their
        lists are in doubt.
        """
        factors_BD = as_factors(vectors_BD, self.products)
        slack = self.error_bound.slack(vectors_BD, factors_BD)
        return factors_BD.masked_fill(slack.absolute.isinf().unsqueeze(1), 0.0), slack

    def _positions(self, rows_S: Tensor, ids_S: Tensor) -> tuple[Tensor, Tensor]:
        """Seen items as rows of ``items_ND``, without padding and what is not eligible."""
        if self._ids_N is None:
            positions_S = torch.as_tensor(by_one_thread(ids_S) - 1)
        else:
            positions_S = self._position_V[ids_S]
        if bool((by_one_thread(positions_S) >= 0).all()):  # the usual case: picking them takes time
            return rows_S, positions_S
        kept_S = positions_S >= 0
        return rows_S[kept_S], positions_S[kept_S]


def top_k(
    vectors_BD: Tensor,
    table_VD: Tensor,
    k: int,
    seen_rows_S: Tensor | None = None,
    seen_item_ids_S: Tensor | None = None,
    *,
    block_items: int | None = None,
) -> TopK:
    """`ItemIndex.top_k` of a table that is used once."""
    index = ItemIndex(table_VD)
    return index.top_k(vectors_BD, k, seen_rows_S, seen_item_ids_S, block_items=block_items)


def _scan_blocks(
    index: ItemIndex,
    vectors_BD: Tensor,
    k: int,
    seen: SeenItems,
    min_score: float,
    block_items: int | None,
) -> tuple[TopK, Tensor]:
    """Lists as positions, and whether a list is in doubt; each thread takes some users."""
    B, threads = len(vectors_BD), torch.get_num_threads()
    found = _empty_lists(vectors_BD, k)
    factors_BD, slack = index.prepare(vectors_BD)
    users = ScannedUsers(
        vectors_BD.contiguous(),
        factors_BD,
        slack.absolute.numpy(),
        slack.relative,
        index.error_bound.sum_error(vectors_BD).numpy(),
        slack.below(torch.tensor(min_score)).float().numpy(),
    )
    step = max(1, min(_BLOCK_USERS, -(-B // threads)))
    first_end = block_items or _FIRST_BLOCK_ITEMS

    def search(first: int) -> None:
        rows = slice(first, first + step)
        seen_by_user = seen.by_user(first, first + step, in_order=first_end < len(index.items_ND))
        lists = TopK(found.item_ids[rows], found.scores[rows])
        _scan_users(index, users.rows(rows), k, seen_by_user, block_items, lists)

    if threads == 1 or step >= B:
        for first in range(0, B, step):
            search(first)
    else:
        try:
            list(_pool(threads).map(search, range(0, B, step)))
        finally:
            torch.set_num_threads(threads)  # what threads that start later begin with
    return found, torch.from_numpy(users.threshold == np.inf)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that are kept from call to call: starting them takes as long as a small batch.

    Each multiplies alone: its product of some users with a block stays in the cache of its core.
    """
    return ThreadPoolExecutor(threads, "top-k", initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):  # a process has no threads of its parent's
    os.register_at_fork(after_in_child=_pool.cache_clear)


@torch.no_grad()
def _scan_users(
    index: ItemIndex,
    users: ScannedUsers,
    k: int,
    seen: tuple[Int64, Int64, Int64],
    block_items: int | None,
    found: TopK,
) -> None:
    """Write the lists of some users, given what they have seen, and raise their thresholds."""
    B, M, kernels = len(users.vectors), 3 * k + 256, find_kernels()
    count_B = np.zeros(B, np.int64)
    ids_BM, scores_BM = np.empty((B, M), np.int32), np.empty((B, M), np.float32)
    seen_ids_S, seen_next_B, seen_end_B = seen
    is_bfloat16 = index.products == torch.bfloat16
    nothing = np.uint16(_BFLOAT16_NOTHING) if is_bfloat16 else np.float32(NOTHING)
    first, end = 0, block_items or _FIRST_BLOCK_ITEMS
    while first < len(index.items_ND):
        scores_BC = users.factors @ index.factors_ND[first:end].t()
        kernels.scan(
            scores_BC.view(torch.uint16).numpy() if is_bfloat16 else scores_BC.numpy(),
            first, k, nothing, users.absolute, users.relative,
            seen_ids_S, seen_next_B, seen_end_B, users.threshold, count_B, ids_BM, scores_BM,
        )  # fmt: skip
        first, end = end, end + (block_items or _BLOCK_ITEMS)
    kernels.finish(
        users.vectors.numpy(), index.items_ND.numpy(), users.absolute, users.relative,
        users.sum_error, count_B, ids_BM, scores_BM,
        found.item_ids.numpy(), found.scores.numpy(),
    )  # fmt: skip


def _sort_blocks(
    index: ItemIndex,
    vectors_BD: Tensor,
    k: int,
    seen: SeenItems,
    min_score: float,
    block_items: int | None,
) -> tuple[TopK, Tensor]:
    """The same with nothing but torch, for the GPU and where there is no Numba."""
    M = k + _SLACK_ITEMS
    factors_BD, slack = index.prepare(vectors_BD)
    rough = _sort(factors_BD, index.factors_ND, M, seen, block_items)
    found = _empty_lists(vectors_BD, k)
    step = max(1, SCORES_BUDGET["cpu"] // (M * vectors_BD.shape[1]))
    for first in range(0, len(vectors_BD), step):
        rows = slice(first, first + step)
        # In order of item, so that the stable sort leaves equal scores in it.
        positions_BM, order_BM = rough.item_ids[rows].sort(dim=1)
        is_item_BM = rough.scores[rows].gather(1, order_BM) > NOTHING
        exact_BM = score_pairs(
            vectors_BD[rows],
            index.items_ND[positions_BM],
            index.error_bound.sum_error(vectors_BD[rows]),
        )
        exact_BM.masked_fill_(~is_item_BM, NOTHING)
        scores_BM, order_BM = exact_BM.sort(dim=1, descending=True, stable=True)
        found.scores[rows] = scores_BM[:, :k]
        found.item_ids[rows] = positions_BM.gather(1, order_BM)[:, :k]
    # Whatever is not a candidate scored no more than the last candidate did.
    last_B = rough.scores[:, -1]
    least_B = slack.below(rough.scores[:, k - 1].clamp(min=min_score))
    return found, (last_B > NOTHING) & (last_B >= least_B)


def _sort(
    vectors_BD: Tensor,
    items_ND: Tensor,
    k: int,
    seen: SeenItems,
    block_items: int | None,
    error_B: Tensor | None = None,
) -> TopK:
    """The K best positions by score, computed in the precision of the vectors, then float32.

    Of equal scores the earlier position comes first. With ``error_B``, of float64 vectors, scores
    are those of `score_pairs`.
    """
    best = _empty_lists(vectors_BD, k)
    best_ids_BK, best_scores_BK = best
    step = block_items or _block_items(vectors_BD)
    for first in range(0, len(items_ND), step):
        block_CD = items_ND[first : first + step].to(vectors_BD.dtype)
        scores_BC = vectors_BD @ block_CD.t()
        seen.remove(scores_BC, first)
        if error_B is not None:
            settle = functools.partial(_settle, vectors_BD, block_CD)
            scores_BC = round_scores(scores_BC, error_B, best_scores_BK[:, -1:], settle)
        scores_BC = scores_BC.float()
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
    return best


def _settle(vectors_BD: Tensor, block_CD: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return exact_dots(vectors_BD[rows], block_CD[columns])


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


def _empty_lists(vectors_BD: Tensor, k: int) -> TopK:
    B, device = len(vectors_BD), vectors_BD.device
    scores_BK = torch.full((B, k), NOTHING, device=device)
    return TopK(torch.zeros(B, k, dtype=torch.int64, device=device), scores_BK)


def _block_items(vectors_BD: Tensor) -> int:
    budget = SCORES_BUDGET.get(vectors_BD.device.type, SCORES_BUDGET["cpu"])
    return max(1024, budget // max(1, vectors_BD.shape[0]))


def _require_finite(whose: str, x: Tensor) -> None:
    # A sum of float32 numbers in float64 does not overflow, and needs one pass.
    if not math.isfinite(float(x.sum(dtype=torch.float64))):
        raise ValueError(
            f"{whose} vector is not finite, so its scores have no order; the model is broken: "
            "train it again, with a lower learning rate"
        )
