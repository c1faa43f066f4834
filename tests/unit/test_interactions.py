import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.interactions import (
    assign_parts,
    count_exact_duplicates,
    count_items,
    derive_sequences,
    fingerprint_dataset,
    fingerprint_part,
    k_core,
    merge_counts,
    select_rows,
    split_parts,
)
from lightsans.schema import interactions_schema
from lightsans.vocabulary import Vocabulary


def make_log(rows):
    """A part of ``interactions/`` from (user, item, timestamp, rating) in order of the input."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4
    table = pa.table(
        {
            "user_id": pa.array(columns[0], pa.string()),
            "raw_item_id": pa.array(columns[1], pa.string()),
            "timestamp": pa.array(columns[2], pa.int64()),
            "rating": pa.array(columns[3], pa.float64()),
            "order_key": pa.array(range(len(rows)), pa.int64()),
        }
    )
    return assign_parts(table, 1)


def part_of(rows):
    [(number, table)] = split_parts(make_log(rows))
    assert number == 0
    return table


def simple(*pairs):
    """Rows of (user, item), all rated 5, one after the other."""
    return [(user, item, time, 5.0) for time, (user, item) in enumerate(pairs)]


def sequences(rows, *, as_of=None, items=None, **settings):
    """The derived row of each user, as a dict by user id, with raw item ids."""
    data = DataConfig(**settings)
    selected = select_rows(part_of(rows), data, as_of)
    vocabulary = Vocabulary(pa.array(items), np.ones(len(items), np.int64)) if items else None
    if vocabulary is None:
        survivors, _ = k_core(
            lambda alive: count_items(selected, alive, data.min_user_interactions),
            data.min_item_interactions,
        )
        ids, counts = survivors["raw_item_id"].combine_chunks(), survivors["count"].to_numpy()
        vocabulary = Vocabulary.from_counts(ids, counts)
    table = derive_sequences(selected, vocabulary, data.min_user_interactions)
    names = [None, *vocabulary.raw_item_ids.to_pylist()]
    derived = {}
    for row in table.to_pylist():
        row["items"] = [names[item] for item in row["item_ids"]]
        row["also_seen"] = sorted(names[item] for item in row["also_seen"])
        derived[row["user_id"]] = row
    return derived


def test_a_part_is_sorted_by_user_time_and_position_in_the_input():
    rows = [("b", "late", 9, 1.0), ("a", "x", 5, 1.0), ("b", "y", 5, 1.0), ("b", "z", 5, 1.0)]
    table = part_of(rows)
    assert table.schema == interactions_schema(pa.string(), pa.string())
    of_b = [row["raw_item_id"] for row in table.to_pylist() if row["user_id"] == "b"]
    assert of_b == ["y", "z", "late"]
    buckets = table["bucket"].to_pylist()
    assert buckets == sorted(buckets)


def test_rows_are_cut_into_parts_by_user():
    log = make_log(simple(*((f"u{n % 50}", f"i{n}") for n in range(500))))
    log = assign_parts(log.drop_columns(["bucket", "part"]), 7)
    parts = dict(split_parts(log))
    assert len(parts) == 7
    assert sum(table.num_rows for table in parts.values()) == 500
    users = [set(table["user_id"].to_pylist()) for table in parts.values()]
    assert sum(map(len, users)) == 50
    for number, table in parts.items():
        assert all(number * 4096 // 7 <= b <= (number + 1) * 4096 // 7 for b in
                   table["bucket"].to_pylist())  # fmt: skip


def test_exact_duplicates_repeat_user_item_and_time():
    rows = [("a", "x", 1, 5.0), ("a", "x", 1, 4.0), ("a", "x", 2, 5.0), ("b", "x", 1, 5.0)]
    assert count_exact_duplicates(part_of(rows * 2)) == 5


def test_ties_keep_the_order_of_the_input():
    rows = [("a", item, 7, 5.0) for item in ("m", "b", "z", "a")]
    assert sequences(rows)["a"]["items"] == ["m", "b", "z", "a"]
    assert sequences(rows)["a"]["timestamps"] == [7, 7, 7, 7]


@pytest.mark.parametrize(
    ("dedupe", "expected"),
    [
        ("none", ["x", "y", "x", "z", "y"]),
        ("first", ["x", "y", "z"]),
        ("last", ["x", "z", "y"]),
    ],
)
def test_dedupe_keeps_the_first_or_last_of_a_users_repeats(dedupe, expected):
    rows = simple(*(("a", item) for item in "xyxzy"), ("b", "x"))
    derived = sequences(rows, dedupe=dedupe)
    assert derived["a"]["items"] == expected
    assert derived["b"]["items"] == ["x"]
    assert derived["a"]["also_seen"] == []


def test_low_ratings_are_not_learnt_from_but_count_as_seen():
    """By hand: bob rated x low and y not at all, so x is in no sequence of his, y in none at all.

    z is rated low by everybody: it is not in the vocabulary, so nobody needs it in ``also_seen``.
    """
    rows = [
        ("ann", "x", 1, 4.0), ("ann", "y", 2, 3.0), ("ann", "z", 3, 1.0), ("ann", "y", 4, 2.0),
        ("bob", "x", 1, 2.9), ("bob", "y", 2, None), ("bob", "x", 3, 1.0), ("bob", "z", 4, 1.0),
    ]  # fmt: skip
    derived = sequences(rows, min_rating=3.0)
    assert derived["ann"]["items"] == ["x", "y"]
    assert derived["ann"]["also_seen"] == []
    assert derived["ann"]["trainable"]
    assert derived["bob"]["items"] == []
    assert derived["bob"]["also_seen"] == ["x", "y"]
    assert not derived["bob"]["trainable"]


def test_dedupe_comes_before_the_rating_filter():
    """The kept first rating is low, so the item is only seen, though rated well later."""
    rows = [("a", "x", 1, 1.0), ("a", "x", 2, 5.0), ("b", "x", 1, 5.0)]
    derived = sequences(rows, dedupe="first", min_rating=3.0)
    assert (derived["a"]["items"], derived["a"]["also_seen"]) == ([], ["x"])
    assert sequences(rows, dedupe="last", min_rating=3.0)["a"]["items"] == ["x"]


def test_rows_from_as_of_on_count_for_nothing_at_all():
    rows = [("a", "x", 1, 5.0), ("a", "y", 10, 5.0), ("new", "x", 10, 5.0), ("b", "y", 9, 5.0)]
    derived = sequences(rows, as_of=10)
    assert set(derived) == {"a", "b"}
    assert derived["a"]["items"] == ["x"]
    assert derived["a"]["also_seen"] == []


def test_k_core_drops_users_and_items_until_none_is_too_rare():
    """By hand, 2-core: z has one user, so it goes; then c has one item left, so c goes; then y has
    only a left, so y goes; a keeps x and w, as does b."""
    rows = simple(
        ("a", "x"), ("a", "w"), ("a", "y"), ("b", "x"), ("b", "w"), ("c", "y"), ("c", "z"),
    )  # fmt: skip
    derived = sequences(rows, min_user_interactions=2, min_item_interactions=2)
    assert derived["a"]["items"] == ["x", "w"]
    assert derived["c"]["items"] == []
    assert not derived["c"]["trainable"]
    selected = select_rows(part_of(rows), DataConfig())
    survivors, rounds = k_core(lambda alive: count_items(selected, alive, 2), 2)
    assert dict(zip(*survivors.to_pydict().values(), strict=True)) == {"x": 2, "w": 2}
    assert rounds == 3


def test_users_below_the_core_are_kept_for_scoring_with_the_items_they_know():
    rows = simple(*((u, i) for u in "ab" for i in "xyz"), ("c", "x"), ("c", "unknown"))
    derived = sequences(rows, min_user_interactions=3)
    assert derived["c"]["items"] == ["x"]
    assert not derived["c"]["trainable"]
    assert derived["a"]["trainable"]


def test_a_core_of_nothing_has_no_items():
    selected = select_rows(part_of(simple(("a", "x"), ("b", "y"))), DataConfig())
    survivors, _ = k_core(lambda alive: count_items(selected, alive, 2), 1)
    assert survivors.num_rows == 0


def test_counts_of_parts_add_up():
    one = pa.table({"raw_item_id": ["a", "b"], "count": [1, 2]})
    two = pa.table({"raw_item_id": ["b", "c"], "count": [3, 4]})
    merged = merge_counts([one, two]).sort_by("raw_item_id").to_pydict()
    assert merged == {"raw_item_id": ["a", "b", "c"], "count": [1, 5, 4]}


def test_a_part_whose_rows_are_all_too_new_has_no_sequences():
    table = part_of(simple(("a", "x")))
    selected = select_rows(table, DataConfig(min_rating=1.0, dedupe="last"), as_of=0)
    assert count_items(selected, None, 1).num_rows == 0
    vocabulary = Vocabulary(pa.array(["x"]), np.array([1]))
    assert derive_sequences(selected, vocabulary, 1).num_rows == 0


def test_integer_ids_work_as_text_does():
    table = pa.table({"user_id": [5, 3, 5], "raw_item_id": [8, 8, 9], "timestamp": [2, 1, 1]})
    table = table.append_column("rating", pa.nulls(3, pa.float64()))
    table = table.append_column("order_key", pa.array([0, 1, 2]))
    [(_, part)] = split_parts(assign_parts(table, 1))
    vocabulary = Vocabulary(pa.array([9, 8]), np.array([1, 2]))
    derived = derive_sequences(select_rows(part, DataConfig()), vocabulary, 1)
    by_user = dict(
        zip(derived["user_id"].to_pylist(), derived["item_ids"].to_pylist(), strict=True)
    )
    assert by_user == {5: [1, 2], 3: [2]}


def fingerprints(rows, **settings):
    return {user: row["fingerprint"] for user, row in sequences(rows, **settings).items()}


BASE = [("a", "x", 1, 5.0), ("a", "y", 2, 5.0), ("b", "x", 1, 5.0), ("b", "z", 3, 1.0)]


@pytest.mark.parametrize(
    "changed",
    [
        [("a", "x", 1, 5.0), ("a", "z", 2, 5.0)],  # another item
        [("a", "x", 1, 5.0), ("a", "y", 3, 5.0)],  # another time
        [("a", "y", 1, 5.0), ("a", "x", 2, 5.0)],  # another order
        [("a", "x", 1, 5.0), ("a", "y", 2, 1.0)],  # now only seen
        [("a", "x", 1, 5.0)],  # one less
    ],
)
def test_a_users_fingerprint_changes_with_the_sequence_and_only_then(changed):
    settings = {"min_rating": 3.0, "items": ["x", "y", "z"]}
    before, after = fingerprints(BASE, **settings), fingerprints(changed + BASE[2:], **settings)
    assert before["a"] != after["a"]
    assert before["b"] == after["b"]


def test_fingerprints_do_not_depend_on_how_items_are_numbered():
    settings = {"min_rating": 3.0}
    assert fingerprints(BASE, items=["x", "y", "z"], **settings) == fingerprints(
        BASE, items=["z", "y", "x"], **settings
    )


def test_a_dataset_has_the_same_fingerprint_however_it_is_cut_into_parts():
    log = make_log(simple(*((f"u{n % 50}", f"i{n % 7}") for n in range(500))))
    log = log.drop_columns(["bucket", "part"])
    vocabulary = Vocabulary(pa.array([f"i{n}" for n in range(7)]), np.ones(7, np.int64))
    found = set()
    for num_parts in (1, 3, 50):
        parts = [
            fingerprint_part(derive_sequences(select_rows(table, DataConfig()), vocabulary, 1))
            for _, table in split_parts(assign_parts(log, num_parts))
        ]
        found.add(fingerprint_dataset(parts, vocabulary.fingerprint))
    assert len(found) == 1
    assert fingerprint_dataset(parts, "0" * 16) not in found
