"""Read the sequences of a finished dataset: parts, virtual shards, tapes mapped from disk."""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.arrays import Array, Bool, Int8, Int64
from lightsans.columns.hashing import bucket_range
from lightsans.columns.times import from_iso
from lightsans.dataset.events import EventTargets, usable_counts
from lightsans.dataset.sequences import NO_TARGET, ItemTimes, Periods, UserSequences
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import part_index, readable_part, sequence_parts
from lightsans.storage.schemas import EVENT_COLUMNS, EVENTS_KEY, PERIOD_COLUMNS

TIMESTAMPS: Final = "timestamps"
CUTOFFS: Final = ("valid_from", "test_from")


def list_column(table: pa.Table, name: str) -> UserSequences:
    """A list<int32> column as a tape with offsets."""
    lists = _one_list_array(table, name)
    tape = lists.flatten().to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return UserSequences(tape, offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64))


def history_column(rows: pa.Table) -> UserSequences:
    """The histories of some rows, with the times of their items where the rows have them."""
    histories = list_column(rows, "item_ids")
    if TIMESTAMPS not in rows.column_names:
        return histories
    return replace(histories, times=ItemTimes(flat_column(rows, TIMESTAMPS)))


def with_cutoffs(users: UserSequences, manifest: DatasetManifest) -> UserSequences:
    """The same, with the moments of a dataset's cut-offs beside the times of items, if any."""
    if users.times is None or not manifest.cutoffs:
        return users
    valid_from, test_from = (from_iso(manifest.cutoffs[name]) for name in CUTOFFS)
    return replace(users, times=ItemTimes(users.times.of_items, valid_from, test_from))


def flat_column(table: pa.Table, name: str) -> Array:
    """The values of a column of lists, end to end."""
    values: Array = _one_list_array(table, name).flatten().to_numpy(zero_copy_only=False)
    return values


def _one_list_array(table: pa.Table, name: str) -> pa.ListArray:
    lists = table[name].combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # an empty table has no chunk to combine
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    return lists


def event_targets(table: pa.Table, is_temporal: bool) -> EventTargets:
    """The targets of sequences, read with the columns of `EVENT_COLUMNS` and timestamps."""
    metadata = table.schema.metadata or {}
    events = json.loads(metadata[EVENTS_KEY])
    targets = list_column(table, "target_ids")
    offsets = targets.offsets
    codes = flat_column(table, "events")
    positions = flat_column(table, "target_positions").astype(np.int64)

    def look_up(codes: Int8, values: list[bool]) -> Bool:
        return np.array([False, *values])[codes]

    if is_temporal:
        train_counts = table["train_targets"].to_numpy().astype(np.int64)
        test_counts = table["targets_before_test"].to_numpy().astype(np.int64)
    else:
        is_evaluated = usable_counts(positions, offsets) >= 2
        train_counts = np.diff(offsets) - 2 * is_evaluated
        test_counts = np.diff(offsets) - is_evaluated
    weights = np.array([0.0, *(event["weight"] for event in events)], np.float32)
    return EventTargets(
        item_ids=targets.item_ids,
        offsets=offsets,
        positions=positions,
        times=flat_column(table, "target_times"),
        weights=weights[flat_column(table, "target_events")],
        train_counts=train_counts,
        test_counts=test_counts,
        input_times=flat_column(table, "timestamps"),
        input_is_seen=look_up(codes, [event["seen"] for event in events]),
        input_is_view=look_up(codes, [not event["target"] for event in events]),
    )


def load_trainable(
    part: Location, buckets: tuple[int, int] | None = None, with_times: bool = False
) -> UserSequences:
    """The sequences of a part that are trained on, and where a temporal split cuts them.

    Args:
        part: A file of ``sequences/``.
        buckets: First bucket and end; None for all.
        with_times: Whether the times of items are wanted.
    """
    rows = pc.field("trainable")
    if buckets is not None:
        rows &= (pc.field("bucket") >= buckets[0]) & (pc.field("bucket") < buckets[1])
    with readable_part(part), part.open() as file:
        names = pq.read_schema(file).names
        found = [name for name in PERIOD_COLUMNS if name in names]
        events = [name for name in EVENT_COLUMNS if name in names]
        times = [TIMESTAMPS] if with_times or events else []
        file.seek(0)
        columns = ["item_ids", *found, *times, *events]
        table = pq.read_table(file, columns=columns, filters=rows)
    sequences = history_column(table) if with_times else list_column(table, "item_ids")
    if events:
        sequences = replace(sequences, targets=event_targets(table, bool(found)))
    if not found:
        return sequences
    periods = [table[name].to_numpy().astype(np.int64) for name in PERIOD_COLUMNS]
    return replace(sequences, periods=Periods(*periods))


@dataclass(frozen=True, slots=True)
class TimedUsers:
    """Users of a part with who they are, and when they met their items."""

    sequences: UserSequences
    timestamps: Int64
    """Microseconds of every item of the tape."""
    user_ids: pa.ChunkedArray
    """(U,)"""
    buckets: Int64
    """(U,)"""
    is_trained: Bool
    """(U,) whether anything of theirs is trained on."""


def load_evaluated(part: Location) -> TimedUsers:
    """The users of a part that are evaluated.

    Under leave-one-out these are the trainable ones. A temporal split also tests users who are not
    trained on, but had a known item before the test target: most of them arrived after the first
    cut-off. They have no valid target here, as in training.
    """
    known = (pc.field("test_length") > 0) & (pc.field("test_target") != NO_TARGET)
    return load_timed(part, trainable_rows(), trainable_rows() | known)


def trainable_rows() -> pc.Expression:
    """Which users are trained on, for `load_timed`."""
    return pc.field("trainable")


def load_timed(
    part: Location, rows: pc.Expression | None, temporal_rows: pc.Expression | None
) -> TimedUsers:
    """Users of a part; those of a temporal split who are not trainable have no valid target.

    Args:
        part: A file of ``sequences/``.
        rows: Which users; None for all.
        temporal_rows: Which users of a temporal split.
    """
    columns = ["user_id", "item_ids", TIMESTAMPS, "trainable", "bucket"]
    with readable_part(part), part.open() as file:
        names = pq.read_schema(file).names
        is_temporal = PERIOD_COLUMNS[0] in names
        file.seek(0)
        columns += PERIOD_COLUMNS if is_temporal else ()
        columns += [name for name in EVENT_COLUMNS if name in names]
        filters = temporal_rows if is_temporal else rows
        table = pq.read_table(file, columns=columns, filters=filters)
    sequences = history_column(table)
    is_trained = table["trainable"].to_numpy()
    if "target_ids" in columns:
        sequences = replace(sequences, targets=event_targets(table, is_temporal))
    if is_temporal:
        train, test, valid_targets, test_targets = (
            table[name].to_numpy().astype(np.int64) for name in PERIOD_COLUMNS
        )
        valid_targets = np.where(is_trained, valid_targets, NO_TARGET)
        periods = Periods(train, test, valid_targets, test_targets)
        sequences = replace(sequences, periods=periods)
    assert sequences.times is not None
    times = sequences.times.of_items
    buckets = table["bucket"].to_numpy().astype(np.int64)
    return TimedUsers(sequences, times, table["user_id"], buckets, is_trained)


def load_shards(
    dataset: Location,
    manifest: DatasetManifest,
    shards: list[int],
    num_shards: int,
    with_times: bool = False,
) -> dict[int, UserSequences]:
    """The trainable sequences of some virtual shards, in canonical order (bucket, user id).

    Args:
        dataset: Directory of the dataset.
        manifest: Its manifest.
        shards: Which shards to load.
        num_shards: Number of shards that the dataset is cut into.
        with_times: Whether the times of items are wanted.
    """
    parts = [
        (location, bucket_range(part_index(location.name), manifest.num_parts))
        for location in sequence_parts(dataset, manifest)
    ]
    loaded = {}
    for shard in shards:
        first, end = bucket_range(shard, num_shards)
        pieces = []
        for part, (part_first, part_end) in parts:
            if part_first < end and first < part_end:
                pieces.append(load_trainable(part, (first, end), with_times))
        loaded[shard] = with_cutoffs(UserSequences.concatenate(pieces), manifest)
    return loaded


def load_within(
    load: Callable[[int], UserSequences],
    shards: Iterable[int],
    memory_bytes: int | None,
) -> dict[int, UserSequences]:
    """Load shards one after the other; tapes beyond a budget are mapped from temporary files.

    The system then keeps in memory what training touches and drops it again under pressure.

    Args:
        load: Reads the sequences of one shard.
        shards: Which shards to load.
        memory_bytes: Budget for the tapes of all shards; None has no limit.
    """
    loaded, used = {}, 0
    for shard in shards:
        users = load(shard)
        used += users.tape_bytes
        if memory_bytes is not None and used > memory_bytes:
            used -= users.tape_bytes
            users = _map_tape(users)
        loaded[shard] = users
    return loaded


def _map_tape(users: UserSequences) -> UserSequences:
    """The same sequences with their tape on disk, in a file without a name: it cannot be left."""
    if len(users.item_ids) == 0:  # nothing can be mapped
        return users
    mapped = replace(users, item_ids=_mapped(users.item_ids))
    if users.times is None:
        return mapped
    return replace(mapped, times=replace(users.times, of_items=_mapped(users.times.of_items)))


def _mapped(values: Array) -> Array:
    with tempfile.TemporaryFile(prefix="lightsans-tape-") as file:
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        return np.asarray(np.memmap(file, values.dtype, "r", shape=values.shape))
