import pytest

from tests.factories import (
    derived_sequences,
    rated_5,
)


@pytest.mark.parametrize(
    ("dedupe", "expected"),
    [
        ("none", ["x", "y", "x", "z", "y"]),
        ("first", ["x", "y", "z"]),
        ("last", ["x", "z", "y"]),
    ],
)
def test_dedupe_keeps_the_first_or_last_of_a_users_repeats(dedupe, expected):
    rows = rated_5(*(("a", item) for item in "xyxzy"), ("b", "x"))
    derived = derived_sequences(rows, dedupe=dedupe)
    assert derived["a"]["items"] == expected
    assert derived["b"]["items"] == ["x"]
    assert derived["a"]["also_seen"] == []


def test_low_ratings_are_not_learnt_from_but_count_as_seen():
    """Bob rated x low and y not at all, so x is in no sequence of his, y in none at all.

    z is rated low by everybody: it is not in the vocabulary, so nobody needs it in ``also_seen``.
    """
    rows = [
        ("ann", "x", 1, 4.0), ("ann", "y", 2, 3.0), ("ann", "z", 3, 1.0), ("ann", "y", 4, 2.0),
        ("bob", "x", 1, 2.9), ("bob", "y", 2, None), ("bob", "x", 3, 1.0), ("bob", "z", 4, 1.0),
    ]  # fmt: skip
    derived = derived_sequences(rows, min_rating=3.0)
    assert derived["ann"]["items"] == ["x", "y"]
    assert derived["ann"]["also_seen"] == []
    assert derived["ann"]["trainable"]
    assert derived["bob"]["items"] == []
    assert derived["bob"]["also_seen"] == ["x", "y"]
    assert not derived["bob"]["trainable"]


def test_dedupe_comes_before_the_rating_filter():
    """The kept first rating is low, so the item is only seen, though rated well later."""
    rows = [("a", "x", 1, 1.0), ("a", "x", 2, 5.0), ("b", "x", 1, 5.0)]
    derived = derived_sequences(rows, dedupe="first", min_rating=3.0)
    assert (derived["a"]["items"], derived["a"]["also_seen"]) == ([], ["x"])
    assert derived_sequences(rows, dedupe="last", min_rating=3.0)["a"]["items"] == ["x"]


def test_rows_from_as_of_on_count_for_nothing_at_all():
    rows = [("a", "x", 1, 5.0), ("a", "y", 10, 5.0), ("new", "x", 10, 5.0), ("b", "y", 9, 5.0)]
    derived = derived_sequences(rows, as_of=10)
    assert set(derived) == {"a", "b"}
    assert derived["a"]["items"] == ["x"]
    assert derived["a"]["also_seen"] == []
