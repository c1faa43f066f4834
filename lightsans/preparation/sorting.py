"""Interactions of one part -> what survives the filters -> one sequence per user.

A part holds all rows of its users, so every rule about a user is decided here without looking at
other parts. Rules about items need counts of all parts, which `merge_counts` adds up. Items are
compared by a hash of 64 bits; that no two of them share one is checked when counts first meet.

Shapes:
    R rows of a part   U its users   I its distinct items   K rows that pass the filters
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.columns import kernels
from lightsans.columns.arrow import (
    as_dictionary,
    codes_of,
    dictionary_of,
    narrow,
    one_chunk,
    ranks_of,
    value_type,
    wide,
)
from lightsans.columns.hashing import hash_ids, hash_segments, mix, user_buckets
from lightsans.config import DataConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.preparation.retention import Retention
from lightsans.preparation.temporal import NUM_PERIODS, Cutoffs, cut_periods
from lightsans.storage.location import Location
from lightsans.storage.schemas import sequences_schema

Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

_ROW_GROUP = 2**22  # a part of the usual size is one: a reader joins no dictionaries
_ROW_GROUP_USERS = 2**16
_DICTIONARY_BYTES = 2**26  # of a row group; beyond, ids are written row by row


@dataclass(frozen=True, slots=True)
class PartRows:
    """The rows of a part as numbers, and which of them are learnt from."""

    user_ids: pa.Array
    """(U,) in order of (bucket, user id)."""
    offsets: Int64
    """(U + 1,) where each user's rows begin; they are in the order of the sequence."""
    raw_item_ids: pa.Array
    """(I,) distinct items, in no particular order."""
    item: Int32
    """(R,) index into ``raw_item_ids``."""
    timestamps: Int64
    """(R,)"""
    is_kept: Bool
    """(R,) rows that pass dedupe and the rating filter."""
    is_counted: Bool
    """(R,) those of them that vocabulary and k-core see: all, or those before the cut-off."""
    row_counts: dict[str, int]
    """Rows left after each step."""

    @property
    def user(self) -> Int64:
        """(R,) index into ``user_ids``, ascending."""
        return np.repeat(np.arange(len(self.user_ids)), np.diff(self.offsets))


@dataclass(frozen=True, slots=True)
class CoreRows:
    """As little of a part as counting for k-core needs, again and again."""

    offsets: Int64
    """(U + 1,) where each user's rows begin."""
    item: Int32
    """(K,) index into ``item_hashes`` of the rows that pass the filters."""
    item_hashes: UInt64
    """(I,) ascending."""


def sort_interactions(table: pa.Table) -> pa.Table:
    """Interactions of a part as they are stored: by bucket, user, time and place in the input.

    Args:
        table: user_id, raw_item_id, timestamp, rating and order_key; ids may be dictionaries.
            Rows of one user and time must come in ascending order of the key.

    Returns:
        The columns of `lightsans.storage.schemas.interactions_schema`, ids as dictionaries.
    """
    users, items = as_dictionary(table["user_id"]), as_dictionary(table["raw_item_id"])
    buckets = user_buckets(users.dictionary)
    user_order = order_users(users.dictionary)
    rank = np.empty(len(user_order), np.int32)
    rank[user_order] = np.arange(len(user_order), dtype=np.int32)
    timestamps = table["timestamp"].to_numpy()
    order, starts = kernels.group_rows(rank[codes_of(users)], len(rank))
    kernels.order_by_time(order, starts, timestamps)
    user = np.repeat(np.arange(len(rank), dtype=np.int32), np.diff(starts))
    return pa.table(
        {
            "user_id": dictionary_of(user, users.dictionary.take(pa.array(user_order))),
            "raw_item_id": dictionary_of(codes_of(items)[order], items.dictionary),
            "timestamp": timestamps[order],
            "rating": one_chunk(table["rating"]).take(pa.array(order)),
            "order_key": table["order_key"].to_numpy()[order],
            "bucket": buckets[user_order][user],
        }
    )


def order_users(user_ids: pa.Array) -> Int64:
    """Distinct users in the order in which a part has them: by bucket, then by id."""
    by_id, _ = ranks_of(user_ids)
    buckets = user_buckets(user_ids)
    order: Int64 = by_id[np.argsort(buckets[by_id].astype(np.uint16), kind="stable")]
    return order


def save_interactions(location: Location, table: pa.Table) -> None:
    """Write a part of the interactions; to its readers, ids are plain strings or integers."""
    with location.open_atomic() as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            compression_level=1,
            row_group_size=_ROW_GROUP,
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            store_schema=False,
            use_dictionary=["user_id", "raw_item_id", "rating", "bucket"],
            write_statistics=[
                "timestamp",
                "bucket",
            ],  # of text, they would take a third of the time
            column_encoding={
                "timestamp": "DELTA_BINARY_PACKED",
                "order_key": "DELTA_BINARY_PACKED",
            },
        )


def save_sequences(location: Location, table: pa.Table) -> None:
    """Write a part of the sequences.

    Times of a user rise, and no user comes twice: dictionaries, Arrow's default, would take twice
    the time and more room.
    """
    lists = ("item_ids", "timestamps", "also_seen")
    with location.open_atomic() as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            compression_level=1,
            row_group_size=_ROW_GROUP_USERS,
            use_dictionary=False,
            column_encoding={f"{name}.list.element": "DELTA_BINARY_PACKED" for name in lists},
        )


def load_interactions(location: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """A part of the interactions, or some columns of it; text as dictionaries."""
    names = None if columns is None else list(columns)
    ids = ["user_id", "raw_item_id"]
    with location.open() as file, pq.ParquetFile(file, read_dictionary=ids) as opened:
        return opened.read(names)


def users_of(table: pa.Table) -> tuple[pa.Array, Int64]:
    """(U,) users of sorted rows, and (U + 1,) where the rows of each begin, with the end."""
    column = table["user_id"]
    ids = pa.array([], wide(value_type(column.type)))
    starts, num_rows = np.zeros(0, np.int64), 0
    for chunk in column.chunks:
        chunk = as_dictionary(chunk)
        user = codes_of(chunk)
        is_new = np.concatenate([[True], user[1:] != user[:-1]])[: len(user)]
        first = np.flatnonzero(is_new)
        found = chunk.dictionary.take(pa.array(user[first]))
        if len(ids) and len(found) and ids[-1] == found[0]:  # the user goes on from chunk to chunk
            first, found = first[1:], found.slice(1)
        ids = pa.concat_arrays([ids, found])
        starts, num_rows = np.concatenate([starts, first + num_rows]), num_rows + len(user)
    return ids, np.append(starts, num_rows)


def count_exact_duplicates(table: pa.Table, offsets: Int64) -> int:
    """Rows of sorted interactions that repeat user, item and timestamp of another row.

    Args:
        table: A part.
        offsets: (U + 1,) where each user's rows begin.
    """
    items = codes_of(as_dictionary(table["raw_item_id"]))
    return int(kernels.count_repeats(offsets, items, table["timestamp"].to_numpy()))


def select_rows(
    table: pa.Table, data: DataConfig, as_of: int | None = None, cutoffs: Cutoffs | None = None
) -> PartRows:
    """The rows of a part before ``as_of``, and which of them pass dedupe and the rating filter.

    Args:
        table: A part of the interactions, sorted as it is stored.
        data: The filters.
        as_of: Rows from this time on, in microseconds, count for nothing at all.
        cutoffs: Of a temporal split. A repeat then removes no earlier row of another period: it
            would be known before it happened.
    """
    if as_of is not None:
        table = table.filter(pc.less(table["timestamp"], as_of))
    user_ids, offsets = users_of(table)
    items = as_dictionary(table["raw_item_id"])
    item = codes_of(items)
    timestamps = table["timestamp"].to_numpy()
    row_counts = {"after_as_of": len(item)}
    is_kept = np.ones(len(item), bool)
    num_items = len(items.dictionary)
    if data.dedupe == "first":
        is_kept = kernels.first_of_each_item(offsets, item, num_items, False)
    elif data.dedupe == "last" and cutoffs is None:
        is_kept = kernels.first_of_each_item(offsets, item, num_items, True)
    elif data.dedupe == "last":
        assert cutoffs is not None
        in_period = item + num_items * cutoffs.period_of(timestamps)
        is_kept = kernels.first_of_each_item(offsets, in_period, NUM_PERIODS * num_items, True)
    row_counts["after_dedupe"] = int(is_kept.sum())
    if data.min_rating is not None:
        is_rated = pc.fill_null(pc.greater_equal(table["rating"], data.min_rating), False)
        is_kept &= is_rated.to_numpy()
    row_counts["after_min_rating"] = int(is_kept.sum())
    is_counted = is_kept
    if cutoffs is not None:
        is_counted = is_kept & (timestamps < cutoffs.valid_from)
        row_counts["before_cutoff"] = int(is_counted.sum())
    return PartRows(
        user_ids=user_ids,
        offsets=offsets,
        raw_item_ids=items.dictionary,
        item=item,
        timestamps=timestamps,
        is_kept=is_kept,
        is_counted=is_counted,
        row_counts=row_counts,
    )


def core_rows(rows: PartRows) -> tuple[CoreRows, pa.Array]:
    """What k-core needs of a part, and the raw ids of its items in the order of their hashes."""
    hashes = hash_ids(rows.raw_item_ids)
    order = np.argsort(hashes)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    counted_before = np.concatenate([[0], np.cumsum(rows.is_counted)])
    item = place[rows.item[rows.is_counted]]
    core = CoreRows(counted_before[rows.offsets], item, hashes[order])
    return core, rows.raw_item_ids.take(pa.array(order))


def count_items(
    core: CoreRows, alive: UInt64 | None, min_user_interactions: int
) -> tuple[UInt64, Int64]:
    """How often users with enough interactions met each item.

    Args:
        core: A part.
        alive: Hashes of the items that interactions are counted with, ascending; None for all.
        min_user_interactions: Users with fewer interactions do not count.

    Returns:
        Hashes, ascending, and counts; items with count 0 are left out.
    """
    is_alive = np.ones(len(core.item_hashes), bool)
    if alive is not None:
        is_alive = _is_in(core.item_hashes, alive)
    counts = kernels.count_alive(core.offsets, core.item, is_alive, min_user_interactions)
    found = np.flatnonzero(counts)
    return core.item_hashes[found], counts[found]


def item_counts(hashes: UInt64, counts: Int64, raw_item_ids: pa.Array | None = None) -> pa.Table:
    """Counts as the table that `merge_counts` adds up, with raw ids where they are known."""
    columns = {"hash": pa.array(hashes), "count": pa.array(counts)}
    return pa.table(columns if raw_item_ids is None else {**columns, "raw_item_id": raw_item_ids})


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """The sum of the counts of several parts, by ascending hash.

    Raises:
        InputError: Two different raw ids have the same hash.
    """
    table = pa.concat_tables(tables)
    hashes = table["hash"].to_numpy()
    order = np.argsort(hashes, kind="stable")  # they are a few ascending runs
    hashes = hashes[order]
    is_first = np.concatenate([[True], hashes[1:] != hashes[:-1]])[: len(hashes)]
    first = np.flatnonzero(is_first)
    counts = table["count"].to_numpy()[order]
    summed = np.add.reduceat(counts, first) if len(first) else counts
    if "raw_item_id" not in table.column_names:
        return item_counts(hashes[first], summed)
    raw = one_chunk(table["raw_item_id"])
    _check_hashes(raw, order, is_first)
    return item_counts(hashes[first], summed, raw.take(pa.array(order[first])))


def k_core(
    count: Callable[[UInt64 | None], pa.Table], min_item_interactions: int
) -> tuple[pa.Table, int]:
    """The items that stay when users and items with too few interactions go, until none does.

    Args:
        count: `count_items` over all parts, as `item_counts`: how often users with enough
            interactions with the given items met each of them.
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
        counts, num_rounds = count(survivors["hash"].to_numpy()), num_rounds + 1


def derive_sequences(
    rows: PartRows,
    vocabulary: Vocabulary,
    min_user_interactions: int,
    retention: Retention | None = None,
    cutoffs: Cutoffs | None = None,
) -> pa.Table:
    """One row per user, as `lightsans.storage.schemas.sequences_schema` says.

    Args:
        rows: A part.
        vocabulary: The items that k-core has left; those with count 0 have left it since.
        min_user_interactions: Users with fewer interactions are not trainable.
        retention: What sequences keep of the rows that pass the filters; None for all.
        cutoffs: Of a temporal split, which adds columns.
    """
    least = max(min_user_interactions, 1)
    item_ids = vocabulary.encode_living(rows.raw_item_ids)
    is_kept = rows.is_kept
    if retention is not None:
        in_sequence = is_kept & (item_ids[rows.item] > 0)
        is_kept = is_kept & retention.keeps(rows.offsets, rows.timestamps, in_sequence)
    ends, items, times, other_ends, others, fingerprints = kernels.derive(
        rows.offsets,
        rows.item,
        rows.timestamps,
        is_kept,
        item_ids,
        hash_ids(rows.raw_item_ids),
        hash_ids(rows.user_ids),
        least,
    )
    lengths = np.diff(ends, prepend=0)
    is_trainable = lengths >= least
    periods: list[Int64] = []
    if retention is not None or cutoffs is not None:
        is_counted = rows.is_counted & (item_ids[rows.item] > 0)
        is_trainable = (_sums(is_counted, rows.offsets) >= least) & (lengths > 0)
    if cutoffs is not None:
        found = cut_periods(rows.offsets, item_ids[rows.item], rows.timestamps, is_kept, cutoffs)
        is_trainable &= found.train_lengths > 0
        periods = found.columns()
        # Numbers of items are left out: numbering them anew leaves a fingerprint unchanged.
        for column in (*periods[:2], *(np.sign(targets) for targets in periods[2:])):
            fingerprints = mix(fingerprints ^ mix(column.astype(np.uint64)))
    if retention is not None or cutoffs is not None:
        fingerprints = mix(np.bitwise_xor(fingerprints, is_trainable.astype(np.uint64)))
    user_ids = narrow(rows.user_ids)
    columns = [
        user_ids,
        _lists(items, ends),
        _lists(times, ends),
        pa.array(is_trainable),
        _lists(others, other_ends),
        pa.array(user_buckets(rows.user_ids)),
        pa.array(fingerprints),
        *(pa.array(column.astype(np.int32)) for column in periods),
    ]
    return pa.table(columns, schema=sequences_schema(user_ids.type, cutoffs is not None))


def fingerprint_part(sequences: pa.Table) -> int:
    """A sum over users: parts add up to the same, however users are cut into parts."""
    return int(np.sum(sequences["fingerprint"].to_numpy(), dtype=np.uint64))


def fingerprint_dataset(parts: Sequence[int], vocabulary_fingerprint: str) -> str:
    """16 digits that differ when any sequence, or the id of any item, does."""
    total = np.array([sum(parts) % 2**64, int(vocabulary_fingerprint, 16)], np.uint64)
    return f"{hash_segments(total, np.array([0, 2]))[0]:016x}"


def _sums(is_counted: Bool, offsets: Int64) -> Int64:
    before = np.concatenate([[0], np.cumsum(is_counted)])
    sums: Int64 = before[offsets[1:]] - before[offsets[:-1]]
    return sums


def _is_in(values: UInt64, ascending: UInt64) -> Bool:
    if not len(ascending):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.equal(ascending[places], values)


def _check_hashes(raw: pa.Array, order: Int64, is_first: Bool) -> None:
    """Refuse rows that have the hash, but not the raw id, of the row before."""
    repeats = np.flatnonzero(~is_first)
    these, others = (raw.take(pa.array(order[rows])) for rows in (repeats, repeats - 1))
    differ = pc.not_equal(these, others)
    if pc.any(differ).as_py():
        a, b = (ids.filter(differ)[0].as_py() for ids in (these, others))
        raise InputError(
            f"items {a!r} and {b!r} have the same hash of 64 bits, so that they cannot be told "
            "apart; rename one of them"
        )


def _lists(values: npt.NDArray[np.generic], ends: Int64) -> pa.Array:
    assert len(values) < 2**31, "lists of a part hold at most 2^31 values; raise data.num_parts"
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
