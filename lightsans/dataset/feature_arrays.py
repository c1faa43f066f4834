"""Features of items as arrays: what a learned map of them reads.

Shapes: V = num_items + 1: items and padding   E categories of all items, end to end   F numbers
"""

from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Bool, Float32, Int64


@dataclass(frozen=True, slots=True)
class FeatureArrays:
    """Features of all items; row 0 is padding, which has none."""

    categories: Int64
    """(E,) categories of the items, from 0."""
    weights: Float32
    """(E,) weight of each."""
    offsets: Int64
    """(V + 1,) where the categories of each item begin."""
    numbers: Float32
    """(V, F)"""
    num_categories: int
    is_described: Bool
    """(V,) whether anything is known of an item."""
    is_met: Bool
    """(V,) whether anybody has interacted with it; others are compared with nothing in training."""
    coding: str
    """How they were made, as JSON: kept beside what is learned of them."""

    def __post_init__(self) -> None:
        assert len(self.offsets) == len(self.numbers) + 1
        assert len(self.is_described) == len(self.is_met) == len(self.numbers)
        assert not self.is_described[0]

    @property
    def num_items(self) -> int:
        """Items, padding not counted."""
        return len(self.numbers) - 1

    @property
    def met_ids(self) -> Int64 | None:
        """Ids of the items that somebody met, ascending; None where all were, or none."""
        is_met = self.is_met[1:]
        if is_met.all() or not is_met.any():
            return None
        return np.flatnonzero(is_met) + 1

    @property
    def new_ids(self) -> Int64:
        """Ids of the items that have features, and that nobody met."""
        if self.met_ids is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.is_described & ~self.is_met)
