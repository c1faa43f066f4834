"""Agreement of two models' lists for the same users: overlap, and items that appear at all.

Shapes:
    U users
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64


@dataclass(frozen=True, slots=True)
class Agreement:
    """Lists of a new model beside those of the one before, for the same users."""

    users: int
    """Users with a list of either model; others are not compared."""
    overlap: float
    """Mean share of the longer list that both have in common; 0 without users."""
    items: int
    """Different items in the new lists."""
    items_before: int
    """Different items in the lists before."""


def compare_lists(now: pa.ListArray, before: pa.ListArray) -> Agreement:
    """Compare lists of raw item ids, user by user.

    Args:
        now: (U,) lists of the new model.
        before: (U,) lists of the model before, of the same users in the same order.
    """
    encoded = pc.dictionary_encode(pa.concat_arrays([now.flatten(), before.flatten()]))
    codes = encoded.indices.to_numpy().astype(np.int64)
    new, old = codes[: len(now.flatten())], codes[len(now.flatten()) :]
    new_lengths, old_lengths = _lengths(now), _lengths(before)
    longest = np.maximum(new_lengths, old_lengths)
    width = len(encoded.dictionary)
    users = np.arange(len(longest))
    common = np.intersect1d(
        np.repeat(users, new_lengths) * width + new,
        np.repeat(users, old_lengths) * width + old,
        assume_unique=True,
    )
    shared = np.bincount(common // max(width, 1), minlength=len(longest))
    is_compared = longest > 0
    num_users = int(is_compared.sum())
    total = float((shared[is_compared] / longest[is_compared]).sum())
    return Agreement(
        users=num_users,
        overlap=total / max(num_users, 1),
        items=len(np.unique(new)),
        items_before=len(np.unique(old)),
    )


def _lengths(lists: pa.ListArray) -> Int64:
    lengths: Int64 = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths
