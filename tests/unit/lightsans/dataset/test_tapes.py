import mmap

import numpy as np

from lightsans.dataset.held_out import hold_out
from lightsans.dataset.sequences import UserSequences, cut_prefixes, distinct_targets
from lightsans.dataset.tapes import for_refit, load_within


def users_of(*lengths: int) -> UserSequences:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return UserSequences(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets)


def is_mapped(array: np.ndarray) -> bool:
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, mmap.mmap)


def test_a_refit_learns_from_every_interaction_and_holds_out_none():
    users = users_of(5, 1, 3)
    everything = for_refit(users)
    assert distinct_targets(users) == 2 + 0 + 0
    assert distinct_targets(everything) == 4 + 0 + 2
    assert len(cut_prefixes(everything, 9)) == 6
    assert len(hold_out(everything, "valid").lengths) == 0


def test_tapes_beyond_the_budget_are_mapped_and_read_the_same(tmp_path):
    shards = {0: users_of(100), 1: users_of(50, 50), 2: users_of()}
    loaded = load_within(shards.__getitem__, shards, 500, tmp_path)
    assert [is_mapped(loaded[shard].item_ids) for shard in shards] == [False, True, False]
    for shard, users in shards.items():
        np.testing.assert_array_equal(loaded[shard].item_ids, users.item_ids)
        np.testing.assert_array_equal(loaded[shard].offsets, users.offsets)
    whole = load_within(shards.__getitem__, shards, None, tmp_path)
    assert not any(is_mapped(users.item_ids) for users in whole.values())
