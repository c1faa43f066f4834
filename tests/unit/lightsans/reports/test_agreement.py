"""Two models' lists for the same users: worked out by hand."""

import pyarrow as pa

from lightsans.reports.agreement import compare_lists


def test_overlap_is_a_share_of_the_longer_list_and_items_are_counted_once():
    now = pa.array([["a", "b"], ["c"], ["d", "e", "f"], []], pa.list_(pa.string()))
    before = pa.array([["b", "x"], ["c", "y"], [], []], pa.list_(pa.string()))
    found = compare_lists(now, before)
    assert found.users == 3  # the fourth has no list of either
    assert found.overlap == (1 / 2 + 1 / 2 + 0) / 3
    assert (found.items, found.items_before) == (6, 4)


def test_an_item_of_another_user_is_not_in_common():
    one, other = ([[1], [2]], [[2], [1]])
    found = compare_lists(*(pa.array(lists, pa.list_(pa.int64())) for lists in (one, other)))
    assert (found.users, found.overlap) == (2, 0.0)


def test_without_lists_there_is_no_overlap():
    nothing = pa.array([[], []], pa.list_(pa.int64()))
    found = compare_lists(nothing, nothing)
    assert (found.users, found.items, found.overlap) == (0, 0, 0.0)
