"""Concentration of interactions or recommendations on few items, without torch."""

import numpy as np

from lightsans.arrays import Array


def gini(counts: Array) -> float:
    """0 when all items have equal counts, towards 1 when one item has everything; 0 of nothing."""
    ascending = np.sort(counts)
    n, total = len(ascending), float(ascending.sum())
    if not total:
        return 0.0
    ranks = np.arange(1, n + 1)
    return float(2 * (ranks * ascending).sum() / (n * total) - (n + 1) / n)
