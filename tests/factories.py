"""The smallest honest inputs for tests."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from lightsans.columns.hashing import user_buckets
from lightsans.config import DataConfig, StorageConfig
from lightsans.dataset.sequences import UserSequences
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.preparation.derive import derive_sequences
from lightsans.preparation.k_core import core_rows, count_items, item_counts, k_core, merge_counts
from lightsans.preparation.packing import pack_rows, unpack_rows
from lightsans.preparation.selection import select_rows
from lightsans.preparation.sorting import sort_interactions
from lightsans.storage.location import Location, locate
from lightsans.storage.schemas import recommendations_schema

HASH_KEY = (1, 2)
"""Bits of the hashes that compare items."""


def local(path: Path | str) -> Location:
    """A place on the disk of this machine."""
    return locate(str(path), StorageConfig())


def interaction_log(rows, first_key=0):
    """A log of (user, item, timestamp, rating) in order of the input."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4
    return pa.table(
        {
            "user_id": pa.array(columns[0], pa.string()),
            "raw_item_id": pa.array(columns[1], pa.string()),
            "timestamp": pa.array(columns[2], pa.int64()),
            "rating": pa.array(columns[3], pa.float64()),
            "order_key": pa.array(range(first_key, first_key + len(rows)), pa.int64()),
        }
    )


def sorted_parts(log, num_parts, stretch=None):
    """Number and sorted interactions of the parts of a log whose stretches arrive last first."""
    stretch = stretch or len(log) // 3 + 1
    stretches = [log.slice(start, stretch) for start in range(0, len(log), stretch)]
    packed = pa.concat_tables([pack_rows(rows, num_parts) for rows in stretches[::-1]])
    return {number: sort_interactions(rows) for number, rows in unpack_rows(packed)}


def sorted_part(rows):
    """The only part of a log, without the exchange that `sorted_parts` goes through."""
    return sort_interactions(interaction_log(rows))


def k_core_of(parts, min_user, min_item):
    """Count by raw id of the items that k-core leaves of the rows of all parts."""
    cores = [core_rows(rows, HASH_KEY) for rows in parts]

    def count(alive):
        return merge_counts([item_counts(*count_items(core, alive, min_user)) for core, _ in cores])

    survivors, _ = k_core(count, min_item)
    raw = {
        number: item
        for core, items in cores
        for number, item in zip(core.item_hashes.tolist(), items.to_pylist(), strict=True)
    }
    columns = (survivors[name].to_pylist() for name in ("hash", "count"))
    return {raw[number]: count for number, count in zip(*columns, strict=True)}


def vocabulary_of_counts(counts):
    """A vocabulary from the count of each item, numbered as the pipeline numbers them."""
    items = pa.array(list(counts), pa.string())
    return Vocabulary.from_counts(items, np.array(list(counts.values()), np.int64))


def vocabulary_of(*items):
    """Items in this order, one interaction each."""
    return Vocabulary(pa.array(items), np.ones(len(items), np.int64))


def rated_5(*pairs):
    """Rows of (user, item), all rated 5, one after the other."""
    return [(user, item, time, 5.0) for time, (user, item) in enumerate(pairs)]


def derived_sequences(rows, *, as_of=None, items=None, **settings):
    """The derived row of each user, as a dict by user id, with raw item ids."""
    data = DataConfig(**settings)
    selected = select_rows(sorted_part(rows), data, as_of)
    least = data.min_user_interactions, data.min_item_interactions
    vocabulary = (
        vocabulary_of(*items) if items else vocabulary_of_counts(k_core_of([selected], *least))
    )
    table = derive_sequences(selected, vocabulary, data.min_user_interactions)
    names = [None, *vocabulary.raw_item_ids.to_pylist()]
    derived = {}
    for row in table.to_pylist():
        row["items"] = [names[item] for item in row["item_ids"]]
        row["also_seen"] = sorted(names[item] for item in row["also_seen"])
        derived[row["user_id"]] = row
    return derived


def sequences_of(*histories):
    """Users with these item ids."""
    offsets = np.cumsum([0, *map(len, histories)])
    return UserSequences(np.array([i for row in histories for i in row], np.int32), offsets)


def users_of_lengths(*lengths: int) -> UserSequences:
    """Users whose item ids count up from 1 along the tape."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return UserSequences(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets)


def with_reasons(cleaned, problems):
    """Values, or the reason against each."""
    reasons = iter(problems.of(~problems.is_valid))
    is_valid = problems.is_valid
    return [v if ok else next(reasons) for v, ok in zip(cleaned.to_pylist(), is_valid, strict=True)]


def make_lists(num_users: int) -> pa.Table:
    """Recommendations of 1 to 3 items a user, in order of bucket."""
    schema = recommendations_schema(pa.string(), pa.int64())
    users = pa.array([f"u{i}" for i in range(num_users)])
    users = users.take(pa.array(np.argsort(user_buckets(users), kind="stable")))
    lists = [[10 * i + rank for rank in range(1 + i % 3)] for i in range(num_users)]
    scores = [[float(-item) for item in items] for items in lists]
    source = ["popular" if i % 5 == 0 else "model" for i in range(num_users)]
    return pa.table([users, lists, scores, source], names=schema.names).cast(schema)
