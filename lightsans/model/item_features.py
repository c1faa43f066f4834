"""Item vectors from features: a small learned map, whose result is added to each item's own vector.

An item that nobody met has no vector of its own worth anything, and one by its features all the
same. Categories have a vector each, which are summed; numbers go through a linear map.

Shapes: V = num_items + 1: items and padding   R rows of them   D hidden size   F numbers
    E categories of these rows, end to end
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsans.arrays import Int64
from lightsans.dataset.feature_arrays import FeatureArrays


class _Bags(NamedTuple):
    categories: Tensor
    """(E,)"""
    weights: Tensor
    """(E,)"""
    offsets: Tensor
    """(R + 1,)"""


class _Inputs:
    """Inputs of the map, which all copies of a model share."""

    def __init__(self, arrays: FeatureArrays, device: torch.device) -> None:
        self.arrays = arrays
        self.bags = _Bags(
            torch.from_numpy(arrays.categories).to(device),
            torch.from_numpy(arrays.weights).to(device),
            torch.from_numpy(arrays.offsets).to(device),
        )
        self.numbers_VF = torch.from_numpy(arrays.numbers).to(device)

    def __deepcopy__(self, memo: object) -> Self:
        return self


class ItemFeatures(nn.Module):
    """The part of item vectors that their features say.

    Args:
        arrays: The features.
        hidden_size: Length of the vectors.
        std: Standard deviation of the initial weights.
        device: Where they are needed.
    """

    def __init__(
        self, arrays: FeatureArrays, hidden_size: int, std: float, device: torch.device
    ) -> None:
        super().__init__()
        self._inputs = _Inputs(arrays, device)
        if arrays.num_categories:
            self.category_embedding = nn.Embedding(arrays.num_categories, hidden_size)
        if arrays.numbers.shape[1]:
            self.number_map = nn.Linear(arrays.numbers.shape[1], hidden_size, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=std)
        self.to(device)

    @property
    def coding(self) -> str:
        """How features became the numbers that the map reads, as JSON."""
        return self.arrays.coding

    @property
    def arrays(self) -> FeatureArrays:
        """The features."""
        return self._inputs.arrays

    @property
    def met_ids(self) -> Int64 | None:
        """See `FeatureArrays`."""
        return self.arrays.met_ids

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Vectors (R, D) by features alone; 0 for items without any.

        Args:
            rows: (R,) items; None for all, padding first.
        """
        bags, numbers_RF = self._inputs.bags, self._inputs.numbers_VF
        if rows is not None:
            bags, numbers_RF = _take(bags, rows), numbers_RF.index_select(0, rows)
        total = numbers_RF.new_zeros(())
        if numbers_RF.shape[1]:
            total = total + self.number_map(numbers_RF)
        if self.arrays.num_categories:
            total = total + functional.embedding_bag(
                bags.categories,
                self.category_embedding.weight,
                bags.offsets,
                mode="sum",
                per_sample_weights=bags.weights,
                include_last_offset=True,
            )
        return total

    def compose(
        self, id_vectors: Tensor, rows: Tensor | None = None, keeps_id: Tensor | None = None
    ) -> Tensor:
        """Item vectors (R, D) float32: own ones plus those of the features.

        Args:
            id_vectors: (R, D) the items' own vectors.
            rows: (R,) items; None for all.
            keeps_id: (R,) 0 where an item's own vector is left out, 1 elsewhere; None keeps all.
        """
        with torch.autocast(id_vectors.device.type, enabled=False):
            own_RD = id_vectors.float()
            if keeps_id is not None:
                own_RD = own_RD * keeps_id.unsqueeze(1)
            return own_RD + self.forward(rows)


def _take(bags: _Bags, rows_R: Tensor) -> _Bags:
    """The bags of some rows."""
    starts_R = bags.offsets.index_select(0, rows_R)
    lengths_R = bags.offsets.index_select(0, rows_R + 1) - starts_R
    ends_R = lengths_R.cumsum(0)
    shifts_E = torch.repeat_interleave(starts_R - ends_R + lengths_R, lengths_R)
    places_E = shifts_E + torch.arange(len(shifts_E), device=rows_R.device)
    return _Bags(
        bags.categories.index_select(0, places_E),
        bags.weights.index_select(0, places_E),
        torch.cat([ends_R.new_zeros(1), ends_R]),
    )
