"""Items that are not to be recommended to a user.

Shapes: S seen items of all users   B users   C items of a block   R users, a part of them
"""

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Int64

NOTHING = float("-inf")
"""Score of an item that is not to be recommended."""


class SeenItems:
    """(row, position) pairs by row: what is not to be recommended to whom."""

    def __init__(self, rows_S: Tensor, ids_S: Tensor, num_rows: int) -> None:
        key_S = (rows_S << 32) + ids_S
        if not bool((rows_S[1:] >= rows_S[:-1]).all()):
            if key_S.device.type == "cpu":  # NumPy sorts whole numbers several times faster
                key_S = torch.from_numpy(np.sort(key_S.numpy()))
            else:
                key_S = key_S.sort().values
        self._key_S = key_S
        self._num_rows = num_rows

    def by_user(self, first: int, end: int, in_order: bool) -> tuple[Int64, Int64, Int64]:
        """All positions of a range of rows, and where each row's begin and end.

        In order of position within a row if asked for. On the CPU only.
        """
        rows = torch.arange(first, min(end, self._num_rows) + 1)
        ends = torch.searchsorted(self._key_S, rows << 32).numpy()
        key_S = self._key_S[int(ends[0]) : int(ends[-1])].numpy()
        if in_order:
            key_S = np.sort(key_S)
        ends -= ends[0]
        return key_S & 0xFFFFFFFF, ends[:-1].copy(), ends[1:]

    def of(self, rows_R: Tensor) -> "SeenItems":
        """Seen items of some rows, ascending, which are renumbered in that order."""
        rows_S = self._key_S >> 32
        rank_S = torch.searchsorted(rows_R, rows_S).clamp(max=len(rows_R) - 1)
        kept_S = rows_R[rank_S] == rows_S
        return self._made_of(
            (rank_S[kept_S] << 32) + (self._key_S[kept_S] & 0xFFFFFFFF), len(rows_R)
        )

    def remove(self, scores_BC: Tensor, first: int) -> None:
        """Set the scores of seen items in a block that starts at position ``first``, in place."""
        if not len(self._key_S):
            return
        ids_S, rows_S = self._by_item()
        ends = torch.tensor([first, first + scores_BC.shape[1]], device=scores_BC.device)
        begin, end = torch.searchsorted(ids_S, ends).tolist()
        scores_BC[rows_S[begin:end], ids_S[begin:end] - first] = NOTHING

    def _by_item(self) -> tuple[Tensor, Tensor]:
        if self._sorted_by_item is None:
            ids_S, order_S = (self._key_S & 0xFFFFFFFF).sort()
            self._sorted_by_item = ids_S, self._key_S[order_S] >> 32
        return self._sorted_by_item

    _sorted_by_item: tuple[Tensor, Tensor] | None = None

    @classmethod
    def _made_of(cls, key_S: Tensor, num_rows: int) -> "SeenItems":
        made = cls.__new__(cls)
        made._key_S, made._num_rows = key_S, num_rows
        return made
