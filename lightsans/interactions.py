"""Interactions of one part -> what survives the filters -> one sequence per user.

A part holds all rows of its users, so every rule about a user is decided here without looking at
other parts. Rules about items need counts of all parts, which `merge_counts` adds up.

Shapes:
    R rows of a part   U its users   I its distinct items
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.config import DataConfig
from lightsans.hashing import hash_ids, hash_segments, mix, pieces_of, user_buckets
from lightsans.schema import interactions_schema, sequences_schema
from lightsans.vocabulary import Vocabulary

Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class PartRows:
    """The rows of a part as numbers, and which of them are learnt from."""

    user_ids: pa.Array
    """(U,) in order of (bucket, user id)."""
    buckets: Int32
    """(U,)"""
    raw_item_ids: pa.Array
    """(I,) distinct items, in no particular order."""
    user: Int64
    """(R,) index into ``user_ids``, ascending; a user's rows are in the order of the sequence."""
    item: Int64
    """(R,) index into ``raw_item_ids``."""
    timestamps: Int64
    """(R,)"""
    is_kept: Bool
    """(R,) rows that pass dedupe and the rating filter."""
    row_counts: dict[str, int]
    """Rows left after each step."""


def assign_parts(table: pa.Table, num_parts: int) -> pa.Table:
    """Interactions with their bucket, and the part that they belong to."""
    users = _one_chunk(table["user_id"]).dictionary_encode()
    bucket = user_buckets(users.dictionary)[users.indices.to_numpy()]
    table = table.append_column("bucket", pa.array(bucket))
    return table.append_column("part", pa.array(pieces_of(bucket, num_parts)))


def split_parts(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Number and interactions, sorted as they are stored, of each part in a table.

    One after the other: sorting takes several times the memory of what is sorted.
    """
    part = table["part"].to_numpy()
    for number in np.unique(part):
        yield int(number), _sort_rows(table.filter(pa.array(part == number)))


def _sort_rows(table: pa.Table) -> pa.Table:
    schema = interactions_schema(table["user_id"].type, table["raw_item_id"].type)
    table = table.select(schema.names).combine_chunks()
    users = _one_chunk(table["user_id"]).dictionary_encode()
    keys = (
        table["order_key"].to_numpy(),
        table["timestamp"].to_numpy(),
        _ranks(users.dictionary)[users.indices.to_numpy()],
        table["bucket"].to_numpy(),
    )
    return table.take(pa.array(np.lexsort(keys))).cast(schema)  # the last key counts most


def count_exact_duplicates(table: pa.Table) -> int:
    """Rows of sorted interactions that repeat user, item and timestamp of another row."""
    distinct = table.group_by(["user_id", "raw_item_id", "timestamp"], use_threads=False)
    return int(table.num_rows - distinct.aggregate([]).num_rows)


def select_rows(table: pa.Table, data: DataConfig, as_of: int | None = None) -> PartRows:
    """The rows of a part before ``as_of``, and which of them pass dedupe and the rating filter.

    Args:
        table: A part of the interactions, sorted as it is stored.
        data: The filters.
        as_of: Rows from this time on, in microseconds, count for nothing at all.
    """
    if as_of is not None:
        table = table.filter(pc.less(table["timestamp"], as_of))
    table = table.combine_chunks()
    users = _one_chunk(table["user_id"]).dictionary_encode()  # in order of first appearance
    items = _one_chunk(table["raw_item_id"]).dictionary_encode()
    user = users.indices.to_numpy().astype(np.int64)
    item = items.indices.to_numpy().astype(np.int64)
    _, first_row = np.unique(user, return_index=True)
    row_counts = {"after_as_of": len(user)}
    is_kept = _without_repeats(user * len(items.dictionary) + item, data.dedupe)
    row_counts["after_dedupe"] = int(is_kept.sum())
    if data.min_rating is not None:
        is_rated = pc.fill_null(pc.greater_equal(table["rating"], data.min_rating), False)
        is_kept &= is_rated.to_numpy()
    row_counts["after_min_rating"] = int(is_kept.sum())
    return PartRows(
        user_ids=users.dictionary,
        buckets=table["bucket"].to_numpy()[first_row],
        raw_item_ids=items.dictionary,
        user=user,
        item=item,
        timestamps=table["timestamp"].to_numpy(),
        is_kept=is_kept,
        row_counts=row_counts,
    )


def count_items(rows: PartRows, alive: pa.Array | None, min_user_interactions: int) -> pa.Table:
    """How often users with enough interactions met each item.

    Args:
        rows: A part.
        alive: The items that interactions are counted with; None for all.
        min_user_interactions: Users with fewer interactions do not count.

    Returns:
        Columns raw_item_id and count; items with count 0 are left out.
    """
    is_alive = np.ones(len(rows.raw_item_ids), bool)
    if alive is not None:
        is_alive = pc.is_in(rows.raw_item_ids, value_set=alive).to_numpy(zero_copy_only=False)
    counted = rows.is_kept & is_alive[rows.item]
    per_user = np.bincount(rows.user[counted], minlength=len(rows.user_ids))
    counted &= per_user[rows.user] >= min_user_interactions
    counts = np.bincount(rows.item[counted], minlength=len(rows.raw_item_ids))
    table = pa.table({"raw_item_id": rows.raw_item_ids, "count": counts.astype(np.int64)})
    return table.filter(pa.array(counts > 0))


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """The sum of the counts of several parts."""
    merged = pa.concat_tables(tables).group_by("raw_item_id", use_threads=False)
    summed = merged.aggregate([("count", "sum")])
    return summed.select(["raw_item_id", "count_sum"]).rename_columns(["raw_item_id", "count"])


def k_core(
    count: Callable[[pa.Array | None], pa.Table], min_item_interactions: int
) -> tuple[pa.Table, int]:
    """The items that stay when users and items with too few interactions go, until none does.

    Args:
        count: `count_items` over all parts: how often users with enough interactions with the
            given items met each of them.
        min_item_interactions: Items with fewer go.

    Returns:
        Counts of the items that stay, maybe none, and how often ``count`` was called.
    """
    counts, num_rounds = count(None), 1
    while True:
        survivors = counts.filter(pc.greater_equal(counts["count"], min_item_interactions))
        # With all of them still there, the next round would count the same again.
        if survivors.num_rows in (0, counts.num_rows):
            return survivors, num_rounds
        counts, num_rounds = count(_one_chunk(survivors["raw_item_id"])), num_rounds + 1


def derive_sequences(
    rows: PartRows, vocabulary: Vocabulary, min_user_interactions: int
) -> pa.Table:
    """One row per user, as `lightsans.schema.sequences_schema` says.

    Args:
        rows: A part.
        vocabulary: The items that k-core has left.
        min_user_interactions: Users with fewer interactions are not trainable.
    """
    num_users = len(rows.user_ids)
    item_id = vocabulary.encode(rows.raw_item_ids)[rows.item]
    in_sequence = rows.is_kept & (item_id > 0)
    lengths = np.bincount(rows.user[in_sequence], minlength=num_users)
    trainable = lengths >= max(min_user_interactions, 1)
    other = _also_seen(rows, item_id, in_sequence)
    other_lengths = np.bincount(rows.user[other], minlength=num_users)
    fingerprint = _fingerprint_users(rows, in_sequence, lengths, other, trainable)
    columns = [
        rows.user_ids,
        _lists(item_id[in_sequence], lengths),
        _lists(rows.timestamps[in_sequence], lengths),
        pa.array(trainable),
        _lists(item_id[other], other_lengths),
        pa.array(rows.buckets),
        pa.array(fingerprint),
    ]
    return pa.table(columns, schema=sequences_schema(rows.user_ids.type))


def fingerprint_part(sequences: pa.Table) -> int:
    """A sum over users: parts add up to the same, however users are cut into parts."""
    return int(np.sum(sequences["fingerprint"].to_numpy(), dtype=np.uint64))


def fingerprint_dataset(parts: Sequence[int], vocabulary_fingerprint: str) -> str:
    """16 digits that differ when any sequence, or the id of any item, does."""
    total = np.array([sum(parts) % 2**64, int(vocabulary_fingerprint, 16)], np.uint64)
    return f"{hash_segments(total, np.array([0, 2]))[0]:016x}"


def _also_seen(rows: PartRows, item_id: Int32, in_sequence: Bool) -> Int64:
    """One row of each pair of user and known item that is not in a sequence, by user and item."""
    pair = rows.user * (int(item_id.max(initial=0)) + 1) + item_id
    removed = np.flatnonzero(~in_sequence & (item_id > 0))
    _, first = np.unique(pair[removed], return_index=True)
    removed = removed[first]
    return removed[~np.isin(pair[removed], pair[in_sequence])]


def _fingerprint_users(
    rows: PartRows, in_sequence: Bool, lengths: Int64, other: Int64, trainable: Bool
) -> UInt64:
    """One hash per user, of raw ids: numbering items anew leaves it unchanged."""
    item_hash = hash_ids(rows.raw_item_ids)[rows.item]
    events = mix(item_hash[in_sequence] ^ mix(rows.timestamps[in_sequence].view(np.uint64)))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    also_seen = np.zeros(len(rows.user_ids), np.uint64)
    np.add.at(also_seen, rows.user[other], mix(item_hash[other]))  # a set: order does not matter
    fields = [hash_ids(rows.user_ids), hash_segments(events, offsets), also_seen, trainable]
    values = np.stack(fields, axis=1).astype(np.uint64)
    ends = np.arange(0, values.size + 1, values.shape[1])
    return hash_segments(values.ravel(), ends)


def _without_repeats(pair: Int64, dedupe: str) -> Bool:
    """Which rows stay when only the first or last of equal pairs does."""
    if dedupe == "none":
        return np.ones(len(pair), bool)
    is_kept = np.zeros(len(pair), bool)
    if dedupe == "first":
        _, rows = np.unique(pair, return_index=True)
    else:
        _, rows = np.unique(pair[::-1], return_index=True)
        rows = len(pair) - 1 - rows
    is_kept[rows] = True
    return is_kept


def _lists(values: npt.NDArray[np.generic], lengths: Int64) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _ranks(ids: pa.Array) -> Int64:
    """Place of each of some distinct ids in their order."""
    order = pc.sort_indices(ids).to_numpy()
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.arange(len(ids))
    return ranks


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
