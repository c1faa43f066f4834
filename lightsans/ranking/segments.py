"""Segments of evaluated users: by length of history, newcomers, popularity of the target, groups.

Shapes: E evaluated users   V = num_items + 1
"""

from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Array, Bool, Int32, Int64

_LENGTHS = np.array([5, 10, 20, 50])
LENGTHS = ("1-4 items", "5-9 items", "10-19 items", "20-49 items", "50 items or more")
NEWCOMERS = ("trained on", "newcomer")
TARGETS = ("unknown", "head", "middle", "tail")
VIEWED = ("not within the hour before", "within the hour before")
TENTHS = 10


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One way of dividing users: a label for each."""

    name: str
    labels: tuple[str, ...]
    codes: Int64
    """(E,) position of each user's label."""


def popularity_tenths(popularity_V: Int64) -> Int32:
    """(V,) 1 for the most popular tenth of the items, to 10; 0 for padding, the unknown item."""
    num_items = len(popularity_V) - 1
    tenths = np.zeros(num_items + 1, np.int32)
    by_popularity = 1 + np.argsort(-popularity_V[1:], kind="stable")
    tenths[by_popularity] = 1 + np.arange(num_items) * TENTHS // max(1, num_items)
    return tenths


def by_history_length(lengths: Int64) -> Segmentation:
    """Tell users apart by the number of items before the target."""
    return Segmentation("history length", LENGTHS, np.searchsorted(_LENGTHS, lengths, side="right"))


def by_newcomers(is_newcomer: Bool) -> Segmentation:
    """Tell users apart by whether any interaction of theirs was trained on."""
    return Segmentation("newcomers", NEWCOMERS, is_newcomer.astype(np.int64))


def by_target(tenths: Int32) -> Segmentation:
    """Tell users apart by the target: the head is a tenth of the items, the tail half of them."""
    codes = np.searchsorted([1, 2, 6], tenths, side="right")
    return Segmentation("target item", TARGETS, codes.astype(np.int64))


def by_view(is_viewed: Bool) -> Segmentation:
    """Tell users apart by whether they viewed the target shortly before it."""
    return Segmentation("target viewed", VIEWED, is_viewed.astype(np.int64))


def sum_segments(segmentation: Segmentation, groups: Int64, values: Array, size: int) -> Array:
    """Sums by label and group, (labels, G, C), as `lightsans.ranking.bootstrap.sum_groups`.

    Args:
        segmentation: Labels of E users.
        groups: (E,) the group of each.
        values: (E, C - 1) metrics of each user alone.
        size: G.
    """
    num_labels = len(segmentation.labels)
    cells = segmentation.codes * size + groups
    columns = [np.bincount(cells, minlength=num_labels * size).astype(np.float64)]
    columns += [np.bincount(cells, column, num_labels * size).astype(float) for column in values.T]
    return np.stack(columns, axis=1).reshape(num_labels, size, -1)
