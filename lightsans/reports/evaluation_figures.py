"""Figures of an evaluation: metrics with intervals, differences, segments, properties of lists.

Parts are measured apart. What they measure is a dict of arrays by name, which add up; a name that
one of two lacks counts as zero:

    totals/SCORER/SPLIT                 the users, then the targets at each rank: exact metrics
    groups/SCORER/SPLIT                 (G, C) sums by bucket: intervals, see `ranking.bootstrap`
    segment/SCORER/DIMENSION/LABEL      (G, C) the same of the test users of a segment, at 10 alone
    items/SCORER                        (V,) how often each item is in a list of test users
    listed                              (1,) test users who have a list of somebody else

Shapes:
    E evaluated users   G buckets of users   C columns: users, then metrics   V = num_items + 1
    R replicates
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import numpy as np

from lightsans.arrays import Array, Float64, Int64
from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.config.kinds import BASELINES
from lightsans.ranking.bootstrap import (
    Estimate,
    estimate_differences,
    estimate_drops,
    estimate_means,
    resample,
    sum_groups,
)
from lightsans.ranking.concentration import gini
from lightsans.ranking.metrics import RankingTotals, base_metrics, user_metrics
from lightsans.ranking.segments import LENGTHS, NEWCOMERS, TARGETS, Segmentation, sum_segments
from lightsans.storage.records import fields_beside

V = TypeVar("V")
Measured = dict[str, Array]
SEGMENT_KS = (10,)
LIST_FIGURES = ("novelty@10", "diversity@10")
"""Means over test users that stand after their metrics."""
MODEL, RECOMMENDATIONS = "model", "recommendations"
POPULAR, POPULAR_RECENT, SUCCESSOR = BASELINES


ByScorer = Mapping[str, Mapping[str, Mapping[str, V]]]
"""Values by scorer, split and metric; none of a split without users."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentFigures:
    """Test metrics of a segment at 10."""

    users: int
    scorers: Mapping[str, Mapping[str, Estimate]] = fields_beside()
    """Estimates by scorer and metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListFigures:
    """Properties of a scorer's test lists."""

    means: Mapping[str, Estimate] = fields_beside()
    """`LIST_FIGURES`, means over users."""
    gini: float
    """How unevenly recommendations fall on items."""
    recommended_items: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedLists:
    """How much of the lists of somebody else is in a dataset."""

    users: int
    """Users who have a list."""
    users_found: int
    items: int
    """Different items of all lists."""
    items_found: int
    with_list: int = 0
    """Test users who have a list; the others count as misses."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class EvaluationFigures:
    """Figures of an evaluation, as its manifest holds them; early versions had metrics alone."""

    metrics: ByScorer[float]
    users: Mapping[str, int] = field(default_factory=dict)
    """Evaluated users by split."""
    intervals: ByScorer[tuple[float, float]] = field(default_factory=dict)
    """95 % intervals of the metrics."""
    differences: ByScorer[Estimate] = field(default_factory=dict)
    """Paired lead of the model over each baseline."""
    segments: Mapping[str, Mapping[str, SegmentFigures]] = field(default_factory=dict)
    """Segments by dimension and label."""
    lists: Mapping[str, ListFigures] = field(default_factory=dict)
    """Properties of lists by scorer."""
    matched: MatchedLists | None = None
    """None without lists of somebody else."""

    def __repr__(self) -> str:
        """A line for each split and scorer, with the metrics that most look at."""
        splits = dict.fromkeys(split for found in self.metrics.values() for split in found)
        lines = [
            f"{split}, {self.users.get(split, 0):,} users, {scorer}: "
            + "  ".join(f"{k} {v:.4f}" for k, v in found[split].items() if _is_shown(k))
            for split in splits
            for scorer, found in self.metrics.items()
            if split in found
        ]
        return "\n".join([type(self).__name__, *lines])


def _is_shown(metric: str) -> bool:
    return metric.startswith(("hit@", "ndcg@", "mrr@"))


@dataclass(frozen=True, slots=True)
class RankedUsers:
    """Evaluated users of a split, as one scorer ranked their targets."""

    scorer: str
    split: str
    buckets: Int64
    """(E,)"""
    ranks: Int64
    """(E,)"""
    list_figures: Float64 | None
    """(E, 2) `LIST_FIGURES` on test; None on valid."""


def columns_of(split: str, ks: Sequence[int]) -> list[str]:
    """Names of the columns of ``groups/SCORER/SPLIT`` after the users."""
    return [*base_metrics(ks), *(LIST_FIGURES if split == "test" else ())]


def measure_ranks(
    users: RankedUsers, ks: tuple[int, ...], segmentations: Iterable[Segmentation]
) -> Measured:
    """Sums and totals that the ranks of some users give.

    Args:
        users: They and their ranks.
        ks: Cut-offs.
        segmentations: How test users are told apart.
    """
    place = f"{users.scorer}/{users.split}"
    totals = RankingTotals.from_ranks(users.ranks, ks)
    values = user_metrics(users.ranks, ks)
    if users.list_figures is not None:
        values = np.concatenate([values, users.list_figures], axis=1)
    found: Measured = {
        f"totals/{place}": totals.to_array(),
        f"groups/{place}": sum_groups(users.buckets, values, NUM_BUCKETS),
    }
    if users.split == "test":
        at_10 = user_metrics(users.ranks, SEGMENT_KS)
        for segmentation in segmentations:
            sums = sum_segments(segmentation, users.buckets, at_10, NUM_BUCKETS)
            for label, label_sums in zip(segmentation.labels, sums, strict=True):
                if label_sums[:, 0].any():
                    dimension = quote(segmentation.name, safe="")  # a column may have a slash
                    name = f"segment/{users.scorer}/{dimension}/{label}"
                    found[name] = label_sums
    return found


def add_measured(parts: Iterable[Measured]) -> Measured:
    """The sum of what several parts measured."""
    total: Measured = {}
    for part in parts:
        for name, array in part.items():
            total[name] = total[name] + array if name in total else array
    return total


def measured_to_bytes(measured: Measured) -> bytes:
    """Serialize to a file that `measured_from_bytes` reads; most groups of a part are empty."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {quote(name): array for name, array in measured.items()}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def measured_from_bytes(content: bytes) -> Measured:
    """Read a file written by `measured_to_bytes`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {unquote(name): array for name, array in arrays.items()}


def describe_evaluation(
    measured: Measured,
    scorers: Sequence[str],
    splits: Sequence[str],
    ks: tuple[int, ...],
    matched: MatchedLists | None = None,
) -> EvaluationFigures:
    """The figures of an evaluation.

    Args:
        measured: Sum over all parts.
        scorers: The model, then the baselines, then lists of somebody else, which have no valid
            figures.
        splits: Their order.
        ks: Cut-offs.
        matched: How much of the lists of somebody else was found, if there are any.
    """
    if matched is not None:
        matched = replace(matched, with_list=int(measured["listed"][0]))
    metrics: dict[str, dict[str, dict[str, float]]] = {scorer: {} for scorer in scorers}
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]] = {s: {} for s in scorers}
    differences: dict[str, dict[str, dict[str, Estimate]]] = {s: {} for s in scorers[1:]}
    lists: dict[str, ListFigures] = {}
    resampled = _resample_all(measured)
    users = {split: int(measured[f"totals/{scorers[0]}/{split}"][0]) for split in splits}
    for split in splits:
        if not users[split]:  # no figures rather than zeros
            for scorer in scorers:
                metrics[scorer][split], intervals[scorer][split] = {}, {}
            for baseline in scorers[1:]:
                differences[baseline][split] = {}
            continue
        # Metrics are exact, from counts of ranks; intervals from sums of groups, drawn anew.
        names, drawn = columns_of(split, ks), {}
        for scorer in scorers:
            if f"totals/{scorer}/{split}" not in measured:
                metrics[scorer][split], intervals[scorer][split] = {}, {}
                differences[scorer][split] = {}
                continue
            drawn[scorer] = resampled[f"groups/{scorer}/{split}"]
            totals = RankingTotals.from_array(measured[f"totals/{scorer}/{split}"], ks)
            metrics[scorer][split] = totals.metrics()
            found = dict(zip(names, estimate_means(*drawn[scorer]), strict=True))
            intervals[scorer][split] = {
                name: estimate.interval for name, estimate in with_multiples(found, ks).items()
            }
            if split == "test":
                lists[scorer] = _list_figures(found, measured[f"items/{scorer}"])
        # The same draws for all scorers: what moves both does not widen their difference.
        for baseline in [scorer for scorer in scorers[1:] if scorer in drawn]:
            paired = estimate_differences(drawn[scorers[0]], drawn[baseline])
            found = dict(zip(names, paired, strict=True))
            differences[baseline][split] = with_multiples(found, ks)
    return EvaluationFigures(
        metrics=metrics,
        users=users,
        intervals=intervals,
        differences=differences,
        segments=_segments(resampled, scorers),
        lists=lists,
        matched=matched,
    )


def with_multiples(found: Mapping[str, Estimate], ks: Sequence[int]) -> dict[str, Estimate]:
    """All metrics in the order of `RankingTotals.metrics`: recall is hit, precision hit / k."""
    every = {}
    for k in ks:
        hit = found[f"hit@{k}"]
        every[f"hit@{k}"] = every[f"recall@{k}"] = hit
        every[f"precision@{k}"] = hit / k
        every[f"ndcg@{k}"] = found[f"ndcg@{k}"]
        every[f"mrr@{k}"] = found[f"mrr@{k}"]
    return every


def estimate_drop(ours: Measured, theirs: Measured, metric: str, ks: tuple[int, ...]) -> Estimate:
    """Relative drop of our model's test metric below that of another evaluation.

    Raises:
        ValueError: The two ranked different users.
    """
    column = 1 + columns_of("test", ks).index(metric)
    name = f"groups/{MODEL}/test"
    pair = [each[name][:, [0, column]] for each in (ours, theirs)]
    [drop] = estimate_drops(*((sums, resample(sums)) for sums in pair))  # of equal weights
    return drop


def kept_for_pairs(measured: Measured) -> Measured:
    """Keep the sums that a later comparison with another evaluation needs."""
    return {name: array for name, array in measured.items() if name == f"groups/{MODEL}/test"}


def _resample_all(measured: Measured) -> dict[str, tuple[Float64, Float64]]:
    """Sums by group of every name, each with its `resample`, from one draw of the weights."""
    names = [name for name in measured if name.startswith(("groups/", "segment/"))]
    ends = np.cumsum([measured[name].shape[1] for name in names])[:-1]
    drawn = np.split(resample(np.concatenate([measured[n] for n in names], axis=1)), ends, axis=1)
    return {name: (measured[name], each) for name, each in zip(names, drawn, strict=True)}


def _segments(
    resampled: Mapping[str, tuple[Float64, Float64]], scorers: Sequence[str]
) -> dict[str, dict[str, SegmentFigures]]:
    """Figures of segments by dimension and label."""
    found: dict[str, dict[str, SegmentFigures]] = {}
    names = base_metrics(SEGMENT_KS)
    # The names of the model's segments: every scorer ranked the same users.
    prefix = f"segment/{scorers[0]}/"
    keys = [key.removeprefix(prefix) for key in resampled if key.startswith(prefix)]
    for key in sorted(keys, key=_in_order):
        dimension, label = key.split("/", 1)
        sums, _ = resampled[prefix + key]
        estimates = {
            scorer: estimate_means(*resampled[f"segment/{scorer}/{key}"]) for scorer in scorers
        }
        found.setdefault(unquote(dimension), {})[label] = SegmentFigures(
            users=int(sums[:, 0].sum()),
            scorers={s: dict(zip(names, each, strict=True)) for s, each in estimates.items()},
        )
    return found


def _in_order(key: str) -> tuple[str, int, str]:
    dimension, label = key.split("/", 1)
    known = (*LENGTHS, *NEWCOMERS, *TARGETS)
    return dimension, known.index(label) if label in known else len(known), label


def _list_figures(found: Mapping[str, Estimate], item_counts: Int64) -> ListFigures:
    counts = item_counts[1:]
    return ListFigures(
        means={name: found[name] for name in LIST_FIGURES},
        gini=gini(counts),
        recommended_items=int((counts > 0).sum()),
    )
