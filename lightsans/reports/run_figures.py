"""Figures of a recommendation run, from totals that parts have and that add up.

Shapes: U users   N items of the dataset   R recommendations   S bins of scores
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.config import REPORT_FIGURES
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.recommendations.recommender import MODEL

Array = npt.NDArray[Any]

SCORE_BINS = 1 << 14
_BIN_SHIFT = np.uint32(32 - 14)
_SIZE_BITS, _LARGEST_FLOAT = np.uint32(0x7FFFFFFF), np.uint32(0x7F7FFFFF)
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
DECILES = 10


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What is counted of some users' lists; add them with ``+``."""

    users: Array
    """One number."""
    popular_users: Array
    """Users with the fallback; one number."""
    empty_lists: Array
    item_counts: Array
    """(N + 1,) how often each item is recommended; 0 stands for those not in the dataset."""
    best_scores: Array
    """(S,) of the first recommendation of lists by the model; see `score_bins`."""
    all_scores: Array
    """(S,) of all their recommendations."""
    compared_users: Array
    """Users who are in the run before too, with a list in both."""
    overlap: Array
    """Sum over them of the share of items that both lists have."""

    def __add__(self, other: "RunTotals") -> "RunTotals":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return RunTotals(*(mine + its for mine, its in pairs))


def score_bins(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """(S,) numbers of scores by bin: the upper 14 bits of a float32, in order, 3 % wide."""
    bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    is_negative = bits >> np.uint32(31) == 1
    ordered = np.where(is_negative, ~bits, bits | np.uint32(1 << 31))
    return np.bincount(ordered >> _BIN_SHIFT, minlength=SCORE_BINS)


def bin_edges() -> npt.NDArray[np.float64]:
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
        rows: Of the run.
        before: Of the run before; may hold other users, and need not hold all of these.
        items: Of the dataset.
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


def describe(
    totals: RunTotals,
    items: Vocabulary,
    is_eligible: npt.NDArray[np.bool_],
    before: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The report, as JSON-able values.

    Args:
        totals: Of the whole run.
        items: Of the dataset.
        is_eligible: (N,) which of them may be recommended.
        before: The report of the run before.
    """
    users, counts = int(totals.users), totals.item_counts[1:]
    recommended, total = int((counts > 0).sum()), int(totals.item_counts.sum())
    by_popularity = np.argsort(-items.counts, kind="stable")
    head = max(1, items.num_items // 100)
    figures: dict[str, float | None] = {
        "users": users,
        "fallback_share": _share(totals.popular_users, users),
        "mean_list_length": _share(total, users),
        "coverage": _share(recommended, items.num_items),
        "never_recommended_share": _share(
            int((is_eligible & (counts == 0)).sum()), int(is_eligible.sum())
        ),
        "top_1_percent_share": _share(int(counts[by_popularity[:head]].sum()), total),
        "median_best_score": _quantiles(totals.best_scores)["0.5"],
    }
    if before is not None:
        for name, value in list(figures.items()):
            figures[f"{name}_change"] = _change(before["figures"].get(name), value)
    compared = int(totals.compared_users)
    figures["overlap"] = float(totals.overlap) / compared if compared else None
    return {
        "figures": figures,
        "popular_users": int(totals.popular_users),
        "empty_lists": int(totals.empty_lists),
        "recommendations": total,
        "recommended_items": recommended,
        "eligible_items": int(is_eligible.sum()),
        "compared_users": compared,
        "popularity": {
            "recommendations": _by_decile(counts[by_popularity]),
            "interactions": _by_decile(items.counts[by_popularity]),
        },
        "scores": {
            "best": _quantiles(totals.best_scores),
            "all": _quantiles(totals.all_scores),
        },
    }


def find_warnings(
    figures: Mapping[str, float | None],
    warn_below: Mapping[str, float],
    warn_above: Mapping[str, float],
) -> list[str]:
    """A sentence for every figure that is out of its bounds; what could not be compared is not."""
    found = []
    for name in REPORT_FIGURES:
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
    """By quantile, the middle of the bin it is in; None where there are no scores."""
    total, edges = bins.sum(), bin_edges()
    if not total:
        return {str(q): None for q in QUANTILES}
    index = np.searchsorted(np.cumsum(bins), np.asarray(QUANTILES) * total)
    middles = (edges[index] + edges[index + 1]) / 2
    return {str(q): float(value) for q, value in zip(QUANTILES, middles, strict=True)}


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
