"""The code of each attention kind; its name and properties are in `lightsans.config.kinds`.

Shapes: as in `lightsans.model.attention`
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from torch import Tensor

from lightsans.config.kinds import Attention
from lightsans.model.attention import (
    PositionLogits,
    Unmapped,
    causal_context,
    causal_weights,
    masked_context,
    masked_logits,
    newest_context,
    project,
    reference_context,
    reference_weights,
)
from lightsans.model.causal import Dropout


class Layout(NamedTuple):
    """Places of the items of a right-padded batch, and their times by the clock of ages."""

    is_item: Tensor
    """(B, L), True at items. Also at an empty sequence's first position: a sum needs a term."""
    newest: Tensor
    """(B,), position of the newest item; 0 for an empty sequence."""
    clock: Tensor
    """Time of each item by the clock, float32: (B, L), or (1, L) where it counts positions."""


Context = Callable[[Unmapped, Layout, Dropout], Tensor]


class AttentionCode(NamedTuple):
    """The functions that an attention layer calls."""

    every_position: Context
    """Context of every position, (B, L, D)."""
    newest: Context
    """The same for the newest item's position alone, (B, 1, D)."""
    position_matrix: Callable[[PositionLogits], list[Tensor]]
    """`Positions.matrix` from the logits of the positions."""
    newest_needs_matrix: bool = False
    """Whether ``newest`` uses the position matrix as well."""


def _causal(x: Unmapped, layout: Layout, dropout: Dropout) -> Tensor:
    return causal_context(project(x), dropout)


def _masked(x: Unmapped, layout: Layout, dropout: Dropout) -> Tensor:
    return masked_context(x, layout.is_item, dropout)


def _newest(x: Unmapped, layout: Layout, dropout: Dropout) -> Tensor:
    return newest_context(x, layout.is_item, layout.newest, dropout)


def _reference(x: Unmapped, layout: Layout, dropout: Dropout) -> Tensor:
    return reference_context(x, None, dropout)


def _reference_newest(x: Unmapped, layout: Layout, dropout: Dropout) -> Tensor:
    return reference_context(x, layout.newest, dropout)


CODE: Final[Mapping[Attention, AttentionCode]] = {
    "causal": AttentionCode(_causal, _newest, causal_weights),
    "masked": AttentionCode(_masked, _newest, masked_logits),
    "reference": AttentionCode(
        _reference, _reference_newest, reference_weights, newest_needs_matrix=True
    ),
}
