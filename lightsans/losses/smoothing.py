"""Label smoothing of the cross-entropy.

A target of 1 - s for the item and s / V for each of V items changes the loss by s times what the
item's score lies above the mean of all scores: the normaliser is the same for all. So the blocks of
`lightsans.losses.cross_entropy` stay as they are.

Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.

Shapes: T targets   D hidden size   V rows of the table
"""

import torch
from torch import Tensor


def smoothing_sum(
    vectors_TD: Tensor, table_VD: Tensor, target_T: Tensor, smoothing: float
) -> Tensor:
    """Sum of what smoothing adds to the cross-entropy of `cross_entropy_sum`.

    Args:
        vectors_TD: Vectors that the targets are predicted from.
        table_VD: Vectors of all items that are compared.
        target_T: Rows of the targets.
        smoothing: Share of a target that is spread over all items.
    """
    with torch.autocast(vectors_TD.device.type, enabled=False):
        target_TD = table_VD.index_select(0, target_T).float()
        above_TD = target_TD - table_VD.float().mean(dim=0)
        return smoothing * (vectors_TD.float() * above_TD).sum()
