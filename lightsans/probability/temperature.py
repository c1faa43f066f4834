"""Temperature of a softmax, fitted by maximum likelihood on targets that were held out.

The mean of ``log sum exp(b * score) - b * score of the target`` is convex in the inverse
temperature b; Newton's method finds its minimum, kept between bounds that close in on it.

Shapes: B users   D hidden size   V = num_items + 1
"""

from typing import NamedTuple

from torch import Tensor

from lightsans.probability.softmax import Scope, moments

HOTTEST, COLDEST = 100.0, 0.01
"""Temperatures beyond these are not looked for."""
_STEPS, _ACCURACY = 30, 1e-5


class Fitted(NamedTuple):
    """A temperature and what it does to the targets' mean log loss."""

    temperature: float
    loss_before: float
    """At temperature 1, in nats."""
    loss: float


def exact_scores(vectors_BD: Tensor, table_VD: Tensor, item_ids_B: Tensor) -> Tensor:
    """(B,) float64 score of one item of each user."""
    scores_B: Tensor = (vectors_BD.double() * table_VD[item_ids_B].double()).sum(1)
    return scores_B


def mean_loss(
    vectors_BD: Tensor, table_VD: Tensor, scope: Scope, target_ids_B: Tensor, temperature: float
) -> float:
    """Mean log loss of the targets, in nats."""
    found = moments(vectors_BD, table_VD, scope, 1 / temperature, sums_alone=True)
    scores_B = exact_scores(vectors_BD, table_VD, target_ids_B)
    return float((found.log_sum - scores_B / temperature).mean())


def fit_temperature(
    vectors_BD: Tensor, table_VD: Tensor, scope: Scope, target_ids_B: Tensor
) -> Fitted:
    """The temperature under which the targets are likeliest.

    Args:
        vectors_BD: Users, at least one.
        table_VD: Item vectors.
        scope: Items that may be recommended to the users; every target is one.
        target_ids_B: The item that came next.
    """
    target_scores_B = exact_scores(vectors_BD, table_VD, target_ids_B)
    low, high, scale, before = 1 / HOTTEST, 1 / COLDEST, 1.0, 0.0
    for step in range(_STEPS):
        found = moments(vectors_BD, table_VD, scope, scale)
        if step == 0:
            before = float((found.log_sum - target_scores_B).mean())
        slope = float((found.mean - target_scores_B).mean())
        if slope > 0:  # less likely with a greater scale
            high = scale
        else:
            low = scale
        curvature = float(found.variance.mean())
        guess = scale - slope / curvature if curvature > 0 else -1.0
        following = guess if low < guess < high else (low * high) ** 0.5
        if abs(following - scale) <= _ACCURACY * scale:
            scale = following
            break
        scale = following
    loss = mean_loss(vectors_BD, table_VD, scope, target_ids_B, 1 / scale)
    return Fitted(1 / scale, before, loss)
