import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.preparation.derive import (
    SequenceLimits,
    derive_sequences,
    fingerprint_dataset,
)
from lightsans.preparation.k_core import core_rows, count_items
from lightsans.preparation.selection import select_rows
from lightsans.preparation.temporal import Cutoffs
from lightsans.storage.parts import fingerprint_part
from tests.factories import (
    HASH_KEY,
    derived_sequences,
    interaction_log,
    rated_5,
    sorted_part,
    sorted_parts,
)


def test_a_part_whose_rows_are_all_too_new_has_no_sequences():
    table = sorted_part(rated_5(("a", "x")))
    selected = select_rows(table, DataConfig(min_rating=1.0, dedupe="last"), as_of=0)
    assert len(count_items(core_rows(selected, HASH_KEY)[0], None, 1)[0]) == 0
    vocabulary = Vocabulary(pa.array(["x"]), np.array([1]))
    assert derive_sequences(selected, vocabulary, 1).num_rows == 0


def test_integer_ids_work_as_text_does():
    table = pa.table({"user_id": [5, 3, 5], "raw_item_id": [8, 8, 9], "timestamp": [2, 1, 1]})
    table = table.append_column("rating", pa.nulls(3, pa.float64()))
    table = table.append_column("order_key", pa.array([0, 1, 2]))
    [part] = sorted_parts(table, 1).values()
    vocabulary = Vocabulary(pa.array([9, 8]), np.array([1, 2]))
    derived = derive_sequences(select_rows(part, DataConfig()), vocabulary, 1)
    by_user = dict(
        zip(derived["user_id"].to_pylist(), derived["item_ids"].to_pylist(), strict=True)
    )
    assert by_user == {5: [1, 2], 3: [2]}


def fingerprints(rows, **settings):
    return {user: row["fingerprint"] for user, row in derived_sequences(rows, **settings).items()}


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
    log = interaction_log(rated_5(*((f"u{n % 50}", f"i{n % 7}") for n in range(500))))
    vocabulary = Vocabulary(pa.array([f"i{n}" for n in range(7)]), np.ones(7, np.int64))
    found = set()
    for num_parts in (1, 3, 50):
        parts = [
            fingerprint_part(derive_sequences(select_rows(table, DataConfig()), vocabulary, 1))
            for table in sorted_parts(log, num_parts).values()
        ]
        found.add(fingerprint_dataset(parts, vocabulary.fingerprint))
    assert len(found) == 1
    assert fingerprint_dataset(parts, "0" * 16) not in found


@pytest.mark.parametrize("shape", ["one user has nearly all rows", "one item", "only single rows"])
def test_no_shape_of_a_log_is_too_uneven(shape):
    """Sequences equal those of one stable sort, whatever is heavy."""
    rng, num_rows = np.random.default_rng(0), 30_000
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
    for part in sorted_parts(log, 5).values():
        derived = derive_sequences(select_rows(part, DataConfig()), vocabulary, 1)
        users, lists = derived["user_id"].to_pylist(), derived["item_ids"].to_pylist()
        found |= {u: names[np.array(ids) - 1].tolist() for u, ids in zip(users, lists, strict=True)}
    assert found == expected


def temporal_row(keep_last, rows=None):
    """Six rows of a user before the cut-offs and four after, split and shortened."""
    items = "abcdef" + "defa"
    rows = rows or [("u", item, time, 5.0) for time, item in enumerate(items)]
    cutoffs, limits = Cutoffs(6, 6), SequenceLimits(keep_last, None)
    selected = select_rows(sorted_part(rows), DataConfig(), None, cutoffs)
    vocabulary = Vocabulary(pa.array(list("abcdef")), np.ones(6, np.int64))
    [row] = derive_sequences(selected, vocabulary, 3, limits, cutoffs).to_pylist()
    return row


@pytest.mark.parametrize("keep_last", [3, 6])
def test_what_a_user_does_later_removes_nothing_of_the_history_before(keep_last):
    row = temporal_row(keep_last)
    history = "abcdef"[-keep_last:]
    ids = {item: number for number, item in enumerate("abcdef", 1)}
    assert row["item_ids"][: row["train_length"]] == [ids[item] for item in history]
    assert row["test_length"] == row["train_length"] == keep_last
    assert row["trainable"]
    assert len(row["item_ids"]) == keep_last + min(keep_last, 4)


def test_targets_are_found_before_sequences_are_shortened():
    """The first test item is the target, though the sequence keeps the newest three only."""
    assert temporal_row(3)["test_target"] == "abcdef".index("d") + 1


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_item_of_the_item_table_that_was_not_counted_is_seen_and_not_in_the_sequence(is_listed):
    """It may be recommended by its features, though not to whom has met it."""
    rows = select_rows(sorted_part(rated_5(("a", "x"), ("a", "rare"))), DataConfig(), None)
    items = Vocabulary(pa.array(["x"]), np.array([1])).with_listed(pa.array(["rare", "new"]))
    if not is_listed:
        items = Vocabulary(items.raw_item_ids, items.counts)
    [row] = derive_sequences(rows, items, 1).to_pylist()
    assert row["item_ids"] == [1]
    names = [items.raw_item_ids[item - 1].as_py() for item in row["also_seen"]]
    assert names == (["rare"] if is_listed else [])
