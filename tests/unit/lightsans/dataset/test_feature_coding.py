"""Item features become numbers: codes of categories, standardised numbers and vectors."""

import numpy as np
import pytest

from lightsans.dataset.feature_coding import FeatureCoding
from lightsans.errors import InputError
from tests.item_features import feature_arrays, feature_table


def bag(arrays, item):
    chosen = slice(arrays.offsets[item], arrays.offsets[item + 1])
    return arrays.categories[chosen].tolist(), arrays.weights[chosen].tolist()


def test_categories_are_numbered_by_column_and_a_cell_weighs_as_much_as_another():
    table = feature_table(brand=[["x"], ["y"]], genre=[["b", "a"], []])
    arrays = feature_arrays(table)
    assert arrays.num_categories == 4
    half = pytest.approx(2**-0.5)
    assert bag(arrays, 0) == ([], []), "padding"
    assert bag(arrays, 1) == ([0, 3, 2], [1.0, half, half])
    assert bag(arrays, 2) == ([1], [1.0])


def test_numbers_are_standardised_and_a_missing_one_is_said():
    arrays = feature_arrays(feature_table(price=[1.0, 3.0, None]))
    assert arrays.numbers.tolist() == [[0, 0], [-1, 0], [1, 0], [0, 0]]
    assert arrays.is_described.tolist() == [False, True, True, False]
    table = feature_table(price=[1.0, 3.0, None], genre=[["a"], ["a"], ["a"]])
    assert feature_arrays(table).numbers[3].tolist() == [0, 1], "a row without a price"


def test_a_wild_number_does_not_count_as_more_than_ten_deviations():
    arrays = feature_arrays(feature_table(price=[1.0, 3.0, 1e9]), met=[1, 2])
    assert arrays.numbers[3, 0] == 10


def test_vectors_are_centred_and_have_length_one_on_average():
    table = feature_table(title_vector=[[5.0, 0.0], [5.0, 4.0], None])
    arrays = feature_arrays(table)
    assert arrays.numbers[1:3].tolist() == [[0, -1, 0], [0, 1, 0]]


def test_what_only_new_items_have_says_nothing():
    """Nothing is learned of it: categories and statistics are those of items that were met."""
    table = feature_table(genre=[["a"], ["a"], ["new"]], price=[1.0, 3.0, 9.0])
    arrays = feature_arrays(table, met=[1, 2])
    assert bag(arrays, 3) == ([], [])
    assert arrays.numbers[3, 0] == 7
    assert arrays.met_ids is not None
    assert arrays.met_ids.tolist() == [1, 2]
    assert arrays.new_ids.tolist() == [3]


def test_vectors_that_only_new_items_have_say_nothing():
    table = feature_table(title_vector=[None, [1.0, 2.0]], price=[1.0, 3.0])
    assert feature_arrays(table, met=[1]).numbers[1:].tolist() == [[0, 0, 1], [2, 0, 1]]


def test_where_all_items_were_met_or_none_all_are_compared():
    table = feature_table(genre=[["a"], ["b"]])
    assert feature_arrays(table).met_ids is None
    assert feature_arrays(table, met=[]).met_ids is None


def test_a_coding_survives_as_text():
    table = feature_table(genre=[["é"]], price=[2.0], title_vector=[[1.0, 2.0]])
    coding = FeatureCoding.fit(table, np.ones(1, bool))
    assert FeatureCoding.from_json(coding.to_json()) == coding


def test_a_coding_that_is_taken_over_keeps_its_numbers_and_appends_categories():
    everybody = np.ones(2, bool)
    base = FeatureCoding.fit(feature_table(genre=[["b"], ["c"]], price=[1.0, 3.0]), everybody)
    later = feature_table(genre=[["a"], ["c"]], price=[100.0, 100.0])
    found = FeatureCoding.fit(later, everybody, base)
    assert found.categories == {"categorical.genre": ["b", "c", "a"]}
    assert found.numbers == base.numbers


def test_a_coding_that_is_taken_over_keeps_the_order_of_its_columns():
    everybody = np.ones(2, bool)
    numbers = {"price": [1.0, 3.0], "size": [5.0, 9.0]}
    first = feature_table(**numbers, a_vector=[[1.0], [3.0]], b_vector=[[1.0], [0.0]])
    base = FeatureCoding.fit(first, everybody)
    later = first.select(first.column_names[::-1])
    found = FeatureCoding.fit(later, everybody, base)
    assert found.to_json() == base.to_json()
    expected = base.arrays(first, everybody).numbers
    assert found.arrays(later, everybody).numbers.tolist() == expected.tolist()


def test_numbers_that_came_later_are_standardised_by_a_coding_that_knew_none():
    everybody = np.ones(2, bool)
    base = FeatureCoding.fit(feature_table(price=[None, None]), everybody)
    later = feature_table(price=[100.0, 300.0])
    found = FeatureCoding.fit(later, everybody, FeatureCoding.from_json(base.to_json()))
    assert found.arrays(later, everybody).numbers[1:, 0].tolist() == [-1, 1]


def test_other_columns_and_vectors_of_another_length_are_refused():
    everybody = np.ones(1, bool)
    coding = FeatureCoding.fit(feature_table(title_vector=[[1.0, 2.0]]), everybody)
    with pytest.raises(
        InputError, match=r"vectors of title_vector .* have 3 numbers, .* learned 2"
    ):
        coding.arrays(feature_table(title_vector=[[1.0, 2.0, 3.0]]), everybody)
    with pytest.raises(InputError, match=r"learned the item features vector\.title_vector, .* has"):
        coding.arrays(feature_table(price=[1.0]), everybody)
    missing = feature_table(title_vector=[None])
    assert coding.arrays(missing, everybody).numbers.tolist() == [[0, 0, 0], [0, 0, 0]]
