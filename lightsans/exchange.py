"""Interactions as they travel from the task that reads them to the part that keeps them.

Text is what makes rows heavy, and it repeats. So the rows that a stretch of input has for one part
travel as a single row of lists: each distinct user and item once, and numbers for the rest. The
receiver needs nothing but these rows; the numbers mean something within their own row only.

Shapes:
    P parts
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lightsans import interaction_scan as scan
from lightsans.arrow_columns import (
    codes_of,
    encode,
    lists_of,
    number_distinct,
    one_chunk,
    value_type,
    wide,
)
from lightsans.hashing import buckets_of, hash_ids, pieces_of

Bool = npt.NDArray[np.bool_]

PART = "part"
"""The column that rows are exchanged by: the number of a part."""


def packed_schema(user_type: pa.DataType, item_type: pa.DataType) -> pa.Schema:
    """One row for each stretch of input and part."""
    return pa.schema(
        [
            (PART, pa.int32()),
            ("first_key", pa.int64()),  # stretches in this order are in the order of the input
            ("user_ids", pa.large_list(wide(user_type))),
            ("raw_item_ids", pa.large_list(wide(item_type))),
            ("user", pa.large_list(pa.int32())),
            ("item", pa.large_list(pa.int32())),
            ("timestamp", pa.large_list(pa.int64())),
            ("rating", pa.large_list(pa.float64())),
            ("key_offset", pa.large_list(pa.int32())),  # order key less first_key
        ]
    )


def pack_rows(table: pa.Table, num_parts: int, is_wanted: Bool | None = None) -> pa.Table:
    """A stretch of the input, cut by part.

    Args:
        table: user_id, raw_item_id, timestamp, rating and order_key, in ascending order of the key.
        num_parts: Of the dataset.
        is_wanted: (P,) the parts whose rows are needed; None for all.
    """
    users, items = one_chunk(table["user_id"]), one_chunk(table["raw_item_id"])
    schema = packed_schema(value_type(users.type), value_type(items.type))
    if not table.num_rows:
        return schema.empty_table()
    is_dictionary = pa.types.is_dictionary(users.type)
    hashes = hash_ids(users.dictionary if is_dictionary else users)
    buckets = buckets_of(hashes)
    part = pieces_of(buckets[codes_of(users)] if is_dictionary else buckets, num_parts)
    order, starts = scan.group_rows(part, num_parts)
    user, user_ids, user_starts = number_distinct(users, order, starts, hashes)
    item, raw_item_ids, item_starts = number_distinct(items, order, starts)
    keys = table["order_key"].to_numpy()[order]
    lengths = np.diff(starts)
    first_keys = keys[np.minimum(starts[:-1], len(keys) - 1)]
    columns = [
        pa.array(np.arange(num_parts, dtype=np.int32)),
        pa.array(first_keys),
        lists_of(user_ids, user_starts),
        lists_of(raw_item_ids, item_starts),
        lists_of(user, starts),
        lists_of(item, starts),
        lists_of(table["timestamp"].to_numpy()[order], starts),
        lists_of(one_chunk(table["rating"]).take(pa.array(order)), starts),
        lists_of((keys - np.repeat(first_keys, lengths)).astype(np.int32), starts),
    ]
    is_sent = lengths > 0 if is_wanted is None else (lengths > 0) & is_wanted
    packed = pa.table(columns, schema=schema)
    return packed if is_sent.all() else packed.filter(pa.array(is_sent))


def unpack_rows(packed: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Number and interactions, in the order of the input, of each part that has rows.

    One after the other: unpacked, and then sorted, a part takes several times the memory.

    Args:
        packed: All that was sent to these parts, in any order.
    """
    packed = packed.combine_chunks()
    parts, first_keys = packed[PART].to_numpy(), packed["first_key"].to_numpy()
    order = np.lexsort((first_keys, parts))
    for rows in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
        if len(rows):
            yield int(parts[rows[0]]), _unpack(packed, rows)


def _unpack(packed: pa.Table, rows: npt.NDArray[np.intp]) -> pa.Table:
    lists = {}
    for field in packed.schema:
        if pa.types.is_large_list(field.type):
            column = one_chunk(packed[field.name])  # slices, as `take` copies value by value
            lists[field.name] = pa.concat_arrays([column.slice(row, 1) for row in rows])
    lengths = lists["timestamp"].value_lengths().to_numpy()
    keys = np.repeat(packed["first_key"].to_numpy()[rows], lengths)
    return pa.table(
        {
            "user_id": _join(lists["user_ids"], lists["user"], lengths),
            "raw_item_id": _join(lists["raw_item_ids"], lists["item"], lengths),
            "timestamp": lists["timestamp"].flatten(),
            "rating": lists["rating"].flatten(),
            "order_key": keys + lists["key_offset"].flatten().to_numpy(),
        }
    )


def _join(
    values: pa.LargeListArray, numbers: pa.LargeListArray, lengths: npt.NDArray[np.int64]
) -> pa.DictionaryArray:
    """Numbers that count within the values of their own list -> one dictionary for all."""
    counts = values.value_lengths().to_numpy()
    codes = numbers.flatten().to_numpy() + np.repeat(np.cumsum(counts) - counts, lengths)
    distinct = encode(values.flatten())
    return pa.DictionaryArray.from_arrays(pa.array(codes_of(distinct)[codes]), distinct.dictionary)
