import mmap
import tempfile

import numpy as np
import pyarrow as pa

from lightsans.dataset.held_out import hold_out
from lightsans.dataset.loading import load_evaluated, load_trainable, load_within
from lightsans.dataset.sequences import NO_TARGET
from lightsans.storage.schemas import sequences_schema
from tests.factories import local, users_of_lengths


def is_mapped(array: np.ndarray) -> bool:
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, mmap.mmap)


def test_tapes_beyond_the_budget_are_mapped_and_read_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shards = {0: users_of_lengths(100), 1: users_of_lengths(50, 50), 2: users_of_lengths()}
    loaded = load_within(shards.__getitem__, shards, 500)
    assert [is_mapped(loaded[shard].item_ids) for shard in shards] == [False, True, False]
    for shard, users in shards.items():
        np.testing.assert_array_equal(loaded[shard].item_ids, users.item_ids)
        np.testing.assert_array_equal(loaded[shard].offsets, users.offsets)
    assert not list(tmp_path.iterdir()), "a killed worker would leave a file"
    whole = load_within(shards.__getitem__, shards, None)
    assert not any(is_mapped(users.item_ids) for users in whole.values())


def test_who_arrives_after_the_first_cutoff_is_tested_but_not_trained_on(tmp_path):
    """``new`` has four items between the cut-offs and a test target; ``gone`` has none."""
    rows = {
        "user_id": ["old", "new", "gone", "first"],
        "item_ids": [[1, 2, 3], [1, 2, 3, 1], [2, 1], [3]],
        "timestamps": [[0, 1, 2], [5, 5, 6, 6], [5, 6], [9]],
        "trainable": [True, False, False, False],
        "also_seen": [[]] * 4,
        "bucket": [0] * 4,
        "fingerprint": [0] * 4,
        "train_length": [3, 0, 0, 0],
        "test_length": [3, 4, 2, 0],
        "valid_target": [NO_TARGET, 1, 2, NO_TARGET],
        "test_target": [1, 2, NO_TARGET, 3],
    }
    part = local(tmp_path / "part-00000.parquet")
    part.write_table(pa.table(rows, schema=sequences_schema(pa.string(), with_periods=True)))
    assert load_trainable(part).lengths.tolist() == [3]
    evaluated = load_evaluated(part).sequences
    assert evaluated.lengths.tolist() == [3, 4]
    assert len(hold_out(evaluated, "valid").lengths) == 0
    test = hold_out(evaluated, "test")
    assert (test.lengths.tolist(), test.target_ids.tolist()) == ([3, 4], [1, 2])
