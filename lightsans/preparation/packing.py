"""Pack interactions for the way from the task that reads them to the part that keeps them.

Text makes rows heavy, and it repeats. So the rows that a stretch of input has for one part
become a single row of lists: each distinct user and item once, and numbers for the rest. The
receiver needs nothing but these rows; the numbers mean something within their own row only. They
travel as one compressed value, which a shuffle moves as it is: it would copy lists value by value.

Shapes:
    P parts
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lightsans.arrays import Bool, Int64, Intp
from lightsans.columns.arrow import (
    codes_of,
    dictionary_of,
    encode,
    lists_of,
    number_distinct,
    one_chunk,
    value_type,
    wide,
)
from lightsans.columns.hashing import buckets_of, hash_ids, pieces_of
from lightsans.columns.kernels import group_rows

PART = "part"
"""The column that rows are exchanged by: the number of a part."""


PACKED_SCHEMA = pa.schema(
    [
        (PART, pa.int32()),
        ("first_key", pa.int64()),  # stretches in this order are in the order of the input
        ("rows", pa.large_binary()),  # an Arrow stream of `_lists_schema`
    ]
)
"""One row for each stretch of input and part."""
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def _lists_schema(
    user_type: pa.DataType, item_type: pa.DataType, with_events: bool = False
) -> pa.Schema:
    events = [("event", pa.large_list(pa.int8()))] if with_events else []
    return pa.schema(
        [
            ("user_ids", pa.large_list(wide(user_type))),
            ("raw_item_ids", pa.large_list(wide(item_type))),
            ("user", pa.large_list(pa.int32())),
            ("item", pa.large_list(pa.int32())),
            ("timestamp", pa.large_list(pa.int64())),
            ("rating", pa.large_list(pa.float64())),
            ("key_offset", pa.large_list(pa.int32())),  # order key less first_key
            *events,
        ]
    )


def pack_rows(table: pa.Table, num_parts: int, is_wanted: Bool | None = None) -> pa.Table:
    """A stretch of the input, cut by part.

    Args:
        table: user_id, raw_item_id, timestamp, rating and order_key, in ascending order of the key.
        num_parts: Parts of the dataset.
        is_wanted: (P,) the parts whose rows are needed; None for all.

    Returns:
        A table of `PACKED_SCHEMA`.
    """
    if not table.num_rows:
        return PACKED_SCHEMA.empty_table()
    # The part of each row, from the hash of its user; rows of a part then lie together.
    users, items = one_chunk(table["user_id"]), one_chunk(table["raw_item_id"])
    is_dictionary = pa.types.is_dictionary(users.type)
    hashes = hash_ids(users.dictionary if is_dictionary else users)
    buckets = buckets_of(hashes)
    part = pieces_of(buckets[codes_of(users)] if is_dictionary else buckets, num_parts)
    order, starts = group_rows(part, num_parts)
    # Within a part, ids become numbers of its own distinct ids.
    user, user_ids, user_starts = number_distinct(users, order, starts, hashes)
    item, raw_item_ids, item_starts = number_distinct(items, order, starts)
    # Keys of a stretch lie close together: 32 bits from the first one hold them.
    keys = table["order_key"].to_numpy()[order]
    lengths = np.diff(starts)
    first_keys = keys[np.minimum(starts[:-1], len(keys) - 1)]
    columns = [
        lists_of(user_ids, user_starts),
        lists_of(raw_item_ids, item_starts),
        lists_of(user, starts),
        lists_of(item, starts),
        lists_of(table["timestamp"].to_numpy()[order], starts),
        lists_of(one_chunk(table["rating"]).take(pa.array(order)), starts),
        lists_of((keys - np.repeat(first_keys, lengths)).astype(np.int32), starts),
    ]
    has_events = "event" in table.column_names
    if has_events:
        columns.append(lists_of(table["event"].to_numpy()[order], starts))
    schema = _lists_schema(value_type(users.type), value_type(items.type), has_events)
    lists = pa.record_batch(columns, schema=schema)
    is_sent = lengths > 0 if is_wanted is None else (lengths > 0) & is_wanted
    sent = np.flatnonzero(is_sent)
    rows = [_to_bytes(lists.slice(part, 1)) for part in sent]
    return pa.table(
        [sent.astype(np.int32), first_keys[sent], pa.array(rows, pa.large_binary())],
        schema=PACKED_SCHEMA,
    )


def _to_bytes(lists: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, lists.schema, options=_LZ4) as stream:
        stream.write_batch(lists)
    return bytes(sink.getvalue())


def unpack_rows(packed: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Number and interactions, in the order of the input, of each part that has rows.

    One after the other: unpacked, and then sorted, a part takes several times the memory.

    Args:
        packed: All that was sent to these parts, in any order.
    """
    parts, first_keys = packed[PART].to_numpy(), packed["first_key"].to_numpy()
    order = np.lexsort((first_keys, parts))
    for rows in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
        if len(rows):
            yield int(parts[rows[0]]), _unpack(packed, rows)


def _unpack(packed: pa.Table, rows: Intp) -> pa.Table:
    stretches = [pa.ipc.open_stream(packed["rows"][row].as_buffer()).read_all() for row in rows]
    table = pa.concat_tables(stretches).combine_chunks()
    lists = {name: one_chunk(table[name]) for name in table.column_names}
    lengths = lists["timestamp"].value_lengths().to_numpy()
    keys = np.repeat(packed["first_key"].to_numpy()[rows], lengths)
    events = {"event": lists["event"].flatten()} if "event" in lists else {}
    return pa.table(
        {
            "user_id": _join(lists["user_ids"], lists["user"], lengths),
            "raw_item_id": _join(lists["raw_item_ids"], lists["item"], lengths),
            "timestamp": lists["timestamp"].flatten(),
            "rating": lists["rating"].flatten(),
            "order_key": keys + lists["key_offset"].flatten().to_numpy(),
            **events,
        }
    )


def _join(
    values: pa.LargeListArray, numbers: pa.LargeListArray, lengths: Int64
) -> pa.DictionaryArray:
    """Numbers that count within the values of their own list -> one dictionary for all."""
    counts = values.value_lengths().to_numpy()
    codes = numbers.flatten().to_numpy() + np.repeat(np.cumsum(counts) - counts, lengths)
    distinct = encode(values.flatten())
    return dictionary_of(codes_of(distinct)[codes], distinct.dictionary)
