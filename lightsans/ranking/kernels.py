"""The compiled part of top-K on a CPU: reads blocks of scores once and keeps the few that matter.

Shapes: as in `lightsans.ranking.top_k`; M places for the candidates of a user

Needs Numba. Every function releases Python's lock, so threads work on different users at a time.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from lightsans.arrays import Array

_BINS = 512
"""Bins of equal width in a histogram of scores."""
_STRIP = 64
"""Scores compared at once before any of them is looked at: a few vector instructions."""


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


@njit(cache=True, nogil=True)
def _any_above(scores: Array, threshold: Any) -> Any:
    # A function of its own over a slice, without an early end: only so does the compiler use
    # vector instructions.
    above = np.int32(0)
    for i in range(scores.shape[0]):
        above += np.int32(_to_float(scores[i]) > threshold)
    return above > 0


@njit(cache=True, nogil=True)
def _compare(scores: Array, threshold: Any, is_above: Array) -> None:
    for i in range(scores.shape[0]):
        is_above[i] = np.uint8(_to_float(scores[i]) > threshold)


@njit(cache=True, nogil=True)
def _maxima(scores: Array, maxima: Array) -> None:
    """The largest score of each stretch of eight; what is left over at the end does not count."""
    for i in range(maxima.shape[0]):
        maxima[i] = _to_float(scores[8 * i])
    for j in range(1, 8):
        for i in range(maxima.shape[0]):
            maxima[i] = max(maxima[i], _to_float(scores[8 * i + j]))


@njit(cache=True, nogil=True)
def _at_most(scores: Array, rank: int) -> Any:
    """A number just under the ``rank``-th largest score, faster than finding that one.

    Scores are counted in bins of equal width; it is where the bin of the one in question begins.
    """
    least, most = scores[0], scores[0]
    for i in range(scores.shape[0]):
        least, most = min(least, scores[i]), max(most, scores[i])
    if not 1e-30 < most - least < 1e30:  # equal, or too near or far for the division below
        return least
    counts = np.zeros(_BINS, np.int32)
    # A little less than fits, so that rounding never leads beyond the last bin.
    per_width = np.float32(_BINS * (1 - 1e-5)) / (most - least)
    for i in range(scores.shape[0]):
        counts[int((scores[i] - least) * per_width)] += 1
    place, above = _BINS - 1, counts[_BINS - 1]
    while above < rank:
        place -= 1
        above += counts[place]
    # What rounding may have put into the next bin is less than a bin away.
    return max(least, least + np.float32(place - 1) / per_width)


@njit(cache=True, nogil=True)
def _below(score: Any, absolute: float, relative: float) -> Any:
    """`lightsans.ranking.error_bounds.Slack.below` of one score."""
    return score - absolute - relative * abs(np.float64(score))


@njit(cache=True, nogil=True)
def _first_threshold(scores: Array, rank: int, absolute: float, relative: float) -> Any:
    """A threshold that the best ``rank`` items exceed; minus infinity if these scores show none.

    At least as many items exceed a score as stretches have a maximum that does. In a catalogue of
    thousands this is close to the final threshold, before a single candidate is kept.
    """
    maxima = np.empty(scores.shape[0] // 8, np.float32)
    if rank > maxima.shape[0]:
        return np.float32(-np.inf)
    _maxima(scores, maxima)
    threshold = np.float32(_below(_at_most(maxima, rank), absolute, relative))
    return np.nextafter(threshold, np.float32(-np.inf))


@njit(cache=True, nogil=True)
def scan(
    scores_BC: Array,
    first: int,
    k: int,
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
        scores_BC: Approximate scores; bfloat16 as uint16.
        first: Item of column 0. Blocks come in order of item.
        k: Items that are looked for.
        absolute_B: With ``relative``: how far below the K-th approximate score the best may lie,
            see `lightsans.ranking.error_bounds.Slack`.
        relative: See ``absolute_B``.
        seen_ids_S: Each user's items to leave out, in order of item.
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
    is_above = np.zeros(_STRIP, np.uint8)
    eights = is_above.view(np.uint64)
    for b in range(B):
        threshold, count, seen = threshold_B[b], count_B[b], seen_next_B[b]
        row = scores_BC[b]
        if first == 0:
            # Seen items of this block may be among the best of it, and do not count.
            rank = k + int(np.searchsorted(seen_ids_S[seen : seen_end_B[b]], C))
            threshold = max(threshold, _first_threshold(row, rank, absolute_B[b], relative))
        for begin in range(0, C, _STRIP):
            strip = row[begin : begin + _STRIP]
            if not _any_above(strip, threshold):
                continue
            _compare(strip, threshold, is_above)
            for eight in range((strip.shape[0] + 7) // 8):
                if eights[eight] == 0:
                    continue
                for c in range(8 * eight, min(8 * eight + 8, strip.shape[0])):
                    if is_above[c] == 0:
                        continue
                    score, item = _to_float(strip[c]), first + begin + c
                    while seen < seen_end_B[b] and seen_ids_S[seen] < item:
                        seen += 1
                    is_seen = seen < seen_end_B[b] and seen_ids_S[seen] == item
                    if is_seen or score <= threshold:  # it may have risen within the strip
                        continue
                    ids_BM[b, count] = item
                    scores_BM[b, count] = score
                    count += 1
                    if count == M:
                        threshold, count = _prune(
                            ids_BM[b], scores_BM[b], k, absolute_B[b], relative
                        )
        threshold_B[b], count_B[b], seen_next_B[b] = threshold, count, seen


@njit(cache=True, nogil=True)
def _prune(
    ids_M: Array, scores_M: Array, k: int, absolute: float, relative: float
) -> tuple[Any, int]:
    """Keep the candidates that may be among the K best; the new threshold and their number.

    The threshold is infinity where those are nearly all.
    """
    M = ids_M.shape[0]
    threshold = np.float32(_below(_at_most(scores_M, k), absolute, relative))
    kept = _keep(ids_M, scores_M, M, threshold)
    if kept > M - M // 8:  # scores far apart share few bins: find the K-th itself
        kth = np.partition(scores_M[:kept], kept - k)[kept - k]
        threshold = np.float32(_below(kth, absolute, relative))
        kept = _keep(ids_M, scores_M, kept, threshold)
    return threshold if kept <= M - M // 8 else np.float32(np.inf), kept


@njit(cache=True, nogil=True)
def _keep(ids_M: Array, scores_M: Array, count: int, threshold: Any) -> int:
    """Move the candidates that reach a threshold to the front, in order; how many there are."""
    kept = 0
    for i in range(count):
        if scores_M[i] >= threshold:
            ids_M[kept], scores_M[kept] = ids_M[i], scores_M[i]
            kept += 1
    return kept


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(x_D: Array, y_D: Array) -> float:
    total = 0.0
    for d in range(x_D.shape[0]):
        total += np.float64(x_D[d]) * np.float64(y_D[d])
    return total


@njit(cache=True, nogil=True)
def _falling(score: Any) -> Any:
    """A whole number that is less where the score is greater, and equal where it is equal."""
    # Adding zero turns minus zero into zero.
    bits = np.int64(np.float32(score + np.float32(0)).view(np.int32))
    return -bits if bits >= 0 else bits + np.int64(2**31)


@njit(cache=True, nogil=True)
def finish(
    vectors_BD: Array,
    items_ND: Array,
    absolute_B: Array,
    relative: float,
    count_B: Array,
    ids_BM: Array,
    scores_BM: Array,
    best_ids_BK: Array,
    best_scores_BK: Array,
) -> None:
    """Score the candidates exactly and write each user's best, in order."""
    B, K = best_ids_BK.shape
    for b in range(B):
        count = count_B[b]
        least = -np.inf
        if count > K:
            least = _below(_at_most(scores_BM[b, :count], K), absolute_B[b], relative)
        exact = np.empty(count, np.float32)
        # A score with its place below it, to be sorted as one whole number: candidates are in
        # order of item, and equal scores stay so.
        keys, kept = np.empty(count, np.int64), 0
        for i in range(count):
            if scores_BM[b, i] >= least:
                exact[i] = _dot(vectors_BD[b], items_ND[ids_BM[b, i]])
                keys[kept] = (_falling(exact[i]) << 32) + i
                kept += 1
        keys = np.sort(keys[:kept])
        for rank in range(min(K, kept)):
            place = keys[rank] & 0xFFFFFFFF
            best_ids_BK[b, rank] = ids_BM[b, place]
            best_scores_BK[b, rank] = exact[place]
