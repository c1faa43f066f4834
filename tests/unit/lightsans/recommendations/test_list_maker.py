"""Which items a maker of lists may recommend."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans.dataset.vocabulary import Vocabulary
from lightsans.recommendations.list_maker import ListMaker
from tests.factories import sequences_of
from tests.models import small_list_maker, small_model


def recommend(dataset_items, model_items=None, mapping=None, eligible=None):
    """Lists for a user who met item 1 of the dataset, and for a user who met nothing."""
    torch.manual_seed(0)
    model_items = model_items or dataset_items
    list_maker = ListMaker(
        small_model(model_items.num_items, n_layers=1), model_items, dataset_items, mapping,
        k=10, remove_seen=False, eligible_ids=eligible, eligible_popular_ids=eligible,
    )  # fmt: skip
    histories = sequences_of([1], [])
    none = sequences_of([], [])
    found = list_maker.recommend(histories, none)
    assert found.source.to_pylist() == ["model", "popular"]
    return [set(items) for items in found.item_ids.to_pylist()]


def test_items_that_left_the_dataset_are_not_recommended():
    """``gone`` has count 0: it left the k-core, or only an erased user knew it."""
    items = Vocabulary(pa.array(["a", "b", "gone"]), np.array([3, 2, 0]))
    assert recommend(items) == [{"a", "b"}, {"a", "b"}]
    assert recommend(items, eligible=np.array([2, 3])) == [{"b"}, {"b"}]


def test_nor_are_they_by_a_model_that_numbers_items_differently():
    items = Vocabulary(pa.array(["a", "b", "gone", "never"]), np.array([3, 2, 0, 0]))
    model_items = Vocabulary(pa.array(["gone", "x", "b", "a"]), np.array([9, 4, 3, 2]))
    mapping = np.array([0, 4, 3, 1, 0], np.int32)
    by_model, by_popularity = recommend(items, model_items, mapping)
    assert by_model == {"a", "b", "x"}  # the dataset says nothing about x
    assert by_popularity == {"a", "b"}


@pytest.mark.parametrize("eligible", [None, np.array([1, 3])])
def test_without_dead_items_everything_eligible_is_recommended(eligible):
    items = Vocabulary(pa.array(["a", "b", "c"]), np.array([3, 2, 1]))
    expected = {"a", "b", "c"} if eligible is None else {"a", "c"}
    assert recommend(items, eligible=eligible) == [expected, expected]


def test_newcomers_get_the_popular_items_of_the_last_days_then_those_of_all_time():
    items = Vocabulary(pa.array(["a", "b", "c", "d"]), np.array([9, 5, 4, 1]))
    list_maker = ListMaker(
        small_model(4, n_layers=1), items, items, None, k=10, remove_seen=False,
        recent_counts=np.array([0, 0, 0, 2, 1]),
    )  # fmt: skip
    found = list_maker.recommend(sequences_of([1], []), sequences_of([], []))
    assert found.source.to_pylist() == ["model", "popular_recent"]
    assert found.item_ids.to_pylist()[1] == ["c", "d", "a", "b"]
    scores = found.scores.to_pylist()[1]
    assert scores == pytest.approx([2.4, 1.1, 0.9, 0.5])


def test_fingerprints_tell_histories_apart_but_not_the_order_of_what_was_also_seen():
    list_maker = small_list_maker()

    def fingerprint(history, also_seen):
        known = list_maker.know(sequences_of(history), sequences_of(also_seen))
        return int(known.fingerprints[0])

    same = fingerprint([1, 2, 3], [8, 9])
    assert fingerprint([1, 2, 3], [9, 8]) == same
    others = [([1, 3, 2], [8, 9]), ([1, 2, 3, 8], [9]), ([2, 3], [8, 9]), ([1, 2, 3], [8]),
              ([1, 2, 3], [8, 9, 9]), ([], [])]  # fmt: skip
    assert len({fingerprint(*other) for other in others} | {same}) == len(others) + 1
