import mmap

import numpy as np

from lightsans.dataset.loading import load_within
from tests.factories import users_of_lengths


def is_mapped(array: np.ndarray) -> bool:
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, mmap.mmap)


def test_tapes_beyond_the_budget_are_mapped_and_read_the_same(tmp_path):
    shards = {0: users_of_lengths(100), 1: users_of_lengths(50, 50), 2: users_of_lengths()}
    loaded = load_within(shards.__getitem__, shards, 500, tmp_path)
    assert [is_mapped(loaded[shard].item_ids) for shard in shards] == [False, True, False]
    for shard, users in shards.items():
        np.testing.assert_array_equal(loaded[shard].item_ids, users.item_ids)
        np.testing.assert_array_equal(loaded[shard].offsets, users.offsets)
    whole = load_within(shards.__getitem__, shards, None, tmp_path)
    assert not any(is_mapped(users.item_ids) for users in whole.values())
