"""The compiled part of top-K on a CPU: reads blocks of scores once and keeps the few that matter.

Shapes: as in `lightsans.ranking`; M places for the candidates of a user

Needs Numba. Every function releases Python's lock, so threads work on different users at a time.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

_STRIP = 64
"""Scores compared at once before any of them is looked at: a few vector instructions."""


@njit(cache=True, nogil=True)
def from_float32(score: Any) -> Any:
    """A score that is a number already."""
    return score


@njit(cache=True, nogil=True)
def from_bfloat16(score: Any) -> Any:
    """The number whose upper half these 16 bits are: NumPy has no bfloat16."""
    return np.uint32(np.uint32(score) << np.uint32(16)).view(np.float32)


@njit(cache=True, nogil=True)
def _any_above(to_float: Any, scores: Array, threshold: Any) -> Any:
    # A function of its own over a slice, without an early end: only so does the compiler use
    # vector instructions.
    above = np.int32(0)
    for i in range(scores.shape[0]):
        above += np.int32(to_float(scores[i]) > threshold)
    return above > 0


@njit(cache=True, nogil=True)
def _compare(to_float: Any, scores: Array, threshold: Any, is_above: Array) -> None:
    for i in range(scores.shape[0]):
        is_above[i] = np.uint8(to_float(scores[i]) > threshold)


@njit(cache=True, nogil=True)
def scan(
    to_float: Any,
    scores_BC: Array,
    first: int,
    k: int,
    slack_B: Array,
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
        to_float: `from_float32` or `from_bfloat16`, what the scores are.
        scores_BC: Approximate scores; bfloat16 as uint16.
        first: Item of column 0. Blocks come in order of item.
        k: Items that are looked for.
        slack_B: What two approximate scores may be wrong by, together.
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
        for begin in range(0, C, _STRIP):
            strip = row[begin : begin + _STRIP]
            if not _any_above(to_float, strip, threshold):
                continue
            _compare(to_float, strip, threshold, is_above)
            for eight in range((strip.shape[0] + 7) // 8):
                if eights[eight] == 0:
                    continue
                for c in range(8 * eight, min(8 * eight + 8, strip.shape[0])):
                    if is_above[c] == 0:
                        continue
                    score, item = to_float(strip[c]), first + begin + c
                    while seen < seen_end_B[b] and seen_ids_S[seen] < item:
                        seen += 1
                    is_seen = seen < seen_end_B[b] and seen_ids_S[seen] == item
                    if is_seen or score <= threshold:  # it may have risen within the strip
                        continue
                    ids_BM[b, count] = item
                    scores_BM[b, count] = score
                    count += 1
                    if count == M:
                        threshold, count = _prune(ids_BM[b], scores_BM[b], M, k, slack_B[b])
                        if count > M - M // 8:
                            threshold = np.float32(np.inf)
        threshold_B[b], count_B[b], seen_next_B[b] = threshold, count, seen


@njit(cache=True, nogil=True)
def _prune(ids_M: Array, scores_M: Array, count: int, k: int, slack: float) -> tuple[Any, int]:
    """Keep the candidates that may be among the K best; the new threshold and their number."""
    kth = np.partition(scores_M[:count], count - k)[count - k]
    threshold = np.float32(kth - slack)
    kept = 0
    for i in range(count):
        if scores_M[i] >= threshold:
            ids_M[kept], scores_M[kept] = ids_M[i], scores_M[i]
            kept += 1
    return threshold, kept


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(x_D: Array, y_D: Array) -> float:
    total = 0.0
    for d in range(x_D.shape[0]):
        total += np.float64(x_D[d]) * np.float64(y_D[d])
    return total


@njit(cache=True, nogil=True)
def finish(
    vectors_BD: Array,
    items_ND: Array,
    slack_B: Array,
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
        if count > K:
            _, count = _prune(ids_BM[b], scores_BM[b], count, K, slack_B[b])
        exact = np.empty(count, np.float32)
        for i in range(count):
            exact[i] = -_dot(vectors_BD[b], items_ND[ids_BM[b, i]])
        # Stable: candidates are in order of item, and equal scores stay so.
        order = np.argsort(exact, kind="mergesort")
        for rank in range(min(K, count)):
            best_ids_BK[b, rank] = ids_BM[b, order[rank]]
            best_scores_BK[b, rank] = -exact[order[rank]]
