import numpy as np

from lightsans.dataset.held_out import hold_out
from lightsans.dataset.samples import cut_prefixes, distinct_targets
from lightsans.dataset.sequences import UserSequences, for_refit
from tests.factories import sequences_of, users_of_lengths


def test_leave_one_out_keeps_two_of_three_or_more():
    assert users_of_lengths(0, 1, 2, 3, 4).train_lengths.tolist() == [0, 1, 2, 1, 2]


def test_unknown_items_leave_a_translated_sequence():
    users = sequences_of([1, 2, 3], [2], [])
    translated = users.translate(np.array([0, 9, 0, 8], np.int32))
    assert translated.item_ids.tolist() == [9, 8]
    assert translated.offsets.tolist() == [0, 2, 2, 2]


def test_concatenated_pieces_keep_their_users():
    joined = UserSequences.concatenate(
        [users_of_lengths(2), users_of_lengths(), users_of_lengths(1, 3)]
    )
    assert joined.lengths.tolist() == [2, 1, 3]
    assert joined.item_ids.tolist() == [1, 2, 1, 2, 3, 4]
    assert UserSequences.concatenate([]).lengths.tolist() == []


def test_a_refit_learns_from_every_interaction_and_holds_out_none():
    users = users_of_lengths(5, 1, 3)
    everything = for_refit(users)
    assert distinct_targets(users) == 2 + 0 + 0
    assert distinct_targets(everything) == 4 + 0 + 2
    assert len(cut_prefixes(everything, 9)) == 6
    assert len(hold_out(everything, "valid").lengths) == 0


def test_sequences_are_taken_and_joined_per_user():
    first = UserSequences(np.array([1, 2, 3], np.int32), np.array([0, 2, 2, 3]))
    second = UserSequences(np.array([7, 8], np.int32), np.array([0, 0, 1, 2]))
    both = first.joined(second)
    assert (both.item_ids.tolist(), both.offsets.tolist()) == ([1, 2, 7, 3, 8], [0, 2, 3, 5])
    taken = both.take(np.array([2, 0]))
    assert (taken.item_ids.tolist(), taken.offsets.tolist()) == ([3, 8, 1, 2], [0, 2, 4])
