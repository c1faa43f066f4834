import numpy as np
import pytest

from lightsans.dataset.sequences import UserSequences
from lightsans.ranking.recent import (
    DAY,
    RecentRows,
    count_rows,
    popularity_ties,
    rows_before,
    training_rows,
    window_scores,
)

# Training part: [1, 2, 1], [3, 2] (the last two of the first user are held out).
USERS = UserSequences(np.array([1, 2, 1, 9, 9, 3, 2], np.int32), np.array([0, 5, 7]))
TIMES = DAY * np.array([0, 1, 2, 3, 4, 1, 9])
NO_TIES = np.zeros(10)


def counts_at(rows, *days_of_moments, days=2):
    moments = np.array([round(day * DAY) for day in days_of_moments])
    return window_scores(rows, moments, days, NO_TIES)


def test_only_training_rows_are_collected_in_order_of_time():
    rows = training_rows(USERS, TIMES)
    assert rows.item_ids.tolist() == [1, 2, 3, 1, 2]
    assert (rows.times / DAY).tolist() == [0, 1, 1, 2, 9]


def test_a_window_ends_before_its_moment_and_begins_with_its_first_instant():
    scores = counts_at(training_rows(USERS, TIMES), 2)  # days 0 and 1; not the row at 2 itself
    assert scores[0].tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    scores = counts_at(training_rows(USERS, TIMES), 2.00001)  # day 0 has just left, 2 has entered
    assert scores[0].tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert counts_at(training_rows(USERS, TIMES), 0).sum() == 0


def test_windows_are_those_of_a_naive_count_in_any_order():
    generator = np.random.default_rng(0)
    rows = RecentRows.collect(
        generator.integers(1, 10, 400).astype(np.int32),
        generator.integers(0, 30 * DAY, 400),
        np.ones(400, bool),
    )
    moments = generator.integers(0, 33 * DAY, 60)
    for given in (moments, np.sort(moments), np.repeat(np.sort(moments), 2)):
        scores = window_scores(rows, given, 3, NO_TIES)
        for moment, found in zip(given, scores, strict=True):
            inside = (rows.times >= moment - 3 * DAY) & (rows.times < moment)
            np.testing.assert_array_equal(found, np.bincount(rows.item_ids[inside], minlength=10))


def test_equal_counts_are_decided_by_the_popularity_of_all_time():
    ties = popularity_ties(np.array([0, 5, 7, 6]))
    assert ties.max() < 1
    rows = RecentRows(np.array([5 * DAY]), np.array([3], np.int32))
    scores = window_scores(rows, np.array([6 * DAY]), 7, ties)[0]
    assert (-scores).argsort().tolist() == [3, 2, 1, 0]


def test_a_temporal_split_keeps_the_rows_before_each_of_its_cutoffs():
    rows = rows_before(USERS, TIMES, [2 * DAY, 5 * DAY], days=1)
    assert (rows.times / DAY).tolist() == [1, 1, 4]


def test_parts_collected_apart_add_up_and_survive_storage():
    whole = training_rows(USERS, TIMES)
    first = training_rows(UserSequences(USERS.item_ids[:5], np.array([0, 5])), TIMES[:5])
    rest = training_rows(UserSequences(USERS.item_ids[5:], np.array([0, 2])), TIMES[5:])
    merged = RecentRows.from_bytes((rest + first).to_bytes())
    np.testing.assert_array_equal(merged.times, whole.times)
    assert counts_at(merged, 3).tolist() == counts_at(whole, 3).tolist()


@pytest.mark.parametrize("days", [1, 7])
def test_an_empty_log_counts_nothing(days):
    rows = RecentRows(np.zeros(0, np.int64), np.zeros(0, np.int32))
    assert counts_at(rows, 1, 2, days=days).sum() == 0


def test_rows_of_the_last_days_are_counted_by_item():
    counts = count_rows(USERS, TIMES, 4 * DAY, 2, 9)
    assert counts.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]  # at days 2 and 3, not 4
