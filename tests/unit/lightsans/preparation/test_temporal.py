import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightsans.dataset.held_out import hold_out
from lightsans.dataset.sequences import NO_TARGET, Periods, UserSequences
from lightsans.preparation.temporal import MICROS, Cutoffs, cut_periods, find_cutoff
from tests import strategies


@given(
    st.lists(strategies.MOMENTS, min_size=1, max_size=40),
    st.floats(0, 1, exclude_max=True),
)
def test_a_cutoff_is_the_first_second_with_few_enough_rows_after_it(times, share):
    ascending = np.sort(np.array(times, np.int64))

    def count_from(edges):
        return len(ascending) - np.searchsorted(ascending, edges, side="left")

    limit = share * len(times)
    cutoff = find_cutoff(count_from, int(ascending[0]), int(ascending[-1]), limit)
    assert cutoff % MICROS == 0
    assert (ascending >= cutoff).sum() <= limit
    before = cutoff - MICROS
    assert before < ascending[0] - MICROS or (ascending >= before).sum() > limit


@pytest.fixture
def periods() -> Periods:
    """Three users: one with all periods, one that begins in the second, one with a hidden row."""
    offsets = np.array([0, 5, 7, 9])
    item_ids = np.array([1, 0, 2, 0, 3, 4, 5, 6, 7], np.int32)  # 0: outside the vocabulary
    times = np.array([0, 1, 9, 10, 20, 10, 19, 5, 12])
    is_kept = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0], bool)
    in_sequence = is_kept & (item_ids > 0)
    return cut_periods(offsets, item_ids, times, is_kept, in_sequence, Cutoffs(10, 20))


def test_periods_by_hand(periods):
    assert periods.train_lengths.tolist() == [2, 0, 1]
    assert periods.test_lengths.tolist() == [2, 2, 1]
    assert periods.valid_targets.tolist() == [0, 4, NO_TARGET]
    assert periods.test_targets.tolist() == [3, NO_TARGET, NO_TARGET]


def test_users_with_periods_are_held_out_by_them(periods):
    users = UserSequences(np.array([1, 2, 3, 4, 5, 6], np.int32), np.array([0, 3, 5, 6]), periods)
    assert users.train_lengths.tolist() == [2, 0, 1]
    valid, test = hold_out(users, "valid"), hold_out(users, "test")
    assert (valid.starts.tolist(), valid.lengths.tolist()) == ([0], [2])
    assert valid.target_ids.tolist() == [0]  # an item that the vocabulary lacks: always a miss
    assert (test.starts.tolist(), test.lengths.tolist()) == ([0], [2])
    assert test.target_ids.tolist() == [3]


def test_joined_users_keep_their_periods(periods):
    users = UserSequences(np.array([1, 2, 3, 4, 5, 6], np.int32), np.array([0, 3, 5, 6]), periods)
    joined = UserSequences.concatenate([users, users])
    assert joined.train_lengths.tolist() == [2, 0, 1, 2, 0, 1]
