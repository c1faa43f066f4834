"""Figures of a dataset: distributions that add up over its parts.

Lengths and popularity are heavy-tailed, so they are counted in bins that widen: every number up to
ten, then a tenth of a decade each. Nothing here grows with rows or users.

Shapes:
    R rows of a part   U its users   B bins   T bins of time
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lightsans.arrays import Int64
from lightsans.columns.times import to_iso
from lightsans.ranking.concentration import gini

BIN_STARTS: Int64 = np.unique(
    np.concatenate([np.arange(11), np.round(10 ** np.arange(1, 11, 0.1))]).astype(np.int64)
)
"""(B,) least number of each bin."""
TIME_BINS = 100


@dataclass(frozen=True, slots=True)
class PartReport:
    """Counts over the valid rows of a part, and its sequences; those of parts add up."""

    rows: int
    users: int
    trainable: int
    interactions: int
    """Length of all sequences together: rows left after the filters."""
    exact_duplicates: int
    """Rows that repeat user, item and time of another."""
    ties: int
    """Rows with the user and the time of the row before."""
    tied_ends: int
    """Users whose last two rows have the same time, so that the input's order decides."""
    row_counts: Int64
    """(B,) users by number of rows."""
    lengths: Int64
    """(B,) users by length of the sequence."""
    rows_at: Int64
    """(T,) rows by time, in bins of equal width."""

    @classmethod
    def of(
        cls,
        offsets: Int64,
        timestamps: Int64,
        exact_duplicates: int,
        time_range: tuple[int, int],
    ) -> "PartReport":
        """Count the rows of a part; its sequences are not known yet.

        Args:
            offsets: (U + 1,) where each user's rows begin.
            timestamps: (R,) ascending for each user.
            exact_duplicates: Rows that repeat another.
            time_range: Least and greatest timestamp of the dataset.
        """
        is_tied = np.zeros(len(timestamps), bool)
        is_tied[1:] = timestamps[1:] == timestamps[:-1]
        is_tied[offsets[:-1]] = False
        first, _ = time_range
        return cls(
            rows=len(timestamps),
            users=len(offsets) - 1,
            trainable=0,
            interactions=0,
            exact_duplicates=exact_duplicates,
            ties=int(is_tied.sum()),
            tied_ends=int(is_tied[offsets[1:] - 1].sum()),
            row_counts=histogram(np.diff(offsets)),
            lengths=histogram(np.zeros(0, np.int64)),
            rows_at=np.bincount((timestamps - first) // bin_width(time_range), minlength=TIME_BINS),
        )

    def with_sequences(self, lengths: Int64, num_trainable: int) -> "PartReport":
        """The same rows, and the sequences derived from them.

        Args:
            lengths: (U,) lengths of the sequences; 0 for users who have none.
            num_trainable: Users to learn from.
        """
        return replace(
            self,
            trainable=num_trainable,
            interactions=int(lengths.sum()),
            lengths=histogram(lengths[lengths > 0]),
        )

    def __add__(self, other: "PartReport") -> "PartReport":
        names = [field.name for field in fields(self)]
        return PartReport(*(getattr(self, name) + getattr(other, name) for name in names))

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "PartReport":
        """The object behind the content that `to_dict` made."""
        values: dict[str, Any] = {
            name: np.array(value) if isinstance(value, list) else value
            for name, value in content.items()
        }
        return cls(**values)


def bin_width(time_range: tuple[int, int]) -> int:
    """Microseconds of a bin when the time from the first to the second is cut into `TIME_BINS`."""
    first, last = time_range
    return max(1, -(-(last - first + 1) // TIME_BINS))


def histogram(values: Int64) -> Int64:
    """(B,) numbers counted by the bins of `BIN_STARTS`."""
    bins = np.searchsorted(BIN_STARTS, values, side="right") - 1
    return np.bincount(bins, minlength=len(BIN_STARTS)).astype(np.int64)


def describe_bins(counts: Int64) -> list[dict[str, int]]:
    """A histogram for JSON: ``{from, to, count}`` of each bin that is not empty, ends included."""
    ends = np.append(BIN_STARTS[1:] - 1, np.iinfo(np.int64).max)
    rows = zip(BIN_STARTS.tolist(), ends.tolist(), counts.tolist(), strict=True)
    return [{"from": first, "to": last, "count": n} for first, last, n in rows if n]


def describe_popularity(counts: Int64) -> dict[str, Any]:
    """Popularity of the items: how unevenly interactions fall on them.

    Args:
        counts: Interactions of each item of the vocabulary.
    """
    falling = np.sort(counts)[::-1]
    total = int(falling.sum())
    shares = {
        f"top_{percent}_percent_share": float(
            falling[: max(1, len(falling) * percent // 100)].sum() / total
        )
        for percent in (1, 10)
    }
    ranks = np.unique(np.round(np.geomspace(1, len(falling), 50)).astype(np.int64))
    return {
        "items": len(falling),
        "most": int(falling[0]),
        "median": float(np.median(falling)),
        "gini": gini(falling[::-1]),
        **shares,
        "histogram": describe_bins(histogram(falling)),
        "count_by_rank": [{"rank": int(r), "count": int(falling[r - 1])} for r in ranks],
    }


def quantiles_of(counts: Int64, shares: Sequence[float] = (0.1, 0.5, 0.9, 0.99)) -> dict[str, int]:
    """Lower end of the bin that each quantile lies in; exact up to ten."""
    reached = np.cumsum(counts)
    if not reached[-1]:
        return {}
    at = [int(np.searchsorted(reached, share * reached[-1])) for share in shares]
    return {f"{share:g}": int(BIN_STARTS[bin_]) for share, bin_ in zip(shares, at, strict=True)}


def describe_dataset(
    total: PartReport,
    vocabulary_counts: Int64,
    time_range: tuple[int, int],
    cutoffs: Mapping[str, int],
) -> dict[str, Any]:
    """The part of the report that follows from counts.

    Args:
        total: The sum over all parts.
        vocabulary_counts: Interactions of each item of the vocabulary.
        time_range: Least and greatest timestamp of a valid row, in microseconds.
        cutoffs: Moments of a temporal split by name; empty for leave-one-out.
    """
    living = vocabulary_counts[vocabulary_counts > 0]
    first, last = time_range
    width = bin_width(time_range)
    return {
        "users": total.users,
        "trainable_users": total.trainable,
        "items": len(living),
        "interactions": total.interactions,
        "density": total.interactions / max(1, total.trainable * len(living)),
        "lengths": {
            "rows_per_user": _describe_lengths(total.row_counts, total.rows),
            "sequences": _describe_lengths(total.lengths, total.interactions),
        },
        "popularity": describe_popularity(living),
        "time": {
            "from": to_iso(first),
            "to": to_iso(last),
            "histogram": [
                {"from": to_iso(first + number * width), "count": count}
                for number, count in enumerate(total.rows_at.tolist())
                if first + number * width <= last
            ],
            **({"cutoffs": {n: to_iso(at) for n, at in cutoffs.items()}} if cutoffs else {}),
        },
        "ties": {
            "rows": total.ties,
            "share_of_rows": total.ties / max(1, total.rows),
            "users_whose_last_two_rows_tie": total.tied_ends,
        },
    }


def _describe_lengths(counts: Int64, total: int) -> dict[str, Any]:
    users = int(counts.sum())
    return {
        "users": users,
        "mean": total / max(1, users),
        "quantiles": quantiles_of(counts),
        "histogram": describe_bins(counts),
    }
