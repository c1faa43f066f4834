"""The compiled part of top-K on a CPU: reads blocks of scores once and keeps the few that matter.

Shapes: as in `lightsans.ranking.top_k`; M places for the candidates of a user

Needs Numba. Every function releases Python's lock, so threads work on different users at a time.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from lightsans.arrays import Array
from lightsans.compiling import compiled

_BINS = 512
"""Bins of equal width in a histogram of scores."""
_GROUP, _GROUPS_PER_RANK = 8, 3
"""Columns of a group at most, and groups for each item that is looked for at least."""
_COUNTED = 256
"""Candidates up to which each counts who is ahead of it: a few vector instructions each, and no
branch to guess as in a sort."""
_STRIP = 64
"""Scores compared at once before any of them is looked at: a few vector instructions."""
_FEW = 4
"""Candidates of a strip up to which a branch for each score is faster than writing every score."""


def _to_float(score: Any) -> Any:
    """A score as a number: NumPy has no bfloat16, so 16 bits are the upper half of a float32."""
    raise NotImplementedError("compiled code alone calls this")


# By type, not as an argument: code that is given a function cannot be kept for other processes.
@overload(_to_float)
def _to_float_by_type(score: Any) -> Any:
    def from_bfloat16(score: Any) -> Any:
        return np.uint32(np.uint32(score) << np.uint32(16)).view(np.float32)

    def from_float32(score: Any) -> Any:
        return score

    return from_bfloat16 if score == types.uint16 else from_float32


@compiled()
def _number_above(scores: Array, threshold: Any) -> Any:
    # A function of its own over a slice, without an early end: only so does the compiler use
    # vector instructions.
    above = np.int32(0)
    for i in range(scores.shape[0]):
        above += np.int32(_to_float(scores[i]) > threshold)
    return above


@compiled(fastmath={"nnan", "nsz"})
def _maxima(scores: Array, maxima: Array) -> None:
    """The largest score of each group of columns; what is left over at the end is in none.

    Group i holds columns i, i + W, i + 2 W and so on, so that neighbours are read together.
    """
    W = maxima.shape[0]
    for i in range(W):
        maxima[i] = _to_float(scores[i])
    for begin in range(W, scores.shape[0] - W + 1, W):
        stretch = scores[begin : begin + W]
        for i in range(W):
            score = _to_float(stretch[i])
            # Neither max() nor an index with ``begin`` in it becomes vector instructions.
            maxima[i] = score if score > maxima[i] else maxima[i]


@compiled(fastmath={"nnan", "nsz"})
def _range(scores: Array) -> tuple[Any, Any]:
    """The least score above minus infinity, and the greatest."""
    least, most = np.float32(np.inf), np.float32(-np.inf)
    for i in range(scores.shape[0]):
        least = min(least, scores[i] if scores[i] > -np.inf else np.float32(np.inf))
        most = max(most, scores[i])
    return least, most


@compiled()
def _at_most(scores: Array, rank: int) -> Any:
    """A number just under the ``rank``-th largest score, faster than finding that one.

    Scores are counted in bins of equal width; it is where the bin of the one in question begins.
    Minus infinity where fewer scores than ``rank`` are above it.
    """
    least, most = _range(scores)
    counts = np.zeros(_BINS, np.int32)
    per_width = np.float32(0)
    if 1e-30 < most - least < 1e30:  # else equal, or too near or far for the division
        # A little less than fits, so that rounding never leads beyond the last bin.
        per_width = np.float32(_BINS * (1 - 1e-5)) / (most - least)
    for i in range(scores.shape[0]):
        if scores[i] >= least:
            counts[int((scores[i] - least) * per_width)] += 1
    place, above = _BINS - 1, counts[_BINS - 1]
    while above < rank:
        if place == 0:
            return np.float32(-np.inf)
        place -= 1
        above += counts[place]
    if per_width == 0:
        return least
    # What rounding may have put into the next bin is less than a bin away.
    return max(least, least + np.float32(place - 1) / per_width)


@compiled()
def _below(score: Any, absolute: float, relative: float) -> Any:
    """`lightsans.ranking.error_bounds.Slack.below` of one score."""
    return score - absolute - relative * abs(np.float64(score))


@compiled()
def _first_threshold(scores: Array, rank: int, absolute: float, relative: float) -> Any:
    """A threshold that the best ``rank`` items exceed; minus infinity if these scores show none.

    At least as many items exceed a score as groups have a maximum that does. Groups are few, to be
    read fast, but many times ``rank``: then this is close to the final threshold, before a single
    candidate is kept.
    """
    group = _GROUP
    while group > 1 and scores.shape[0] < group * rank * _GROUPS_PER_RANK:
        group //= 2
    if rank > scores.shape[0] // group:
        return np.float32(-np.inf)
    maxima = np.empty(scores.shape[0] // group, np.float32)
    _maxima(scores, maxima)
    threshold = np.float32(_below(_at_most(maxima, rank), absolute, relative))
    return np.nextafter(threshold, np.float32(-np.inf))


@compiled()
def scan(
    scores_BC: Array,
    first: int,
    k: int,
    nothing: Any,
    absolute_B: Array,
    relative: float,
    seen_ids_S: Array,
    seen_next_B: Array,
    seen_end_B: Array,
    threshold_B: Array,
    count_B: Array,
    ids_BM: Array,
    scores_BM: Array,
) -> None:
    """Append what is above a user's threshold to the candidates, and raise full users' thresholds.

    Args:
        scores_BC: Approximate scores; bfloat16 as uint16. Those of seen items are overwritten.
        first: Item of column 0. Blocks come in order of item.
        k: Items that are looked for.
        nothing: Minus infinity in the type of the scores.
        absolute_B: With ``relative``: how far below the K-th approximate score the best may lie,
            see `lightsans.ranking.error_bounds.Slack`.
        relative: See ``absolute_B``.
        seen_ids_S: Each user's items to leave out, in order of item unless one block holds all.
        seen_next_B: Where the next of them is; moved on.
        seen_end_B: Where they end.
        threshold_B: Scores up to this cannot be among the best; changed. Infinity once a user has
            more items within the slack than there is room for.
        count_B: Candidates of each user; changed.
        ids_BM: Their items, changed.
        scores_BM: Their approximate scores, changed.
    """
    B, C = scores_BC.shape
    M = ids_BM.shape[1]
    for b in range(B):
        row, seen = scores_BC[b], seen_next_B[b]
        while seen < seen_end_B[b] and seen_ids_S[seen] < first + C:
            row[seen_ids_S[seen] - first] = nothing
            seen += 1
        seen_next_B[b] = seen
        threshold, count = threshold_B[b], count_B[b]
        if first == 0:
            threshold = max(threshold, _first_threshold(row, k, absolute_B[b], relative))
        for begin in range(0, C, _STRIP):
            strip = row[begin : begin + _STRIP]
            above = _number_above(strip, threshold)
            if above == 0:
                continue
            if count > M - _STRIP:
                threshold, count = _prune(
                    ids_BM[b], scores_BM[b], count, k, absolute_B[b], relative
                )
            if above <= _FEW:
                for c in range(strip.shape[0]):
                    score = _to_float(strip[c])
                    if score > threshold:
                        ids_BM[b, count] = first + begin + c
                        scores_BM[b, count] = score
                        count += 1
                continue
            # No branch for the processor to guess wrong: every score is written, and the next is
            # written over it unless it counts.
            for c in range(strip.shape[0]):
                score = _to_float(strip[c])
                ids_BM[b, count] = first + begin + c
                scores_BM[b, count] = score
                count += np.int64(score > threshold)
        threshold_B[b], count_B[b] = threshold, count


@compiled()
def _prune(
    ids_M: Array, scores_M: Array, count: int, k: int, absolute: float, relative: float
) -> tuple[Any, int]:
    """Keep the candidates that may be among the K best; the new threshold and their number.

    The threshold is infinity where they leave no room for another strip; then none of it counts.
    """
    most = ids_M.shape[0] - _STRIP
    threshold = np.float32(_below(_at_most(scores_M[:count], k), absolute, relative))
    kept = _keep(ids_M, scores_M, count, threshold)
    if kept > most:  # scores far apart share few bins: find the K-th itself
        kth = np.partition(scores_M[:kept], kept - k)[kept - k]
        threshold = np.float32(_below(kth, absolute, relative))
        kept = _keep(ids_M, scores_M, kept, threshold)
    return (threshold, kept) if kept <= most else (np.float32(np.inf), most)


@compiled()
def _keep(ids_M: Array, scores_M: Array, count: int, threshold: Any) -> int:
    """Move the candidates that reach a threshold to the front, in order; how many there are."""
    kept = 0
    for i in range(count):
        if scores_M[i] >= threshold:
            ids_M[kept], scores_M[kept] = ids_M[i], scores_M[i]
            kept += 1
    return kept


@compiled(fastmath={"reassoc", "contract"})
def _dot(x_D: Array, y_D: Array) -> float:
    total = 0.0
    for d in range(x_D.shape[0]):
        total += np.float64(x_D[d]) * np.float64(y_D[d])
    return total


@compiled()
def _exact_dot(x_D: Array, y_D: Array) -> float:
    """The product as a float64 that does not depend on the order of adding up: `math.fsum`.

    Products of two float32 numbers are exact in float64; their sum is kept as numbers that do not
    overlap. Source: J. R. Shewchuk, Adaptive precision floating-point arithmetic, 1997.
    """
    partials = np.empty(x_D.shape[0] + 1, np.float64)
    count = 0
    for d in range(x_D.shape[0]):
        x = np.float64(x_D[d]) * np.float64(y_D[d])
        kept = 0
        for i in range(count):
            y = partials[i]
            if abs(x) < abs(y):
                x, y = y, x
            high = x + y
            low = y - (high - x)
            if low != 0:
                partials[kept] = low
                kept += 1
            x = high
        partials[kept] = x
        count = kept + 1
    total, low = np.float64(0.0), np.float64(0.0)
    while count > 0 and low == 0:  # from the largest; the rest is less than half a unit
        count -= 1
        x, y = total, partials[count]
        total = x + y
        low = y - (total - x)
    if count > 0 and (low < 0) == (partials[count - 1] < 0) and partials[count - 1] != 0:
        y = 2 * low  # just beyond halfway between two numbers, where rounding took it for halfway
        if y == (total + y) - total:
            total += y
    return total


@compiled()
def exact_dots(vectors_PD: Array, items_PD: Array, scores_P: Array) -> None:
    """Write the product of each pair, rounded to float64 and then to float32."""
    for p in range(scores_P.shape[0]):
        scores_P[p] = _exact_dot(vectors_PD[p], items_PD[p])


@compiled()
def _falling(score: Any) -> Any:
    """A whole number that is less where the score is greater, and equal where it is equal."""
    # Adding zero turns minus zero into zero.
    bits = np.int64(np.float32(score + np.float32(0)).view(np.int32))
    return -bits if bits >= 0 else bits + np.int64(2**31)


@compiled()
def finish(
    vectors_BD: Array,
    items_ND: Array,
    absolute_B: Array,
    relative: float,
    sum_error_B: Array,
    count_B: Array,
    ids_BM: Array,
    scores_BM: Array,
    best_ids_BK: Array,
    best_scores_BK: Array,
) -> None:
    """Score the candidates exactly and write each user's best, in order.

    ``sum_error_B`` bounds the error of a sum in float64: see
    `lightsans.ranking.error_bounds.ErrorBound.sum_error`.
    """
    B, K = best_ids_BK.shape
    for b in range(B):
        count = count_B[b]
        least = -np.inf
        if count > K:
            least = _below(_at_most(scores_BM[b, :count], K), absolute_B[b], relative)
        exact = np.empty(count, np.float32)
        # A score with its place below it, to be ordered as one whole number: candidates are in
        # order of item, and equal scores stay so.
        keys, kept = np.empty(count, np.int64), 0
        for i in range(count):
            if scores_BM[b, i] >= least:
                score, error = _dot(vectors_BD[b], items_ND[ids_BM[b, i]]), sum_error_B[b]
                exact[i] = score
                if np.float32(score - error) != np.float32(score + error):
                    exact[i] = _exact_dot(vectors_BD[b], items_ND[ids_BM[b, i]])
                keys[kept] = (_falling(exact[i]) << 32) + i
                kept += 1
        keys = keys[:kept]
        if kept > _COUNTED:
            keys = np.sort(keys)
        for i in range(kept):
            rank = i if kept > _COUNTED else _number_below(keys, keys[i])
            if rank < K:
                place = keys[i] & 0xFFFFFFFF
                best_ids_BK[b, rank] = ids_BM[b, place]
                best_scores_BK[b, rank] = exact[place]


@compiled()
def _number_below(keys: Array, key: int) -> Any:
    below = np.int64(0)
    for i in range(keys.shape[0]):
        below += np.int64(keys[i] < key)
    return below
