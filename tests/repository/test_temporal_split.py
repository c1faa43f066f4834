"""The split by time that `benchmarks.temporal` measures on."""

import numpy as np
import pytest

from benchmarks.temporal_split import Rows, cut_by_time
from lightsans.preparation.temporal import MICROS, Cutoffs


def test_a_log_is_cut_by_time_and_what_comes_next_counts_whether_known_or_not():
    seconds = np.array([1, 12, 2, 3, 13, 23, 24, 25])
    users = np.array([1, 1, 2, 2, 2, 2, 2, 2])
    items = np.array([10, 30, 20, 10, 20, 40, 10, 50])
    rows = Rows.of(users, items, seconds)
    cut = cut_by_time(rows, Cutoffs(10 * MICROS, 20 * MICROS), 1)
    assert cut.raw_item_ids.tolist() == [-1, 10, 20]  # by falling count, before the first cut-off
    assert cut.next_items(rows, "valid") == [["30"], ["20"]]
    assert cut.next_items(rows, "test") == [["40", "10", "50"]]
    lists = np.array([[1, 2] + [0] * 8])
    # Of three the second comes first: a hit of any, none of the first.
    gains = 1 / np.log2(np.arange(2, 5))
    expected = [[0, 0, 1, gains[0] / gains.sum()]]
    met = cut.next_items(rows, "test")
    assert cut.gains(lists, met, "test").values == pytest.approx(np.array(expected))


def test_a_refit_has_everything_before_the_second_cut_off_for_training():
    rows = Rows.of(np.array([1, 1, 1]), np.array([10, 20, 30]), np.array([1, 12, 23]))
    cut = cut_by_time(rows, Cutoffs(20 * MICROS, 20 * MICROS), 1)
    assert cut.raw_item_ids.tolist() == [-1, 10, 20]
    assert cut.users.train_lengths.tolist() == [2]
    assert cut.next_items(rows, "valid") == []
    assert cut.next_items(rows, "test") == [["30"]]
