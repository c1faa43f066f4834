"""Sort the interactions of one part; its users and its duplicates.

Shapes:
    U users of a part
"""

import numpy as np
import pyarrow as pa

from lightsans.arrays import Int64
from lightsans.columns.arrow import (
    as_dictionary,
    codes_of,
    dictionary_of,
    one_chunk,
    ranks_of,
    value_type,
    wide,
)
from lightsans.columns.hashing import user_buckets


def sort_interactions(table: pa.Table) -> pa.Table:
    """Interactions of a part as they are stored: by bucket, user, time and place in the input.

    Args:
        table: user_id, raw_item_id, timestamp, rating and order_key, and event where there are
            events; ids may be dictionaries.
            Rows of one user and time must come in ascending order of the key.

    Returns:
        The columns of `lightsans.storage.schemas.interactions_schema`, ids as dictionaries.
    """
    from lightsans.columns.kernels import group_rows
    from lightsans.preparation import kernels  # Numba, as in `hash_segments`

    users, items = as_dictionary(table["user_id"]), as_dictionary(table["raw_item_id"])
    buckets = user_buckets(users.dictionary)
    user_order = order_users(users.dictionary)
    rank = np.empty(len(user_order), np.int32)
    rank[user_order] = np.arange(len(user_order), dtype=np.int32)
    timestamps = table["timestamp"].to_numpy()
    order, starts = group_rows(rank[codes_of(users)], len(rank))
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
            **(
                {"event": table["event"].to_numpy()[order]} if "event" in table.column_names else {}
            ),
        }
    )


def order_users(user_ids: pa.Array) -> Int64:
    """Distinct users in the order in which a part has them: by bucket, then by id."""
    by_id, _ = ranks_of(user_ids)
    buckets = user_buckets(user_ids)
    order: Int64 = by_id[np.argsort(buckets[by_id].astype(np.uint16), kind="stable")]
    return order


def users_of(table: pa.Table) -> tuple[pa.Array, Int64]:
    """The users of sorted rows, (U,), and the offsets of each user's rows, (U + 1,)."""
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
    from lightsans.preparation import kernels  # Numba, as in `hash_segments`

    items = codes_of(as_dictionary(table["raw_item_id"]))
    return int(kernels.count_repeats(offsets, items, table["timestamp"].to_numpy()))
