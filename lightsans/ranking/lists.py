"""Properties of recommended lists beyond accuracy: novelty, intra-list diversity.

With p_i the share of item i in the training interactions, L a list of n items, and cos the cosine
of two item vectors:
    novelty   = mean over i in L of -log2 p_i: how unexpected the items are, in bits
    diversity = 1 - mean over pairs of L of cos: 0 for items that are all alike

Shapes: B users   K recommendations, 0 where there is none   V = num_items + 1   D vector size
"""

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Float64, Int64

LIST_LENGTH = 10


def information(popularity_V: Int64) -> Float64:
    """(V,) -log2 of each item's share, counting each item once more than it occurred."""
    counts = popularity_V.astype(np.float64) + 1
    counts[0] = 0
    with np.errstate(divide="ignore"):
        found: Float64 = -np.log2(counts / counts.sum())
    found[0] = 0
    return found


def novelty(items_BK: Int64, information_V: Float64) -> Float64:
    """(B,) mean information of the items of each list; 0 for an empty one."""
    sums = information_V[items_BK].sum(axis=1)
    found: Float64 = sums / np.maximum(1, (items_BK > 0).sum(axis=1))
    return found


def unit_vectors(vectors_VD: Tensor) -> Tensor:
    """(V, D) item vectors of length one; padding stays zero."""
    units = torch.nn.functional.normalize(vectors_VD.detach().float(), dim=1)
    units[0] = 0
    return units


def diversity(items_BK: Tensor, units_VD: Tensor) -> Float64:
    """(B,) 1 - the mean cosine of the pairs of each list; 0 where a list has no pair.

    Args:
        items_BK: Ids of the vectors; 0 for items without one.
        units_VD: See `unit_vectors`.
    """
    n_B = (items_BK > 0).sum(dim=1).double()
    # The squared length of a sum of unit vectors is n plus twice the sum of the cosines of pairs.
    sums_BD = units_VD[items_BK].sum(dim=1).double()
    pairs_B = n_B * (n_B - 1)
    mean_B = (sums_BD.square().sum(dim=1) - n_B) / pairs_B.clamp(min=1)
    found: Float64 = (1 - mean_B).where(pairs_B > 0, 0.0).cpu().numpy()
    return found
