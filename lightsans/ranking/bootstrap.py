"""Confidence intervals of metrics and of paired differences, by a bootstrap over groups of users.

A metric is a sum over users divided by their number. The usual bootstrap draws users again, one by
one: its time is users times replicates, and drawing needs every user at hand. Here users are added
up first within G groups, which a hash of their id assigns them to (the buckets of a dataset), and a
replicate gives every group a weight drawn from a Poisson distribution of mean 1:

- Parts are summed up apart and in any order; one pass over the users, whose number does not matter
  afterwards: G times the number of metrics is all that is kept.
- A Poisson weight is the number of times that a group is drawn in the limit of many groups. Weights
  need not add up to G, so each replicate divides by its own number of users.
- A hash spreads users at random. A group's sum then varies as a user's does, times the group's
  size, so the interval is that of the bootstrap over users; that it is estimated from G groups
  makes its width uncertain by about 1 / sqrt(2 G), one per cent for the 4,096 buckets.
- Weights depend on seed and group alone. Two scorers that ranked the same users are weighted alike,
  so the difference of their replicates is a paired one, also between evaluations made apart.

The interval is between percentiles. It needs some tens of hits to be worth its name: of a metric
that is zero for everybody it is [0, 0].

Source: Chamandy et al., "Estimating Uncertainty for Massive Data Streams", Google, 2012 (Poisson
weights); Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13 (percentiles).

Shapes:
    G groups   C columns: the number of users, then sums of metrics   R replicates
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lightsans.arrays import Bool, Float64, Int64, UInt8

REPLICATES, SEED = 2000, 2020
TAILS = (0.025, 0.975)
"""Percentiles between which the 95 % interval lies."""
_AT_ONCE = 256
"""Replicates whose weights are held at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the interval."""
        return self.low, self.high

    def __truediv__(self, divisor: float) -> "Estimate":
        """The estimate of the value divided by a positive number."""
        return Estimate(self.value / divisor, self.low / divisor, self.high / divisor)

    def __format__(self, spec: str) -> str:
        """The value with its interval in brackets, each number as ``spec`` says."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def sum_groups(groups: Int64, values: Float64, num_groups: int) -> Float64:
    """(G, C) sums by group: a column that counts the users, then one for each column of values.

    Args:
        groups: (U,) group of each user.
        values: (U, C - 1) metrics of each user alone.
        num_groups: G.
    """
    columns = [np.bincount(groups, minlength=num_groups).astype(np.float64)]
    columns += [np.bincount(groups, column, num_groups).astype(float) for column in values.T]
    return np.stack(columns, axis=1)


def means(sums: Float64) -> Float64:
    """(..., C - 1) sums of metrics (..., C) divided by their first column; 0 without users."""
    users = sums[..., :1]
    found: Float64 = np.divide(
        sums[..., 1:], users, out=np.zeros_like(sums[..., 1:]), where=users > 0
    )
    return found


def resample(sums_GC: Float64, replicates: int = REPLICATES, seed: int = SEED) -> Float64:
    """(R, C) sums of weighted groups: one row a replicate; equal seeds give equal weights."""
    weights = _weights(len(sums_GC), replicates, seed)
    used = np.flatnonzero(sums_GC.any(axis=1))  # of few users, most groups have none
    if len(used) < len(sums_GC):
        weights, sums_GC = weights[:, used], sums_GC[used]
    found = [
        weights[first : first + _AT_ONCE].astype(np.float64) @ sums_GC
        for first in range(0, replicates, _AT_ONCE)
    ]
    return np.concatenate(found)


@lru_cache(maxsize=1)  # drawing takes most of the time, and the same are drawn again and again
def _weights(num_groups: int, replicates: int, seed: int) -> UInt8:
    """(R, G) weights of groups; a larger one than 255 never comes up."""
    generator = np.random.default_rng(seed)
    found = np.empty((replicates, num_groups), np.uint8)
    for first in range(0, replicates, _AT_ONCE):
        rows = found[first : first + _AT_ONCE]
        rows[:] = generator.poisson(1.0, rows.shape)
    return found


def has_users(replicates_RC: Float64) -> Bool:
    """(R,) replicates that drew anybody: of few users, none may have been drawn."""
    drawn: Bool = replicates_RC[:, 0] > 0
    return drawn


def interval(values_R: Float64, value: float) -> Estimate:
    """The estimate whose replicates have these values."""
    if not len(values_R):
        return Estimate(value, value, value)
    low, high = np.quantile(values_R, TAILS)
    return Estimate(value, float(low), float(high))


def estimate_means(sums_GC: Float64, replicates_RC: Float64) -> list[Estimate]:
    """Estimates of all metrics, in the order of their columns.

    Args:
        sums_GC: Sums by group.
        replicates_RC: Their `resample`.
    """
    values = means(sums_GC.sum(axis=0))
    drawn = means(replicates_RC[has_users(replicates_RC)])
    return [interval(drawn[:, column], float(value)) for column, value in enumerate(values)]


def estimate_differences(
    ours: tuple[Float64, Float64], theirs: tuple[Float64, Float64]
) -> list[Estimate]:
    """Estimates of our means minus theirs, of all metrics.

    Args:
        ours: Sums by group, and their `resample`.
        theirs: The same of another scorer that ranked the same users, of the same seed.
    """
    _require_pairs(ours[0], theirs[0])
    values = means(ours[0].sum(axis=0)) - means(theirs[0].sum(axis=0))
    is_drawn = has_users(ours[1])
    drawn = means(ours[1][is_drawn]) - means(theirs[1][is_drawn])
    return [interval(drawn[:, column], float(value)) for column, value in enumerate(values)]


def estimate_drops(
    ours: tuple[Float64, Float64], theirs: tuple[Float64, Float64]
) -> list[Estimate]:
    """Estimates of how far our means lie below theirs, as shares of theirs; arguments as above.

    Where they have nothing to lose, a mean of 0, the drop is 0.
    """
    _require_pairs(ours[0], theirs[0])
    is_drawn = has_users(ours[1])
    drawn = _drop(means(ours[1][is_drawn]), means(theirs[1][is_drawn]))
    values = _drop(means(ours[0].sum(axis=0)), means(theirs[0].sum(axis=0)))
    return [interval(drawn[:, column], float(value)) for column, value in enumerate(values)]


def _drop(ours: Float64, theirs: Float64) -> Float64:
    found: Float64 = np.divide(
        theirs - ours, theirs, out=np.zeros_like(ours), where=np.asarray(theirs) > 0
    )
    return found


def _require_pairs(ours: Float64, theirs: Float64) -> None:
    if ours.shape != theirs.shape or not np.array_equal(ours[:, 0], theirs[:, 0]):
        raise ValueError(
            "two scorers ranked different users, so they make no pairs: "
            f"{ours[:, 0].sum():.0f} and {theirs[:, 0].sum():.0f} of them"
        )
