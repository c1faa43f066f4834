"""Bounds on the error of a fast product, and so on how far below the K-th score to look.

Shapes: B users   D hidden size   N items
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor

FACTOR_ERROR: Final = {"none": 0.0, "ieee": 0.0, "tf32": 2.0**-10, "bf16": 2.0**-8}
"""Relative change of a float32 factor that each setting of PyTorch's ``fp32_precision`` allows:
TF32 keeps 11 significant bits and may cut the rest off, bfloat16 keeps 8 and rounds to nearest."""
SUM_ERROR: Final = 2.0**-8
"""Relative change of a float32 sum that is rounded to nearest bfloat16, of 8 significant bits."""
_LARGEST: Final = torch.finfo(torch.float32).max
_OVERFLOW: Final = 2.0**126
_ROWS: Final = 2**16
"""Vectors whose norms are taken at once."""


class Slack(NamedTuple):
    """Margin below a user's K-th approximate score within which the best K may lie."""

    absolute: Tensor
    """(B,) float64. Infinity where products may overflow: then they prove nothing."""
    relative: float
    """Share of the K-th score's size that is added."""

    def below(self, score_B: Tensor) -> Tensor:
        """The least approximate score of an item whose score is at least the K-th, (B,) float64."""
        score_B = score_B.double().clamp(min=-_LARGEST)  # minus infinity: no number
        return score_B - self.absolute - self.relative * score_B.abs()


class ErrorBound:
    """A bound on the errors of products of users with a fixed set of items.

    **Notation.** The score of user ``u`` and item ``i`` is the real number ``s = u . i``. The
    product multiplies ``u + du`` and ``i + di``, factors as they are after rounding, adds up in
    float32 to ``f`` and, if it is a bfloat16 product, rounds ``f`` to ``r(f)``; else ``r(f) = f``.

    **Factors.** ``(u + du) . (i + di) - u . i = du . i + (u + du) . di``, so by Cauchy-Schwarz it
    is at most ``|du| max|i| + |u + du| max|di|``. For bfloat16 products these norms are measured:
    ``du`` is what rounding changed in this very vector, and the maxima are over these very items.
    For float32 products the hardware may round as the precision setting allows, unseen: then
    ``|du| <= q |u|`` and ``|di| <= q |i|`` with q from `FACTOR_ERROR`.

    **Sum.** A sum of D products in float32, in any order, is off by at most ``D 2^-24`` of the sum
    of their sizes to the first order, which ``|u + du| |i + di|`` bounds. ``(D + 8) 2^-23`` is
    twice that: for higher orders, for hardware that cuts off instead of rounding, and for the
    rounding of scores and thresholds to float32. Numbers below 2^-126 may count as zero anywhere,
    as factors and as sums: at most ``D 2^-124 (1 + |u| + max|i|)``. Together, ``|f - s| <= e``.

    **Rounded sum.** ``|r(f) - f| <= p |f|`` and ``|f - r(f)| <= p |r(f)|`` with p = `SUM_ERROR`,
    or 0: rounding to nearest moves by half a unit in the last place of either. Rounding is also
    monotonic.

    **Claim.** Let K items have ``r(f) >= L``. Then an item whose score is among the K highest, or
    equal to the K-th, has ``r(f) >= L - (2 e (1 + p) + (2 p + p^2) |L|)``.

    **Proof.** The K items have ``f >= L - p |L|``: at L itself by the second inequality, and more
    above it, as rounding is monotonic. So they have ``s >= L - p |L| - e``, and the K-th highest
    score is no less. An item that reaches it has ``f >= T`` with ``T = L - p |L| - 2 e``, hence
    ``r(f) >= r(T) >= T - p |T|``, where ``|T| <= (1 + p) |L| + 2 e``.

    The claim holds as well with a number under the K-th largest ``r(f)`` for L, since its right
    side grows with L, and with a least score that is asked for.

    Args:
        items_ND: The items, float32.
        factors_ND: The same as they are multiplied: float32 or bfloat16.
    """

    def __init__(self, items_ND: Tensor, factors_ND: Tensor) -> None:
        self._is_bfloat16 = factors_ND.dtype == torch.bfloat16
        self._max_norm, self._max_change = 0.0, 0.0
        for first in range(0, len(items_ND), _ROWS):
            items, factors = (x[first : first + _ROWS] for x in (items_ND, factors_ND))
            self._max_norm = max(self._max_norm, float(_norms(items).amax()))
            if self._is_bfloat16:  # the difference of a number and its rounding is exact
                change = float(_norms(items - factors.float()).amax())
                self._max_change = max(self._max_change, change)

    def slack(self, vectors_BD: Tensor, factors_BD: Tensor) -> Slack:
        """Margin below the K-th of each user's approximate scores within which its best may lie.

        Args:
            vectors_BD: The users, float32.
            factors_BD: The same as they are multiplied.
        """
        D, norm_B = vectors_BD.shape[1], _norms(vectors_BD)
        if self._is_bfloat16:
            user_change_B = _norms(vectors_BD - factors_BD.float())
            item_change, rounded = self._max_change, SUM_ERROR
        else:
            q = factor_error(vectors_BD.device.type)
            user_change_B, item_change, rounded = q * norm_B, q * self._max_norm, 0.0
        user_norm_B, item_norm = norm_B + user_change_B, self._max_norm + item_change
        error_B = user_change_B * self._max_norm + user_norm_B * item_change
        error_B = error_B + (D + 8) * 2.0**-23 * user_norm_B * item_norm
        error_B = error_B + D * 2.0**-124 * (1 + user_norm_B + item_norm)
        overflows_B = user_norm_B * item_norm >= _OVERFLOW
        absolute_B = (2 * (1 + rounded) * error_B).masked_fill(overflows_B, float("inf"))
        return Slack(absolute_B, rounded * (2 + rounded))

    def sum_error(self, vectors_BD: Tensor) -> Tensor:
        """Bound on the error of scores that are added up in float64, in any order, (B,) float64.

        Products of float32 numbers are exact in float64, and a sum of D numbers is off by at most
        ``D 2^-53`` of the sum of their sizes to the first order; this is twice that.
        """
        return vectors_BD.shape[1] * 2.0**-52 * _norms(vectors_BD) * self._max_norm


def factor_error(device_type: str) -> float:
    """The largest relative change that this device's products of float32 make to a factor."""
    settings = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}
    if device_type not in settings:
        return FACTOR_ERROR["bf16"]
    precision: str = settings[device_type].matmul.fp32_precision
    return FACTOR_ERROR.get(precision, FACTOR_ERROR["bf16"])


def _norms(x: Tensor) -> Tensor:
    """Norms in float64, where squares of float32 numbers neither vanish nor overflow."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    return norms
