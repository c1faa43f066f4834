"""Leaving out items' own vectors at random in training, so that features learn to stand alone."""

import numpy as np

from lightsans.arrays import Bool, Float32, Int64
from lightsans.columns.hashing import mix


def kept_ids(
    seed: int, epoch: int, step: int, item_ids: Int64, is_described: Bool, probability: float
) -> Float32:
    """1 where an item keeps its own vector in a step, 0 where it is left out.

    A function of (seed, epoch, step, item): all workers, and all uses of an item in a step, agree.

    Args:
        seed: ``train.seed``.
        epoch: Number of the epoch, from 0.
        step: Number of the step in it.
        item_ids: Items.
        is_described: (V,) whether an item has features; others keep theirs, having nothing else.
        probability: Part of the items that are without it, in [0, 1).
    """
    # The leading number keeps these draws apart from those of negatives and the order of steps.
    words = np.random.SeedSequence([11, seed, epoch, step]).generate_state(2).astype(np.uint64)
    salt = words[0] << np.uint64(32) | words[1]
    drawn = mix(salt + item_ids.astype(np.uint64))
    is_left_out = (drawn < np.uint64(probability * 2.0**64)) & is_described[item_ids]
    return (~is_left_out).astype(np.float32)
