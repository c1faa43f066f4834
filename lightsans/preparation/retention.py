"""How much of a long history sequences keep; counts and k-core see all of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Retention:
    """What sequences keep. What they drop still counts as seen."""

    keep_last: int | None
    """The newest so many items of every user; None for all."""
    keep_since: int | None
    """Items from this moment on, in microseconds since 1970; None for all."""

    def keeps(self, offsets: Int64, timestamps: Int64, in_sequence: Bool) -> Bool:
        """Which rows stay.

        Args:
            offsets: (U + 1,) where the rows of each user begin; they ascend in time.
            timestamps: (R,)
            in_sequence: (R,) rows that would be in a sequence that keeps everything.
        """
        stays = in_sequence.copy()
        if self.keep_since is not None:
            stays &= timestamps >= self.keep_since
        if self.keep_last is not None:
            before = np.concatenate([[0], np.cumsum(stays)])
            from_end = np.repeat(before[offsets[1:]], np.diff(offsets)) - before[:-1]
            stays &= from_end <= self.keep_last
        return stays
