"""The targets of a batch, as every loss gets them.

Shapes: T targets   D hidden size   V = num_items + 1: items and padding   K negatives of a step
"""

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional

from lightsans.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets, what they are predicted from, and what they are compared with."""

    config: ModelConfig
    num_items: int
    vectors: Tensor
    """(T, D), what each target is predicted from."""
    ids: Tensor
    """(T,) int64, rows of ``table``."""
    table: Tensor
    """(V, D) item vectors, padding's first; or only those of the step's items."""
    ranks_padding: bool
    """Whether padding is an item like any other."""
    negative_ids: Tensor | None = None
    """One item for each target, (T,), or items that all targets share, (K,)."""
    log_expected: Tensor | None = None
    """(K,), see `lightsans.losses.negatives`."""
    candidates: Tensor | None = None
    """Rows of the table, ascending, that all targets are compared with; None for all of them."""

    def take(self, rows: Tensor, shares_negatives: bool) -> "Targets":
        """Some of the targets, with what they are compared with."""
        negative_ids = self.negative_ids
        if negative_ids is not None and not shares_negatives:
            negative_ids = negative_ids.index_select(0, rows)
        return replace(
            self,
            vectors=self.vectors.index_select(0, rows),
            ids=self.ids.index_select(0, rows),
            negative_ids=negative_ids,
        )

    def vectors_of(self, ids: Tensor) -> Tensor:
        """Item vectors of some rows of the table."""
        return functional.embedding(ids, self.table, padding_idx=0)
