"""Metrics of users, kept by night, and pooled over nights: means, intervals, paired leads.

A user's days all lie in one group of the bootstrap (a hash of the id), so intervals allow for users
who come back. No ids are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lightsans.arrays import Float64, Int64
from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.ranking.bootstrap import (
    Estimate,
    estimate_differences,
    estimate_means,
    resample,
    sum_groups,
)
from lightsans.storage.location import Location

AT = 10
NAMES = (f"first hit@{AT}", f"first ndcg@{AT}", f"any hit@{AT}", f"any ndcg@{AT}")
Estimates = dict[str, Estimate]


@dataclass(frozen=True, eq=False, slots=True)
class Gains:
    """Metrics of some users, each alone."""

    buckets: Int64
    """(U,) group of each user."""
    values: Float64
    """(U, 4) metrics, in the order of `NAMES`."""

    def __len__(self) -> int:
        return len(self.buckets)

    @property
    def sums(self) -> Float64:
        """(G, 5) sums by group."""
        return sum_groups(self.buckets, self.values, NUM_BUCKETS)

    def means(self) -> Estimates:
        """Means over the users, with 95 % intervals; empty where there are none."""
        if not len(self):
            return {}
        sums = self.sums
        return dict(zip(NAMES, estimate_means(sums, resample(sums)), strict=True))

    def leads(self, other: "Gains") -> Estimates:
        """Means minus those of other lists for the same users; empty where users differ."""
        ours, theirs = self.sums, other.sums
        if not len(self) or not np.array_equal(ours[:, 0], theirs[:, 0]):
            return {}
        found = estimate_differences((ours, resample(ours)), (theirs, resample(theirs)))
        return dict(zip(NAMES, found, strict=True))


def joined(gains: Sequence[Gains]) -> Gains:
    """Users of several parts or nights together; one who comes twice counts twice."""
    buckets = [each.buckets for each in gains] or [np.zeros(0, np.int64)]
    values = [each.values for each in gains] or [np.zeros((0, len(NAMES)))]
    return Gains(np.concatenate(buckets), np.concatenate(values))


def write_gains(file: Location, gains: Mapping[str, Gains]) -> None:
    """Write metrics of users by the name of what they are of."""
    tables = [
        pa.table(
            {
                "lists": pa.array([name] * len(each), pa.string()),
                "bucket": pa.array(each.buckets),
                **{metric: each.values[:, n] for n, metric in enumerate(NAMES)},
            }
        )
        for name, each in gains.items()
    ]
    file.write_table(pa.concat_tables(tables))


def read_gains(file: Location) -> dict[str, Gains]:
    """The metrics in a file, by the name of what they are of; those of nobody are not there."""
    table = file.read_table()
    lists = np.array(table["lists"].to_pylist(), object)
    buckets = table["bucket"].to_numpy()
    values = np.column_stack([table[name].to_numpy() for name in NAMES])
    return {
        name: Gains(buckets[lists == name], values[lists == name]) for name in sorted(set(lists))
    }
