"""Precision of top-K's fast products: bfloat16 where that is faster and its error small.

Shapes: N items   D hidden size
"""

import functools
import time
from typing import Final

import torch
from torch import Tensor

_MIN_WIDTH, _MAX_NORM_RATIO = 32, 2.5
_TRIED: Final = (512, 64), (64, 1024)
"""Shapes of the factors of the product that is measured."""


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
