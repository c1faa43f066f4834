"""Segments by hand, empty ones among them."""

import numpy as np

from lightsans.columns.segments import count_true, expand


def test_each_segment_is_named_by_its_entries_and_ranks_them():
    source, rank = expand(np.array([2, 0, 3]))
    assert source.tolist() == [0, 0, 2, 2, 2]
    assert rank.tolist() == [0, 1, 0, 1, 2]
    assert [part.tolist() for part in expand(np.array([], np.int64))] == [[], []]


def test_true_entries_are_counted_by_segment():
    mask = np.array([True, False, True, True, True])
    assert count_true(mask, np.array([0, 2, 2, 5])).tolist() == [1, 0, 3]
    assert count_true(mask[:0], np.array([0])).tolist() == []
