"""Similar items: for every item those whose vectors are nearest, under eligibility and rules.

Shapes: V = num_items + 1: items and padding   D hidden size   R items of a stretch
"""

from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lightsans.dataset.vocabulary import Vocabulary
from lightsans.ranking.top_k import ItemIndex
from lightsans.recommendations.item_choice import ItemChoice
from lightsans.rules.item_rules import ItemRules
from lightsans.rules.lists import RuledIndex

Measure = Literal["cosine", "product"]


class SimilarItems:
    """Lists of similar items, exact and without the item itself.

    Args:
        table_VD: One row per item; row 0 is padding.
        items: Their raw ids. Those that left the k-core or were erased are in no list.
        measure: ``cosine`` of two vectors, or their ``product``.
        eligible_ids: The only items in lists; all unless given.
        rules: Rules over the lists, save for those of user segments.
    """

    def __init__(
        self,
        table_VD: Tensor,
        items: Vocabulary,
        measure: Measure,
        *,
        eligible_ids: Tensor | None = None,
        rules: ItemRules | None = None,
    ) -> None:
        table_VD = table_VD.detach().float()
        if measure == "cosine":
            norms_V1 = table_VD.double().norm(dim=1, keepdim=True)
            table_VD = (table_VD.double() / norms_V1.clamp(min=1e-300)).float()
        self._table_VD, self._items = table_VD, items
        is_eligible_V = torch.ones(len(table_VD), dtype=torch.bool)
        if eligible_ids is not None:
            is_eligible_V[:] = False
            is_eligible_V[eligible_ids] = True
        is_eligible_V[1:] &= torch.from_numpy(items.is_living)
        is_eligible_V[0] = False
        eligible_ids = is_eligible_V.nonzero().squeeze(1)
        self._index = (
            ItemIndex(table_VD, eligible_ids)
            if rules is None
            else RuledIndex(table_VD, rules, eligible_ids)
        )

    @classmethod
    def chosen(
        cls, table_VD: Tensor, items: Vocabulary, measure: Measure, choice: ItemChoice
    ) -> "SimilarItems":
        """Find those that the lists and rules of ``score`` leave."""
        eligible, rules = choice.eligible, choice.rules
        return cls(
            table_VD,
            items,
            measure,
            eligible_ids=None if eligible is None else torch.from_numpy(eligible.item_ids(items)),
            rules=None if rules is None else rules.item_rules(items),
        )

    def lists(self, first: int, last: int, k: int) -> pa.Table:
        """The lists of the items ``first`` to ``last``, each with its k nearest, best first."""
        return self.lists_of(torch.arange(first, last + 1), k)

    @torch.no_grad()
    def lists_of(self, ids_R: Tensor, k: int) -> pa.Table:
        """The lists of some items, in their order."""
        rows_R = torch.arange(len(ids_R))
        if isinstance(self._index, RuledIndex):  # pins count places from the end
            k = self._index.rules.places(k)
        else:
            k = min(k, self._items.num_items)
        ids_RK, scores_RK = self._index.top_k(self._table_VD[ids_R], k, rows_R, ids_R)
        is_item_RK = (ids_RK > 0).numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(is_item_RK.sum(1))]).astype(np.int32))
        found = self._items.decode(ids_RK.numpy()[is_item_RK].astype(np.int32))
        return pa.table(
            {
                "item_id": self._items.decode(ids_R.numpy().astype(np.int32)),
                "item_ids": pa.ListArray.from_arrays(offsets, found),
                "scores": pa.ListArray.from_arrays(
                    offsets, pa.array(scores_RK.numpy()[is_item_RK])
                ),
            }
        )
