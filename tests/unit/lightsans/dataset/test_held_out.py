from dataclasses import replace

import numpy as np

from lightsans.dataset.held_out import describe_nobody, hold_out, translate
from lightsans.dataset.sequences import ItemTimes, Periods, UserSequences
from tests.factories import sequences_of

USERS = sequences_of([1, 2, 3, 4], [5, 6], [7, 8], [])
LONGER = sequences_of([1, 2, 3, 4], [5, 6, 7])


def histories(held_out) -> list[list[int]]:
    return [
        held_out.item_ids[start : start + length].tolist()
        for start, length in zip(held_out.starts, held_out.lengths, strict=True)
    ]


def test_users_with_fewer_than_three_items_are_not_evaluated():
    assert histories(hold_out(USERS, "valid")) == [[1, 2]]


def test_the_last_item_is_test_and_the_one_before_valid():
    valid, test = hold_out(LONGER, "valid"), hold_out(LONGER, "test")
    assert histories(valid) == [[1, 2], [5]]
    assert valid.target_ids.tolist() == [3, 6]
    assert histories(test) == [[1, 2, 3], [5, 6]]
    assert test.target_ids.tolist() == [4, 7]


def test_translated_histories_lose_unknown_items_and_keep_their_user():
    mapping = np.array([0, 11, 0, 13, 14, 0, 16, 0], np.int32)
    test = translate(hold_out(LONGER, "test"), mapping)
    assert histories(test) == [[11, 13], [16]]
    assert test.target_ids.tolist() == [14, 0]


def test_why_nobody_could_be_evaluated_is_said_with_the_way_out():
    said = describe_nobody("test", 1200, is_temporal=False, has_events=False)
    assert "0 users could be evaluated on test: all 1,200 users who pass the filters have" in said
    assert "relax the filters" in said
    said = describe_nobody("test", 3, is_temporal=False, has_events=True)
    assert "all 3 users who pass the filters have fewer than 2 targets of data.events" in said
    said = describe_nobody("valid", 3, is_temporal=True, has_events=True)
    assert "cut-offs of data.temporal" in said


def timed(valid_from: int | None = None, test_from: int | None = None) -> UserSequences:
    """`LONGER`, its items at times 10, 20, ..."""
    times = ItemTimes(np.arange(10, 80, 10), valid_from, test_from)
    users: UserSequences = replace(LONGER, times=times)
    return users


def test_under_leave_one_out_a_request_is_made_with_the_newest_item():
    assert hold_out(LONGER, "test").now is None
    test = hold_out(timed(), "test")
    assert test.now is not None
    assert test.now.tolist() == [30, 60]  # the targets came at 40 and 70
    assert test.take(np.array([1])).now == [60]


def test_under_a_temporal_split_a_request_is_made_at_the_cut_off():
    columns = ([2, 1], [3, 2], [3, 6], [4, 7])
    periods = Periods(*(np.array(column) for column in columns))
    users = replace(timed(valid_from=27, test_from=68), periods=periods)
    found = [hold_out(users, split).now for split in ("valid", "test")]
    assert [now.tolist() for now in found if now is not None] == [[27, 50], [68, 68]]


def test_translated_histories_keep_the_times_of_their_items():
    mapping = np.array([0, 11, 0, 13, 14, 0, 16, 0], np.int32)
    test = translate(hold_out(timed(), "test"), mapping)
    assert test.input_times is not None
    assert test.input_times.tolist() == [10, 30, 60]
    assert test.now is not None
    assert test.now.tolist() == [30, 60]
