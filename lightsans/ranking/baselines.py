"""Baselines for a sequential model: popularity, and the most frequent successor.

Both are counted on training interactions only and rank all items, like the model.
"""

import io
from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Float32, Float64, Int32, Int64
from lightsans.columns.segments import expand
from lightsans.dataset.sequences import UserSequences


@dataclass(frozen=True, slots=True)
class TransitionCounts:
    """Counts of each item's interactions, and of the items that came right after it.

    Counts of different users add up, so parts can be counted apart and merged.
    """

    num_items: int
    popularity: Int64
    """(num_items + 1,) training interactions of each item."""
    pairs: Int64
    """Sorted distinct codes ``item * (num_items + 1) + next item``."""
    pair_counts: Int64

    @classmethod
    def count(cls, users: UserSequences, num_items: int) -> "TransitionCounts":
        """Count the training interactions of some users; of a log with events its targets.

        A target then comes right after the last input before it.
        """
        if users.targets is not None:
            targets = users.targets
            popularity = np.bincount(targets.item_ids[targets.is_trained], minlength=num_items + 1)
            learnt = targets.is_learnt
            last = (users.offsets[targets.user] + targets.positions)[learnt] - 1
            codes = users.item_ids[last].astype(np.int64) * (num_items + 1)
            codes += targets.item_ids[learnt]
            pairs, pair_counts = np.unique(codes, return_counts=True)
            return cls(num_items, popularity.astype(np.int64), pairs, pair_counts.astype(np.int64))
        lengths = users.train_lengths
        position = np.arange(len(users.item_ids)) - np.repeat(users.offsets[:-1], users.lengths)
        is_train = position < np.repeat(lengths, users.lengths)
        is_source = position + 1 < np.repeat(lengths, users.lengths)
        popularity = np.bincount(users.item_ids[is_train], minlength=num_items + 1)
        source = np.flatnonzero(is_source)
        items = users.item_ids.astype(np.int64)
        codes = items[source] * (num_items + 1) + items[source + 1]
        pairs, pair_counts = np.unique(codes, return_counts=True)
        return cls(num_items, popularity.astype(np.int64), pairs, pair_counts.astype(np.int64))

    def to_bytes(self) -> bytes:
        """Serialize to a file that `from_bytes` reads."""
        file = io.BytesIO()
        np.savez(file, popularity=self.popularity, pairs=self.pairs, pair_counts=self.pair_counts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "TransitionCounts":
        """Read a file written by `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            popularity = arrays["popularity"]
            return cls(len(popularity) - 1, popularity, arrays["pairs"], arrays["pair_counts"])

    def __add__(self, other: "TransitionCounts") -> "TransitionCounts":
        codes = np.concatenate([self.pairs, other.pairs])
        codes.sort(kind="stable")  # two sorted runs: merged in linear time, in place
        is_new = np.append(True, codes[1:] != codes[:-1])[: len(codes)]
        pairs = codes[is_new]
        del codes
        pair_counts = np.zeros(len(pairs), np.int64)
        for counts in (self, other):  # each has a pair once: nothing is added twice in a place
            pair_counts[np.searchsorted(pairs, counts.pairs)] += counts.pair_counts
        return TransitionCounts(
            self.num_items, self.popularity + other.popularity, pairs, pair_counts
        )


def popular_scores(counts: TransitionCounts, item_ids: Int32, lengths: Int64) -> Float32:
    """(B, V) training popularity of every item, whatever the history."""
    return np.tile(counts.popularity.astype(np.float32), (len(lengths), 1))


def successor_scores(counts: TransitionCounts, item_ids: Int32, lengths: Int64) -> Float64:
    """(B, V) how often each item followed the last one of the history; ties by popularity."""
    size = counts.num_items + 1
    # Popularity scaled below one decides between equal successor counts.
    scale = 1.0 / (1.0 + float(counts.popularity.max(initial=0)))
    scores = np.tile(counts.popularity * scale, (len(lengths), 1))
    last = item_ids[np.arange(len(lengths)), np.maximum(lengths - 1, 0)].astype(np.int64)
    first = np.searchsorted(counts.pairs, last * size)
    end = np.searchsorted(counts.pairs, (last + 1) * size)
    rows, rank = expand(end - first)
    entries = first[rows] + rank
    scores[rows, counts.pairs[entries] % size] += counts.pair_counts[entries]
    return scores
