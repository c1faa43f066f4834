"""Products of top-K: fast ones, in bfloat16 where that is faster and exact enough, and exact ones.

Shapes: B users   M items of a user   R rows of scores, C columns   P pairs   N items
    D hidden size
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Float32, Float64

_MIN_WIDTH, _MAX_NORM_RATIO = 32, 2.5
_TRIED: Final = (512, 64), (64, 1024)
"""Shapes of the factors of the product that is measured."""
_FEW_USERS: Final = 4
_PAIRS: Final = 2**16
"""Pairs whose products are taken at once."""


class ScannedUsers(NamedTuple):
    """Users as the compiled search needs them, made for all at once: not by each of its threads."""

    vectors: Tensor
    """(B, D) float32"""
    factors: Tensor
    """The same as they are multiplied: `as_factors`."""
    absolute: Float64
    """With ``relative``: see `lightsans.ranking.error_bounds.Slack`. (B,)"""
    relative: float
    sum_error: Float64
    """See `lightsans.ranking.error_bounds.ErrorBound.sum_error`. (B,)"""
    threshold: Float32
    """Scores up to this cannot be among the best; it rises. Infinity where the list is in doubt."""

    def rows(self, rows: slice) -> "ScannedUsers":
        """Some of them; thresholds that rise are those of all."""
        return ScannedUsers(
            self.vectors[rows],
            self.factors[rows],
            self.absolute[rows],
            self.relative,
            self.sum_error[rows],
            self.threshold[rows],
        )


def prefers_bfloat16(items_ND: Tensor) -> bool:
    """Whether products of these items are faster in bfloat16, and exact enough to be of use."""
    return _multiplies_bfloat16() and _suits_bfloat16(items_ND)


@functools.cache
def _multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 are faster here, measured once a process.

    The processor needs instructions for it (AMX, or AVX-512 with dot products of pairs), and the
    libraries must use them: they may be held to older ones.
    """
    if not (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return False
    tried = [torch.ones(shape) for shape in _TRIED]
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(4):  # the least of several: the first warms up, others may be disturbed
        for dtype, least in seconds.items():
            factors = [factor.to(dtype) for factor in tried]
            started = time.perf_counter()
            torch.mm(*factors)
            seconds[dtype] = min(least, time.perf_counter() - started)
    return seconds[torch.bfloat16] < seconds[torch.float32]


def _suits_bfloat16(items_ND: Tensor) -> bool:
    """Whether its error, which goes with the longest vector, is small beside usual scores."""
    norms_N = items_ND.norm(dim=1)
    is_wide = items_ND.shape[1] >= _MIN_WIDTH and len(items_ND) > 0
    return is_wide and bool(norms_N.amax() <= _MAX_NORM_RATIO * norms_N.square().mean().sqrt())


def as_factors(x: Tensor, products: torch.dtype) -> Tensor:
    """Vectors as they are multiplied. What would be rounded to infinity is left out.

    That is an error like any other: `lightsans.ranking.error_bounds.ErrorBound` measures it.
    """
    return x if products == torch.float32 else x.to(products).nan_to_num_(posinf=0.0, neginf=0.0)


@functools.cache
def find_kernels() -> Any:
    """The compiled part of top-K; None without Numba or a place for its code: slower only."""
    try:
        from lightsans.ranking import kernels
    except (ImportError, RuntimeError):
        return None
    return kernels


def prefers_compiled(vectors_BD: Tensor) -> bool:
    """Whether Numba reads blocks of scores for these users: on a CPU, and for more than a few.

    For those, its import takes longer than everything else. The lists are the same without.
    """
    is_worth_it = vectors_BD.device.type == "cpu" and len(vectors_BD) > _FEW_USERS
    return is_worth_it and find_kernels() is not None


def round_scores(
    scores_RC: Tensor, error_R: Tensor, least_R1: Tensor, settle: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Scores of float64 rounded to float32, the same whatever the order they were added up in.

    Args:
        scores_RC: The scores.
        error_R: `lightsans.ranking.error_bounds.ErrorBound.sum_error`.
        least_R1: Scores up to this need not be right, if they stay so.
        settle: Float32 scores of pairs, given their rows and columns, from products whose sum is
            exact; asked for where the rounded score depends on the error.
    """
    error_R1 = error_R.unsqueeze(1)
    rounded_RC = (scores_RC + error_R1).float()
    unsure_RC = (scores_RC - error_R1).float() != rounded_RC
    rows_P, columns_P = (unsure_RC & (rounded_RC > least_R1)).nonzero(as_tuple=True)
    for first in range(0, len(rows_P), _PAIRS):
        rows, columns = (x[first : first + _PAIRS] for x in (rows_P, columns_P))
        rounded_RC[rows, columns] = settle(rows, columns)
    return rounded_RC + 0.0  # minus zero becomes zero


def score_pairs(vectors_BD: Tensor, items_BMD: Tensor, error_B: Tensor) -> Tensor:
    """Scores of each user and some items of their own, (B, M) float32, as lists have them.

    Args:
        vectors_BD: The users, float32.
        items_BMD: Their items, float32.
        error_B: `lightsans.ranking.error_bounds.ErrorBound.sum_error`.
    """
    scores_BM = (items_BMD.double() * vectors_BD.double().unsqueeze(1)).sum(dim=2)
    least_B1 = torch.full_like(scores_BM[:, :1], -torch.inf)
    return round_scores(
        scores_BM,
        error_B,
        least_B1,
        lambda rows, m: exact_dots(vectors_BD[rows], items_BMD[rows, m]),
    )


def exact_dots(vectors_PD: Tensor, items_PD: Tensor) -> Tensor:
    """Products of pairs, each rounded to float64 once and then to float32."""
    vectors, items = vectors_PD.float().cpu().numpy(), items_PD.float().cpu().numpy()
    scores = np.empty(len(vectors), np.float32)
    kernels = find_kernels()
    if kernels is not None:
        kernels.exact_dots(vectors, items, scores)
    else:
        products = vectors.astype(np.float64) * items.astype(np.float64)
        with np.errstate(over="ignore"):  # to infinity, as any score that is too large
            scores[:] = np.array([math.fsum(row) for row in products.tolist()])
    return torch.from_numpy(scores).to(vectors_PD.device)
