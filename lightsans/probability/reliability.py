"""Reliability of probabilities: what was promised against what happened, in bins.

Shapes: N pairs of a user and an item   E bins
"""

from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Bool, Float64

EDGES = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Edges of the bins of probabilities; narrow below, as most of them are small."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Pairs whose probability is in a range."""

    above: float
    up_to: float
    pairs: int
    probability: float
    """Mean of what was promised."""
    hit_share: float
    """Share of the items that came next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """Promised probabilities beside the share of items that came next."""

    pairs: int
    expected_hits: float
    """Sum of the probabilities."""
    hits: int
    calibration_error: float
    """Expected calibration error: mean over pairs of their bin's distance between the two."""
    bins: tuple[Bin, ...]
    """Bins with a pair."""


def measure_reliability(probabilities_N: Float64, is_hit_N: Bool) -> Reliability:
    """Compare probabilities with what happened.

    Args:
        probabilities_N: Between 0 and 1.
        is_hit_N: Whether the item was the one that came next.
    """
    bin_N = np.searchsorted(np.array(EDGES[1:-1]), probabilities_N)
    counts = np.bincount(bin_N, minlength=len(EDGES) - 1)
    promised = np.bincount(bin_N, probabilities_N, len(EDGES) - 1)
    hits = np.bincount(bin_N, is_hit_N, len(EDGES) - 1)
    bins = tuple(
        Bin(
            above=EDGES[e],
            up_to=EDGES[e + 1],
            pairs=int(counts[e]),
            probability=float(promised[e] / counts[e]),
            hit_share=float(hits[e] / counts[e]),
        )
        for e in np.flatnonzero(counts)
    )
    num_pairs = len(probabilities_N)
    return Reliability(
        pairs=num_pairs,
        expected_hits=float(probabilities_N.sum()),
        hits=int(is_hit_N.sum()),
        calibration_error=float(np.abs(promised - hits).sum() / max(1, num_pairs)),
        bins=bins,
    )
