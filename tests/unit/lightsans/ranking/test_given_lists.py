"""Ranks in lists of somebody else, against a loop over users."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightsans.dataset.held_out import HeldOut
from lightsans.ranking.given_lists import ItemLists, rank_in_lists
from tests.factories import sequences_of


def ranked(lists, of_user, histories, targets, remove_seen, num_top=3, is_seen=None):
    users = sequences_of(*histories)
    held_out = HeldOut(
        users.item_ids, users.offsets[:-1], users.lengths, np.array(targets, np.int64),
        np.arange(len(targets)), is_seen=is_seen,
    )  # fmt: skip
    made = sequences_of(*lists)
    item_lists = ItemLists(made.item_ids.astype(np.int64), made.offsets)
    return rank_in_lists(
        item_lists, np.array(of_user), held_out, num_items=9, remove_seen=remove_seen,
        num_top=num_top,
    )  # fmt: skip


def test_the_rank_is_the_place_in_the_list_and_whoever_has_none_misses():
    found = ranked([[4, 7], [5]], [0, -1, 1, 0], [[1], [2], [3], [1]], [7, 4, 9, 4], False)
    assert found.ranks.tolist() == [2, 0, 0, 1]
    assert found.top.tolist() == [[4, 7, 0], [0, 0, 0], [5, 0, 0], [4, 7, 0]]


def test_seen_items_take_no_place_unless_they_are_the_target():
    for remove_seen, rank, top in ((False, 4, [4, 1, 2]), (True, 2, [4, 7, 8])):
        found = ranked([[4, 1, 2, 7, 8]], [0], [[1, 2]], [7], remove_seen)
        assert (found.ranks.tolist(), found.top.tolist()) == ([rank], [top])
    assert ranked([[1, 2]], [0], [[1, 2]], [2], True).ranks.tolist() == [1]


def test_items_that_do_not_count_as_seen_keep_their_places():
    """Item 1 was viewed alone, item 2 bought and then viewed."""
    is_seen = np.array([False, True, False])
    found = ranked([[4, 1, 2, 7]], [0], [[1, 2, 2]], [7], True, is_seen=is_seen)
    assert (found.ranks.tolist(), found.top.tolist()) == ([3], [[4, 1, 7]])


def test_unknown_items_take_their_places_and_are_nobody_s_target():
    found = ranked([[0, 0, 7]], [0, 0], [[1], [1]], [7, 0], True)
    assert found.ranks.tolist() == [3, 0]


@given(st.data())
def test_ranks_are_those_of_a_loop(data):
    item = st.integers(1, 9)
    lists = data.draw(st.lists(st.lists(item, unique=True, max_size=6), min_size=1, max_size=4))
    histories = data.draw(st.lists(st.lists(item, min_size=1, max_size=4), min_size=1, max_size=5))
    of_user = [data.draw(st.integers(-1, len(lists) - 1)) for _ in histories]
    targets = [data.draw(st.integers(0, 9)) for _ in histories]
    remove_seen = data.draw(st.booleans())
    expected = []
    for history, number, target in zip(histories, of_user, targets, strict=True):
        own = [] if number < 0 else lists[number]
        own = [i for i in own if not (remove_seen and i in history and i != target)]
        expected.append(own.index(target) + 1 if target in own else 0)
    assert ranked(lists, of_user, histories, targets, remove_seen).ranks.tolist() == expected
