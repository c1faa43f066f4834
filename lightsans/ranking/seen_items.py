"""Items that are not to be recommended to a user.

Shapes: S seen items of all users   B users   C items of a block   R users, a part of them
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Int64

NOTHING = float("-inf")
"""Score of an item that is not to be recommended."""


class SeenItems:
    """(row, position) pairs by row: what is not to be recommended to whom."""

    def __init__(self, rows_S: Tensor, ids_S: Tensor, num_rows: int) -> None:
        rows = by_one_thread(rows_S)
        if not bool((rows[1:] >= rows[:-1]).all()):
            key_S = (rows_S << 32) + ids_S
            if key_S.device.type == "cpu":  # NumPy sorts whole numbers several times faster
                key_S = torch.from_numpy(np.sort(key_S.numpy()))
            else:
                key_S = key_S.sort().values
            rows_S, ids_S = key_S >> 32, key_S & 0xFFFFFFFF
        self._rows_S, self._ids_S = rows_S, ids_S
        self._num_rows = num_rows

    def by_user(self, first: int, end: int, in_order: bool) -> tuple[Int64, Int64, Int64]:
        """All positions of a range of rows, and where each row's begin and end.

        In order of position within a row if asked for. On the CPU only.
        """
        rows = np.arange(first, min(end, self._num_rows) + 1)
        ends = np.searchsorted(self._rows_S.numpy(), rows)
        here = slice(ends[0], ends[-1])
        ids_S = self._ids_S.numpy()[here]
        if in_order:
            ids_S = np.sort((self._rows_S.numpy()[here] << 32) + ids_S) & 0xFFFFFFFF
        ends -= ends[0]
        return ids_S, ends[:-1].copy(), ends[1:]

    def of(self, rows_R: Tensor) -> "SeenItems":
        """Seen items of some rows, ascending, which are renumbered in that order."""
        rank_S = torch.searchsorted(rows_R, self._rows_S).clamp(max=len(rows_R) - 1)
        kept_S = rows_R[rank_S] == self._rows_S
        return SeenItems(rank_S[kept_S], self._ids_S[kept_S], len(rows_R))

    def remove(self, scores_BC: Tensor, first: int) -> None:
        """Set the scores of seen items in a block that starts at position ``first``, in place."""
        if not len(self._ids_S):
            return
        ids_S, rows_S = self._by_item()
        ends = torch.tensor([first, first + scores_BC.shape[1]], device=scores_BC.device)
        begin, end = torch.searchsorted(ids_S, ends).tolist()
        scores_BC[rows_S[begin:end], ids_S[begin:end] - first] = NOTHING

    def _by_item(self) -> tuple[Tensor, Tensor]:
        if self._sorted_by_item is None:
            ids_S, order_S = self._ids_S.sort()
            self._sorted_by_item = ids_S, self._rows_S[order_S]
        return self._sorted_by_item

    _sorted_by_item: tuple[Tensor, Tensor] | None = None


def by_one_thread(x: Tensor) -> Any:
    """A tensor of the CPU as an array: torch would wake other threads for microseconds of work."""
    return x.numpy() if x.device.type == "cpu" else x
