import numpy as np

from lightsans.dataset.samples import Samples, cut_prefixes, cut_windows, distinct_targets, gather
from lightsans.dataset.sequences import UserSequences
from tests.factories import users_of_lengths


def stretches(users: UserSequences, samples: Samples) -> list[list[int]]:
    return [
        users.item_ids[start : start + length].tolist()
        for start, length in zip(samples.starts, samples.lengths, strict=True)
    ]


def test_a_short_sequence_is_one_window_and_a_single_item_none():
    users = users_of_lengths(6, 1, 2)  # training on 4, 1 and 2 items
    samples = cut_windows(users, max_seq_len=4, stride=2, offset=np.array([1, 1, 1]))
    assert stretches(users, samples) == [[1, 2, 3, 4], [8, 9]]


def test_a_long_sequence_has_windows_at_its_ends_and_every_stride_between():
    users = users_of_lengths(12)  # training on 10 items
    samples = cut_windows(users, max_seq_len=3, stride=2, offset=np.array([1]))
    assert stretches(users, samples) == [
        [1, 2, 3, 4],
        [2, 3, 4, 5],
        [4, 5, 6, 7],
        [6, 7, 8, 9],
        [7, 8, 9, 10],
    ]


def test_windows_cover_every_target_for_every_offset():
    users = users_of_lengths(3, 9, 40, 41, 42)
    for stride in (1, 3, 5):
        for first in range(1, stride + 1):
            samples = cut_windows(users, 5, stride, np.full(5, first))
            covered = {item for items in stretches(users, samples) for item in items[1:]}
            train = users.train_lengths
            expected = {
                int(users.offsets[u]) + 1 + position
                for u in range(5)
                for position in range(1, int(train[u]))
            }
            assert covered == expected
            assert len(covered) == distinct_targets(users)


def test_prefixes_end_with_their_target_and_keep_the_newest_items():
    users = users_of_lengths(5, 2)  # training on 3 and 2 items
    samples = cut_prefixes(users, max_seq_len=1)
    assert stretches(users, samples) == [[1, 2], [2, 3], [6, 7]]
    assert stretches(users, cut_prefixes(users, 9)) == [[1, 2], [1, 2, 3], [6, 7]]


def test_gathered_rows_are_padded_on_the_right():
    rows = gather(np.array([5, 6, 7], np.int32), np.array([1, 0]), np.array([2, 1]))
    assert rows.tolist() == [[6, 7], [5, 0]]
    assert gather(np.zeros(0, np.int32), np.array([0]), np.array([0])).tolist() == [[0]]
