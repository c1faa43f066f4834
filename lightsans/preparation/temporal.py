"""A split by time: where its cut-offs are, and what lies on which side of them.

Rows before the first cut-off are for training, and they alone make vocabulary, counts and k-core.
A user's valid target is the first interaction between the cut-offs, the test target the first one
from the second on; each is predicted from everything before it that is not of its own period.

Shapes:
    R rows of a part   U its users   E edges
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Bool, Int32, Int64
from lightsans.dataset.sequences import NO_TARGET, Periods

MICROS = 10**6
NUM_PERIODS = 3
_EDGES = 2**16


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Two moments in microseconds since 1970, the first one earlier."""

    valid_from: int
    """Rows from here on are for validation."""
    test_from: int
    """Rows from here on are for testing."""

    def period_of(self, timestamps: Int64) -> Int32:
        """(R,) 0 for training, 1 for validation, 2 for testing."""
        edges = np.array([self.valid_from, self.test_from])
        return np.searchsorted(edges, timestamps, side="right").astype(np.int32)

    def period_offsets(self, offsets: Int64, timestamps: Int64) -> Int64:
        """(3 U + 1,) where the rows of each period of each user begin, with the end.

        Args:
            offsets: (U + 1,) where each user's rows begin; they ascend in time.
            timestamps: (R,)
        """
        period = self.period_of(timestamps)
        rows_before = [np.concatenate([[0], np.cumsum(period < p)]) for p in range(1, NUM_PERIODS)]
        first, last = offsets[:-1], offsets[1:]
        begins = [first, *(first + before[last] - before[first] for before in rows_before)]
        return np.append(np.stack(begins, axis=1).ravel(), offsets[-1:]).astype(np.int64)


def find_cutoff(
    count_from: Callable[[Int64], Int64], oldest: int, newest: int, max_rows: float
) -> int:
    """The first whole second from which on there are at most so many rows.

    Args:
        count_from: (E,) ascending moments in microseconds -> rows at or after each.
        oldest: Least timestamp.
        newest: Greatest timestamp.
        max_rows: Rows that may lie at or after the cut-off.

    Returns:
        Microseconds since 1970.
    """
    low, high = oldest // MICROS, newest // MICROS + 1  # nothing lies at or after `high`
    while low < high:
        num_edges = min(_EDGES, high - low + 1)
        edges = np.unique(np.linspace(low, high, num_edges).astype(np.int64))
        is_enough = count_from(edges * MICROS) <= max_rows
        first = int(np.argmax(is_enough))
        low, high = int(edges[first - 1]) + 1 if first else low, int(edges[first])
    return high * MICROS


def cut_periods(
    offsets: Int64,
    item_ids: Int32,
    timestamps: Int64,
    is_kept: Bool,
    in_sequence: Bool,
    cutoffs: Cutoffs,
) -> Periods:
    """Find the cut-offs in the sequences that a part's rows make.

    Args:
        offsets: (U + 1,) where each user's rows begin; they ascend in time.
        item_ids: (R,) 0 outside the vocabulary.
        timestamps: (R,)
        is_kept: (R,) rows that pass the filters: the first one of a period is its target.
        in_sequence: (R,) those of them that are in the sequences.
        cutoffs: The split.
    """
    period = cutoffs.period_of(timestamps)

    def count(is_counted: Bool) -> Int64:
        before = np.concatenate([[0], np.cumsum(is_counted)])
        counted: Int64 = before[offsets[1:]] - before[offsets[:-1]]
        return counted

    def first_item(wanted: int) -> Int64:
        rows = np.flatnonzero(is_kept & (period == wanted))
        place = np.searchsorted(rows, offsets[:-1])
        rows = np.append(rows, len(period))  # behind the last row: nobody's
        items = np.append(item_ids, 0).astype(np.int64)
        row = rows[place]
        return np.where(row < offsets[1:], items[row], NO_TARGET)

    return Periods(
        train_lengths=count(in_sequence & (period == 0)),
        test_lengths=count(in_sequence & (period <= 1)),
        valid_targets=first_item(1),
        test_targets=first_item(2),
    )
