"""The code of each attention kind; its name and properties are in `lightsans.config.kinds`.

Shapes: as in `lightsans.model.attention`
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from torch import Tensor

from lightsans.config.kinds import Attention
from lightsans.model.attention import (
    Unmapped,
    causal_context,
    causal_weights,
    masked_context,
    newest_context,
    position_logits,
    project,
    reference_context,
)
from lightsans.model.causal import Dropout


class Padding(NamedTuple):
    """Positions of the items in a right-padded batch."""

    is_item: Tensor
    """(B, L), True at items. Also at an empty sequence's first position: a sum needs a term."""
    newest: Tensor
    """(B,), position of the newest item; 0 for an empty sequence."""


Context = Callable[[Unmapped, Padding, Dropout], Tensor]


class AttentionCode(NamedTuple):
    """The functions that an attention layer calls."""

    every_position: Context
    """Context of every position, (B, L, D)."""
    newest: Context
    """The same for the newest item's position alone, (B, 1, D)."""
    position_matrix: Callable[[Tensor, Tensor], list[Tensor]]
    """`Positions.matrix` from queries and keys of the positions, (N, L, H) each."""
    newest_needs_matrix: bool = False
    """Whether ``newest`` uses the position matrix as well."""


def _causal(x: Unmapped, padding: Padding, dropout: Dropout) -> Tensor:
    return causal_context(project(x), dropout)


def _masked(x: Unmapped, padding: Padding, dropout: Dropout) -> Tensor:
    return masked_context(x, padding.is_item, dropout)


def _newest(x: Unmapped, padding: Padding, dropout: Dropout) -> Tensor:
    return newest_context(x, padding.is_item, padding.newest, dropout)


def _reference(x: Unmapped, padding: Padding, dropout: Dropout) -> Tensor:
    return reference_context(x, None, dropout)


def _reference_newest(x: Unmapped, padding: Padding, dropout: Dropout) -> Tensor:
    return reference_context(x, padding.newest, dropout)


def _masked_matrix(q_NLH: Tensor, k_NLH: Tensor) -> list[Tensor]:
    return [position_logits(q_NLH, k_NLH)]


def _reference_matrix(q_NLH: Tensor, k_NLH: Tensor) -> list[Tensor]:
    return [position_logits(q_NLH, k_NLH).softmax(dim=1)]


CODE: Final[Mapping[Attention, AttentionCode]] = {
    "causal": AttentionCode(_causal, _newest, causal_weights),
    "masked": AttentionCode(_masked, _newest, _masked_matrix),
    "reference": AttentionCode(
        _reference, _reference_newest, _reference_matrix, newest_needs_matrix=True
    ),
}
