"""A log cut by time with the pipeline's own code: sequences, their periods, and what came next.

Shapes:
    U users   E users who are evaluated   K items of a list
"""

from typing import NamedTuple

import numpy as np

from lightsans.arrays import Float64, Int64
from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.config import DataConfig
from lightsans.dataset.held_out import Split, hold_out
from lightsans.dataset.sequences import ItemTimes, UserSequences
from lightsans.preparation.temporal import MICROS, Cutoffs, cut_periods
from lightsans.stages.filters import count_later, cutoffs_of_shares
from pipelines.backtest.next_days import score
from pipelines.backtest.pooled import AT, NAMES, Gains


class Rows(NamedTuple):
    """A log by user, each user's rows in order of time, ties as in its file."""

    items: Int64
    times: Int64
    """Microseconds."""
    offsets: Int64
    """(U + 1,) where each user's rows begin."""

    @classmethod
    def of(cls, users: Int64, items: Int64, seconds: Int64) -> "Rows":
        """Rows in the order of a file."""
        order = np.lexsort((np.arange(len(users)), seconds, users))
        lengths = np.unique(users, return_counts=True)[1]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls(items[order], seconds[order].astype(np.int64) * MICROS, offsets)

    def cutoffs(self, data: DataConfig) -> Cutoffs:
        """Cut-offs that leave the configured shares behind them."""
        time_range = int(self.times.min()), int(self.times.max())
        return cutoffs_of_shares(
            lambda edges: count_later(self.times, None, edges), data, None, time_range
        )


class Cut(NamedTuple):
    """A log as a model learns from it and is asked about it."""

    users: UserSequences
    """All users of the rows; what is neither known nor before the second cut-off left out."""
    raw_item_ids: Int64
    """(num_items + 1,) ids of the log; -1 for padding."""
    cutoffs: Cutoffs

    @property
    def num_items(self) -> int:
        """Items of the vocabulary."""
        return len(self.raw_item_ids) - 1

    def next_items(self, rows: Rows, split: Split) -> list[list[str]]:
        """Find up to ten items that each evaluated user met next, oldest first, known or not."""
        begin, end = self.cutoffs.valid_from, self.cutoffs.test_from
        if split == "test":
            begin, end = end, int(rows.times.max()) + 1
        found = []
        for user in hold_out(self.users, split).users:
            own = slice(rows.offsets[user], rows.offsets[user + 1])
            first, last = np.searchsorted(rows.times[own], [begin, end])
            found.append([str(item) for item in rows.items[own][first : min(last, first + AT)]])
        return found

    def gains(self, lists_EK: Int64, met: list[list[str]], split: Split) -> Gains:
        """Metrics of lists in the numbers of the vocabulary."""
        users = hold_out(self.users, split).users
        values = []
        for numbers, items in zip(lists_EK, met, strict=True):
            listed = [str(item) for item in self.raw_item_ids[numbers[numbers > 0]]]
            values.append(score(listed, items))
        of_users: Float64 = np.array(values).reshape(-1, len(NAMES))
        return Gains(users.astype(np.int64) % NUM_BUCKETS, of_users)


def cut_by_time(rows: Rows, cutoffs: Cutoffs, least: int) -> Cut:
    """Cut a log; rows before the first cut-off make the vocabulary.

    Args:
        rows: The log.
        cutoffs: Where to cut. With both at one moment nothing is for validation, and everything
            before it for training.
        least: Rows from which on an item is in the vocabulary.
    """
    raw, counts = np.unique(rows.items[rows.times < cutoffs.valid_from], return_counts=True)
    raw, counts = raw[counts >= least], counts[counts >= least]
    number = np.empty(len(raw), np.int32)
    number[np.argsort(-counts, kind="stable")] = np.arange(1, len(raw) + 1, dtype=np.int32)
    place = np.minimum(np.searchsorted(raw, rows.items), len(raw) - 1)
    item_ids = np.where(raw[place] == rows.items, number[place], 0).astype(np.int32)
    kept = (item_ids > 0) & (rows.times < cutoffs.test_from)
    everything = np.ones(len(item_ids), bool)
    periods = cut_periods(rows.offsets, item_ids, rows.times, everything, kept, cutoffs)
    times = ItemTimes(rows.times[kept], cutoffs.valid_from, cutoffs.test_from)
    offsets = np.concatenate([[0], np.cumsum(kept)])[rows.offsets]
    raw_item_ids = np.concatenate([[-1], raw[np.argsort(number)]])
    return Cut(UserSequences(item_ids[kept], offsets, periods, times=times), raw_item_ids, cutoffs)
