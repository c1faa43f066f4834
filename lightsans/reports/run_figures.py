"""Figures of a recommendation run, from totals that parts have and that add up.

Shapes: U users   N items of the dataset   R recommendations   S bins of scores
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Array, Bool, Float32, Float64, Int64
from lightsans.config import ScoreConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError
from lightsans.storage.records import fields_beside
from lightsans.storage.schemas import MODEL

SCORE_BINS = 1 << 14
_BIN_SHIFT = np.uint32(32 - 14)
_SIZE_BITS, _LARGEST_FLOAT = np.uint32(0x7FFFFFFF), np.uint32(0x7F7FFFFF)
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
DECILES = 10
DRAWN_BINS = 40
"""Most bins of a drawn histogram of scores."""


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Counts over the lists of some users; add them with ``+``."""

    users: Array
    """One number."""
    popular_users: Array
    """Users with the fallback; one number."""
    empty_lists: Array
    item_counts: Array
    """(N + 1,) how often each item is recommended; 0 stands for those not in the dataset."""
    best_scores: Array
    """(S,) scores of the first recommendation of lists by the model; see `score_bins`."""
    all_scores: Array
    """(S,) scores of all their recommendations."""
    compared_users: Array
    """Users who are in the run before too, with a list in both."""
    overlap: Array
    """Sum over them of the share of items that both lists have."""

    def __add__(self, other: "RunTotals") -> "RunTotals":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return RunTotals(*(mine + its for mine, its in pairs))


def score_bins(scores: Float32) -> Int64:
    """(S,) numbers of scores by bin: the upper 14 bits of a float32, in order, 3 % wide."""
    bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    is_negative = bits >> np.uint32(31) == 1
    ordered = np.where(is_negative, ~bits, bits | np.uint32(1 << 31))
    return np.bincount(ordered >> _BIN_SHIFT, minlength=SCORE_BINS)


def bin_edges() -> Float64:
    """(S + 1,) scores at which the bins of `score_bins` begin and the last one ends."""
    ordered = np.arange(SCORE_BINS, dtype=np.uint32) << _BIN_SHIFT
    is_negative = ordered >> np.uint32(31) == 0
    # Beyond the largest number the bits stand for infinity, and for no number at all.
    size = np.minimum(np.where(is_negative, ~ordered, ordered) & _SIZE_BITS, _LARGEST_FLOAT)
    edges = size.astype(np.uint32).view(np.float32).astype(np.float64)
    edges[is_negative] *= -1
    return np.append(edges, edges[-1])


def measure(rows: pa.Table, before: pa.Table, items: Vocabulary) -> RunTotals:
    """Totals of some wide rows.

    Args:
        rows: Users of the run.
        before: Users of the run before; may be others, and need not be all of these.
        items: Vocabulary of the dataset.
    """
    item_ids, offsets = _encode(rows, items)
    lengths = np.diff(offsets)
    is_model = pc.equal(rows["source"], MODEL).to_numpy()
    scores = rows["scores"].combine_chunks().flatten().to_numpy()
    has_best = is_model & (lengths > 0)
    compared, overlap = _overlap(rows, item_ids, offsets, before, items)
    counted = (
        rows.num_rows,
        rows.num_rows - int(is_model.sum()),
        int((lengths == 0).sum()),
        np.bincount(item_ids, minlength=items.num_items + 1),
        score_bins(scores[offsets[:-1][has_best]]),
        score_bins(scores[np.repeat(is_model, lengths)]),
        compared,
        overlap,
    )
    return RunTotals(*(np.asarray(value) for value in counted))


def no_totals(num_items: int) -> RunTotals:
    """The totals of no users."""
    bins = np.zeros(SCORE_BINS, np.int64)
    zero = np.asarray(0)
    counts = np.zeros(num_items + 1, np.int64)
    return RunTotals(zero, zero, zero, counts, bins, bins, zero, np.asarray(0.0))


@dataclass(frozen=True, slots=True)
class _Counted:
    """A run's totals beside the items of its dataset, for one figure to be taken from."""

    totals: RunTotals
    items: Vocabulary
    is_eligible: Bool
    """(N,) items that may be recommended."""
    by_popularity: Int64
    """(N,) items from the most popular one."""

    @property
    def users(self) -> int:
        """Users of the run."""
        return int(self.totals.users)

    @property
    def counts(self) -> Array:
        """(N,) how often each item is recommended."""
        return self.totals.item_counts[1:]

    @property
    def recommendations(self) -> int:
        """All recommendations, items of other datasets included."""
        return int(self.totals.item_counts.sum())


def _never_recommended_share(run: _Counted) -> float | None:
    never = run.is_eligible & (run.counts == 0)
    return _share(int(never.sum()), int(run.is_eligible.sum()))


def _top_1_percent_share(run: _Counted) -> float | None:
    head = run.by_popularity[: max(1, run.items.num_items // 100)]
    return _share(int(run.counts[head].sum()), run.recommendations)


_MEASURES: dict[str, Callable[[_Counted], float | None]] = {
    "users": lambda run: run.users,
    "fallback_share": lambda run: _share(run.totals.popular_users, run.users),
    "mean_list_length": lambda run: _share(run.recommendations, run.users),
    "coverage": lambda run: _share(int((run.counts > 0).sum()), run.items.num_items),
    "never_recommended_share": _never_recommended_share,
    "top_1_percent_share": _top_1_percent_share,
    "median_best_score": lambda run: _quantiles(run.totals.best_scores)["0.5"],
}
"""Figures of a run by name; a new figure is a row."""
FIGURES = (*_MEASURES, *(f"{name}_change" for name in _MEASURES), "overlap")
"""Figures that can be bounded; a change is relative to the run before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFigures:
    """Figures of a run."""

    figures: Mapping[str, float | None]
    """`FIGURES` by name; None where there is nothing to divide by or to compare with."""
    popular_users: int
    empty_lists: int
    recommendations: int
    recommended_items: int
    """Different items that are recommended."""
    eligible_items: int
    compared_users: int
    """Users with a list in the run before, too."""
    popularity: Mapping[str, list[float]]
    """Shares of recommendations and of interactions by tenth of the items, most popular first."""
    scores: Mapping[str, Mapping[str, float | None]]
    """Quantiles of the best score of a list, and of all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """Content of a run's ``report.json``."""

    run_id: str
    previous_run: str | None
    """The run that it was compared with."""
    described: RunFigures = fields_beside()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedFigures:
    """Figures and warnings of a ``report.json`` of any version: for later runs and for pages."""

    figures: Mapping[str, float | None]
    warnings: tuple[str, ...] = ()


def describe(
    totals: RunTotals,
    items: Vocabulary,
    is_eligible: Bool,
    before: Mapping[str, float | None] | None,
) -> RunFigures:
    """The figures of a run.

    Args:
        totals: Counts over the whole run.
        items: Vocabulary of the dataset.
        is_eligible: (N,) which items may be recommended.
        before: Figures of the run before.
    """
    by_popularity = np.argsort(-items.popularity, kind="stable")
    run = _Counted(totals, items, is_eligible, by_popularity)
    figures = {name: measure_of(run) for name, measure_of in _MEASURES.items()}
    if before is not None:
        for name, value in list(figures.items()):
            figures[f"{name}_change"] = _change(before.get(name), value)
    compared = int(totals.compared_users)
    figures["overlap"] = float(totals.overlap) / compared if compared else None
    return RunFigures(
        figures=figures,
        popular_users=int(totals.popular_users),
        empty_lists=int(totals.empty_lists),
        recommendations=run.recommendations,
        recommended_items=int((run.counts > 0).sum()),
        eligible_items=int(is_eligible.sum()),
        compared_users=compared,
        popularity={
            "recommendations": _by_decile(run.counts[by_popularity]),
            "interactions": _by_decile(items.popularity[by_popularity]),
        },
        scores={
            "best": _quantiles(totals.best_scores),
            "all": _quantiles(totals.all_scores),
        },
    )


def require_known_figures(score: ScoreConfig) -> None:
    """Check the names of the bounds, before anything is made whose report they are to judge.

    Raises:
        ConfigError: A bound names no figure of a run.
    """
    for setting in ("warn_below", "warn_above"):
        unknown = [name for name in getattr(score, setting) if name not in FIGURES]
        if unknown:
            raise ConfigError(
                f"score.{setting} names {', '.join(unknown)}; expected {', '.join(FIGURES)}"
            )


def find_warnings(
    figures: Mapping[str, float | None],
    warn_below: Mapping[str, float],
    warn_above: Mapping[str, float],
) -> list[str]:
    """A sentence for every figure that is out of its bounds; what could not be compared is not."""
    found = []
    for name in FIGURES:
        value = figures.get(name)
        if value is None:
            continue
        if name in warn_below and value < warn_below[name]:
            found.append(f"{name} is {value:.4g}, less than score.warn_below ({warn_below[name]})")
        if name in warn_above and value > warn_above[name]:
            found.append(f"{name} is {value:.4g}, more than score.warn_above ({warn_above[name]})")
    return found


def _encode(rows: pa.Table, items: Vocabulary) -> tuple[Array, Array]:
    """Recommended items as the dataset's ids, 0 for others, and where each list begins."""
    lists = rows["item_ids"].combine_chunks()
    # Few items are recommended often: each is looked up once.
    encoded = pc.dictionary_encode(lists.flatten())
    ids = items.encode(encoded.dictionary)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return ids[encoded.indices.to_numpy()], offsets - offsets[0]


def _overlap(
    rows: pa.Table, item_ids: Array, offsets: Array, before: pa.Table, items: Vocabulary
) -> tuple[int, float]:
    """Users with a list in both, and the sum of the shares of items that their lists share."""
    place = pc.index_in(before["user_id"], value_set=rows["user_id"].combine_chunks())
    before = before.filter(pc.is_valid(place))
    user = place.drop_null().to_numpy()
    before_ids, before_offsets = _encode(before, items)
    lengths = np.zeros(rows.num_rows, np.int64)
    lengths[user] = np.diff(before_offsets)
    longest = np.maximum(lengths, np.diff(offsets))
    is_compared = (lengths > 0) & (np.diff(offsets) > 0)
    width = items.num_items + 1
    mine = np.repeat(np.arange(rows.num_rows), np.diff(offsets)) * width + item_ids
    its = np.repeat(user, np.diff(before_offsets)) * width + before_ids
    # Items that the dataset does not have cannot be told apart.
    common = np.intersect1d(mine[item_ids > 0], its[before_ids > 0], assume_unique=True)
    shared = np.bincount(common // width, minlength=rows.num_rows)
    return int(is_compared.sum()), float((shared[is_compared] / longest[is_compared]).sum())


def _quantiles(bins: Array) -> dict[str, float | None]:
    """Middle of the bin that holds each quantile; None where there are no scores."""
    total, edges = bins.sum(), bin_edges()
    if not total:
        return {str(q): None for q in QUANTILES}
    index = np.searchsorted(np.cumsum(bins), np.asarray(QUANTILES) * total)
    middles = (edges[index] + edges[index + 1]) / 2
    return {str(q): float(value) for q, value in zip(QUANTILES, middles, strict=True)}


def score_histograms(*counts: Array) -> tuple[Array, list[Array]]:
    """Histograms of scores over common edges: the edges, and of each histogram its density.

    The edges are edges of `score_bins`, about `DRAWN_BINS` of them at like distances: a grid of
    its own would take one bin here and two bins there, and draw teeth that are not in the scores.
    Heights are shares per unit of the score, so bins of unlike widths compare. Outside the
    outermost half per cent of each histogram nothing is drawn: a few odd scores would squeeze the
    rest together.

    Args:
        counts: (S,) each, of `score_bins`.

    Returns:
        (E + 1,) edges and (E,) densities; (1,) and (0,) where there are no scores.
    """
    edges = bin_edges()
    filled = [bins for bins in counts if bins.any()]
    if not filled:
        return edges[:1], [np.zeros(0) for _ in counts]
    # The range that all histograms need.
    tails = np.array([0.005, 0.995])
    outer = [np.searchsorted(np.cumsum(bins), tails * bins.sum()) for bins in filled]
    first, last = min(int(low) for low, _ in outer), max(int(high) for _, high in outer) + 1
    # Of the edges in it, those next to a grid; each once.
    grid = np.linspace(edges[first], edges[last], DRAWN_BINS + 1)
    inside = edges[first : last + 1]
    middles = (inside[1:] + inside[:-1]) / 2
    chosen = first + np.unique(np.searchsorted(middles, grid))
    # Bins around zero may be narrower than a number can say.
    chosen = chosen[np.append(np.diff(edges[chosen]) > 0, True)]
    widths = np.diff(edges[chosen])
    densities = []
    for bins in counts:
        below = np.concatenate([[0], np.cumsum(bins)])
        densities.append(np.diff(below[chosen]) / (max(1, bins.sum()) * widths))
    return edges[chosen], densities


def _by_decile(counts_by_popularity: Array) -> list[float]:
    """Share of the most popular tenth of the items, the second tenth, and so on."""
    total = max(1, int(counts_by_popularity.sum()))
    pieces = np.array_split(counts_by_popularity, DECILES)
    return [float(piece.sum() / total) for piece in pieces]


def _share(part: Any, whole: int) -> float | None:
    return float(part) / whole if whole else None


def _change(before: float | None, now: float | None) -> float | None:
    """Relative to before; None where there is nothing to compare with."""
    if now is None or before is None or before == 0:
        return None
    return (now - before) / abs(before)
