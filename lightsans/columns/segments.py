"""Segments of an array that follow each other, such as the rows of each user.

Shapes:
    U segments   N entries of all of them, end to end
"""

import numpy as np

from lightsans.arrays import Bool, Int64


def expand(counts: Int64) -> tuple[Int64, Int64]:
    """Repeat each i ``counts[i]`` times: (N,) the i of each copy, and (N,) its rank among them."""
    source = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    return source, rank


def count_true(mask: Bool, offsets: Int64) -> Int64:
    """(U,) entries of each segment that are true; ``offsets`` (U + 1,) has where each begins."""
    before = np.concatenate([[0], np.cumsum(mask)])
    counts: Int64 = before[offsets[1:]] - before[offsets[:-1]]
    return counts
