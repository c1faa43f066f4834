import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.preparation.packing import pack_rows, unpack_rows
from lightsans.preparation.sorting import (
    core_rows,
    count_exact_duplicates,
    count_items,
    derive_sequences,
    fingerprint_dataset,
    fingerprint_part,
    item_counts,
    k_core,
    load_interactions,
    merge_counts,
    save_interactions,
    select_rows,
    sort_interactions,
    users_of,
)
from lightsans.storage.location import locate
from lightsans.storage.schemas import interactions_schema


def make_log(rows):
    """A log of (user, item, timestamp, rating) in order of the input."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4
    return pa.table(
        {
            "user_id": pa.array(columns[0], pa.string()),
            "raw_item_id": pa.array(columns[1], pa.string()),
            "timestamp": pa.array(columns[2], pa.int64()),
            "rating": pa.array(columns[3], pa.float64()),
            "order_key": pa.array(range(len(rows)), pa.int64()),
        }
    )


def parts_of(log, num_parts):
    """Number and sorted interactions of the parts of a log that travels in three stretches."""
    third = len(log) // 3 + 1
    stretches = [log.slice(start, third) for start in range(0, len(log), third)]
    packed = pa.concat_tables([pack_rows(rows, num_parts) for rows in stretches])
    return {number: sort_interactions(rows) for number, rows in unpack_rows(packed)}


def part_of(rows):
    [table] = parts_of(make_log(rows), 1).values()
    return table


def core_of(rows, min_user, min_item):
    """Raw ids and counts of what k-core leaves of a part, and its rounds."""
    core, raw = core_rows(rows)
    survivors, rounds = k_core(
        lambda alive: item_counts(*count_items(core, alive, min_user)), min_item
    )
    places = np.searchsorted(core.item_hashes, survivors["hash"].to_numpy())
    return raw.take(pa.array(places)), survivors["count"].to_numpy(), rounds


def simple(*pairs):
    """Rows of (user, item), all rated 5, one after the other."""
    return [(user, item, time, 5.0) for time, (user, item) in enumerate(pairs)]


def sequences(rows, *, as_of=None, items=None, **settings):
    """The derived row of each user, as a dict by user id, with raw item ids."""
    data = DataConfig(**settings)
    selected = select_rows(part_of(rows), data, as_of)
    vocabulary = Vocabulary(pa.array(items), np.ones(len(items), np.int64)) if items else None
    if vocabulary is None:
        least = (data.min_user_interactions, data.min_item_interactions)
        ids, counts, _ = core_of(selected, *least)
        vocabulary = Vocabulary.from_counts(ids.cast(pa.string()), counts)
    table = derive_sequences(selected, vocabulary, data.min_user_interactions)
    names = [None, *vocabulary.raw_item_ids.to_pylist()]
    derived = {}
    for row in table.to_pylist():
        row["items"] = [names[item] for item in row["item_ids"]]
        row["also_seen"] = sorted(names[item] for item in row["also_seen"])
        derived[row["user_id"]] = row
    return derived


def test_a_part_is_sorted_by_user_time_and_position_in_the_input(tmp_path):
    rows = [("b", "late", 9, 1.0), ("a", "x", 5, None), ("b", "y", 5, 1.0), ("b", "z", 5, 1.0)]
    table = part_of(rows)
    location = locate(str(tmp_path / "part.parquet"), StorageConfig())
    save_interactions(location, table)
    stored = location.read_table()
    assert stored.schema == interactions_schema(pa.string(), pa.string())
    assert load_interactions(location).to_pylist() == stored.to_pylist() == table.to_pylist()
    of_b = [row["raw_item_id"] for row in table.to_pylist() if row["user_id"] == "b"]
    assert of_b == ["y", "z", "late"]
    buckets = table["bucket"].to_pylist()
    assert buckets == sorted(buckets)


def test_rows_are_cut_into_parts_by_user():
    log = make_log(simple(*((f"u{n % 50}", f"i{n}") for n in range(500))))
    parts = parts_of(log, 7)
    assert len(parts) == 7
    assert sum(table.num_rows for table in parts.values()) == 500
    users = [set(table["user_id"].to_pylist()) for table in parts.values()]
    assert sum(map(len, users)) == 50
    for number, table in parts.items():
        assert all(number * 4096 // 7 <= b <= (number + 1) * 4096 // 7 for b in
                   table["bucket"].to_pylist())  # fmt: skip


def test_parts_that_are_not_wanted_do_not_travel():
    log = make_log(simple(*((f"u{n}", "x") for n in range(100))))
    is_wanted = np.array([True, False, True])
    parts = dict(unpack_rows(pack_rows(log, 3, is_wanted)))
    assert set(parts) == {0, 2}


def test_a_stretch_without_rows_has_nothing_to_send():
    assert pack_rows(make_log([]), 3).num_rows == 0


def test_exact_duplicates_repeat_user_item_and_time():
    rows = [("a", "x", 1, 5.0), ("a", "x", 1, 4.0), ("a", "x", 2, 5.0), ("b", "x", 1, 5.0)]
    table = part_of(rows * 2)
    assert count_exact_duplicates(table, users_of(table)[1]) == 5


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
    ids, counts, rounds = core_of(selected, 2, 2)
    assert dict(zip(ids.to_pylist(), counts.tolist(), strict=True)) == {"x": 2, "w": 2}
    assert rounds == 3


def test_users_below_the_core_are_kept_for_scoring_with_the_items_they_know():
    rows = simple(*((u, i) for u in "ab" for i in "xyz"), ("c", "x"), ("c", "unknown"))
    derived = sequences(rows, min_user_interactions=3)
    assert derived["c"]["items"] == ["x"]
    assert not derived["c"]["trainable"]
    assert derived["a"]["trainable"]


def test_a_core_of_nothing_has_no_items():
    selected = select_rows(part_of(simple(("a", "x"), ("b", "y"))), DataConfig())
    ids, _, _ = core_of(selected, 2, 1)
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


def test_a_part_whose_rows_are_all_too_new_has_no_sequences():
    table = part_of(simple(("a", "x")))
    selected = select_rows(table, DataConfig(min_rating=1.0, dedupe="last"), as_of=0)
    assert len(count_items(core_rows(selected)[0], None, 1)[0]) == 0
    vocabulary = Vocabulary(pa.array(["x"]), np.array([1]))
    assert derive_sequences(selected, vocabulary, 1).num_rows == 0


def test_integer_ids_work_as_text_does():
    table = pa.table({"user_id": [5, 3, 5], "raw_item_id": [8, 8, 9], "timestamp": [2, 1, 1]})
    table = table.append_column("rating", pa.nulls(3, pa.float64()))
    table = table.append_column("order_key", pa.array([0, 1, 2]))
    [part] = parts_of(table, 1).values()
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
    vocabulary = Vocabulary(pa.array([f"i{n}" for n in range(7)]), np.ones(7, np.int64))
    found = set()
    for num_parts in (1, 3, 50):
        parts = [
            fingerprint_part(derive_sequences(select_rows(table, DataConfig()), vocabulary, 1))
            for table in parts_of(log, num_parts).values()
        ]
        found.add(fingerprint_dataset(parts, vocabulary.fingerprint))
    assert len(found) == 1
    assert fingerprint_dataset(parts, "0" * 16) not in found


@pytest.mark.parametrize("shape", ["one user has nearly all rows", "one item", "only single rows"])
def test_no_shape_of_a_log_is_too_uneven(shape):
    """Sequences equal those of one stable sort, whatever is heavy."""
    rng, num_rows = np.random.default_rng(0), 60_000
    user, item = rng.integers(0, 900, num_rows), rng.integers(0, 700, num_rows)
    if shape == "one user has nearly all rows":
        user[rng.random(num_rows) < 0.98] = 7
    elif shape == "one item":
        item[rng.random(num_rows) < 0.5] = 7
    else:
        user = rng.permutation(num_rows)
    time = rng.integers(0, 5000, num_rows)
    columns = {"user_id": [f"u{n}" for n in user], "raw_item_id": [f"i{n}" for n in item]}
    log = pa.table({**columns, "timestamp": time, "rating": np.full(num_rows, 5.0)})
    log = log.append_column("order_key", pa.array(np.arange(num_rows)))
    order = np.lexsort((np.arange(num_rows), time, user))
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    expected = {
        f"u{user[rows[0]]}": [f"i{n}" for n in item[rows]] for rows in np.split(order, starts[1:])
    }
    names = np.unique(columns["raw_item_id"])
    vocabulary = Vocabulary(pa.array(names), np.ones(len(names), np.int64))
    found: dict[str, list[str]] = {}
    for part in parts_of(log, 5).values():
        derived = derive_sequences(select_rows(part, DataConfig()), vocabulary, 1)
        users, lists = derived["user_id"].to_pylist(), derived["item_ids"].to_pylist()
        found |= {u: names[np.array(ids) - 1].tolist() for u, ids in zip(users, lists, strict=True)}
    assert found == expected
