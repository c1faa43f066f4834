"""Popularity with a window: how often each item came up in the days before a moment.

Shapes:
    T rows   B moments   V = num_items + 1 scores, padding included
"""

import io
from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Bool, Float64, Int32, Int64
from lightsans.dataset.sequences import UserSequences

DAY = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class RecentRows:
    """Rows in order of time. Those of different users add up, so parts can be read apart."""

    times: Int64
    """(T,) microseconds, ascending."""
    item_ids: Int32
    """(T,)"""

    @classmethod
    def collect(cls, item_ids: Int32, times: Int64, is_counted: Bool) -> "RecentRows":
        """Take the marked rows of a tape."""
        times, item_ids = times[is_counted], item_ids[is_counted]
        order = np.argsort(times, kind="stable")
        return cls(times[order], item_ids[order])

    def __add__(self, other: "RecentRows") -> "RecentRows":
        times = np.concatenate([self.times, other.times])
        item_ids = np.concatenate([self.item_ids, other.item_ids])
        order = np.argsort(times, kind="stable")  # two sorted runs: merged in linear time
        return RecentRows(times[order], item_ids[order])

    def to_bytes(self) -> bytes:
        """Serialize to a file that `from_bytes` reads."""
        file = io.BytesIO()
        np.savez(file, times=self.times, item_ids=self.item_ids)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "RecentRows":
        """Read a file written by `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["times"], arrays["item_ids"])


def training_rows(users: UserSequences, times: Int64) -> RecentRows:
    """Rows of some users that a leave-one-out split trains on.

    Args:
        users: Their sequences.
        times: Microseconds of every item of the tape.
    """
    if users.targets is not None:
        targets = users.targets
        return RecentRows.collect(targets.item_ids, targets.times, targets.is_trained)
    position = np.arange(len(users.item_ids)) - np.repeat(users.offsets[:-1], users.lengths)
    is_train = position < np.repeat(users.train_lengths, users.lengths)
    return RecentRows.collect(users.item_ids, times, is_train)


def rows_before(users: UserSequences, times: Int64, moments: list[int], days: int) -> RecentRows:
    """The rows of some users that lie in a window of days before one of some moments."""
    item_ids, times = _popular_rows(users, times)
    is_counted = np.zeros(len(times), bool)
    for moment in moments:
        is_counted |= (times >= moment - days * DAY) & (times < moment)
    return RecentRows.collect(item_ids, times, is_counted)


def _popular_rows(users: UserSequences, times: Int64) -> tuple[Int32, Int64]:
    """Items and times of the rows that popularity counts: with events, the targets."""
    if users.targets is None:
        return users.item_ids, times
    return users.targets.item_ids, users.targets.times


def window_scores(rows: RecentRows, moments_B: Int64, days: int, ties_V: Float64) -> Float64:
    """Rows of each item at ``moment - days <= time < moment``, plus the tie-breaker, (B, V).

    Args:
        rows: Rows to count.
        moments_B: Microseconds, in any order; ascending ones are fastest.
        days: Length of the window.
        ties_V: A share below one for each item, which decides between equal counts.
    """
    first = np.searchsorted(rows.times, moments_B - days * DAY, side="left")
    end = np.searchsorted(rows.times, moments_B, side="left")
    counts, size = np.zeros(len(ties_V), np.int64), len(ties_V)
    scores = np.empty((len(moments_B), size))
    begin, stop = 0, 0  # the rows that are in `counts`
    for row, (low, high) in enumerate(zip(first, end, strict=True)):
        if low >= stop or low < begin or high < stop:  # windows that share no rows, or go back
            counts = np.bincount(rows.item_ids[low:high], minlength=size)
        else:  # rows that enter the window, and rows that leave it
            np.add.at(counts, rows.item_ids[stop:high], 1)
            np.subtract.at(counts, rows.item_ids[begin:low], 1)
        begin, stop = int(low), int(high)
        scores[row] = counts + ties_V
    return scores


def count_rows(users: UserSequences, times: Int64, moment: int, days: int, num_items: int) -> Int64:
    """Rows of each item, (V,), in the days before a moment."""
    item_ids, times = _popular_rows(users, times)
    is_counted = (times >= moment - days * DAY) & (times < moment)
    return np.bincount(item_ids[is_counted], minlength=num_items + 1).astype(np.int64)


def popularity_ties(popularity_V: Int64) -> Float64:
    """(V,) all-time popularity scaled below one, to decide between equal counts."""
    shares: Float64 = popularity_V / (1.0 + float(popularity_V.max(initial=0)))
    return shares
