import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.preparation.k_core import item_counts, merge_counts
from lightsans.preparation.selection import select_rows
from tests.factories import (
    derived_sequences,
    k_core_of,
    rated_5,
    sorted_part,
)


def test_k_core_drops_users_and_items_until_none_is_too_rare():
    """By hand, 2-core: z has one user, so it goes; then c has one item left, so c goes; then y has
    only a left, so y goes; a keeps x and w, as does b."""
    rows = rated_5(
        ("a", "x"), ("a", "w"), ("a", "y"), ("b", "x"), ("b", "w"), ("c", "y"), ("c", "z"),
    )  # fmt: skip
    derived = derived_sequences(rows, min_user_interactions=2, min_item_interactions=2)
    assert derived["a"]["items"] == ["x", "w"]
    assert derived["c"]["items"] == []
    assert not derived["c"]["trainable"]
    selected = select_rows(sorted_part(rows), DataConfig())
    ids, counts, rounds = k_core_of(selected, 2, 2)
    assert dict(zip(ids.to_pylist(), counts.tolist(), strict=True)) == {"x": 2, "w": 2}
    assert rounds == 3


def test_users_below_the_core_are_kept_for_scoring_with_the_items_they_know():
    rows = rated_5(*((u, i) for u in "ab" for i in "xyz"), ("c", "x"), ("c", "unknown"))
    derived = derived_sequences(rows, min_user_interactions=3)
    assert derived["c"]["items"] == ["x"]
    assert not derived["c"]["trainable"]
    assert derived["a"]["trainable"]


def test_a_core_of_nothing_has_no_items():
    selected = select_rows(sorted_part(rated_5(("a", "x"), ("b", "y"))), DataConfig())
    ids, _, _ = k_core_of(selected, 2, 1)
    assert len(ids) == 0


def test_counts_of_parts_add_up():
    one = item_counts(np.array([3, 7], np.uint64), np.array([1, 2]), pa.array(["a", "b"]))
    two = item_counts(np.array([5, 7], np.uint64), np.array([4, 3]), pa.array(["c", "b"]))
    merged = merge_counts([one, two]).to_pydict()
    assert merged == {"hash": [3, 5, 7], "count": [1, 4, 5], "raw_item_id": ["a", "c", "b"]}


def test_two_items_with_one_hash_are_refused():
    tables = [
        item_counts(np.array([7], np.uint64), np.array([1]), pa.array([name])) for name in "abb"
    ]
    assert merge_counts(tables[1:])["count"].to_pylist() == [2]
    with pytest.raises(InputError, match=r"items 'b' and 'a' have the same hash"):
        merge_counts(tables)
