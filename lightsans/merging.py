"""Adding rows to a part of a dataset, and taking users out of it, without the raw logs."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrow_columns import as_dictionary, codes_of
from lightsans.hashing import pieces_of, user_buckets
from lightsans.interactions import sort_interactions

_COLUMNS = ("user_id", "raw_item_id", "timestamp", "rating", "order_key")


def merge_interactions(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several tables as one sorted part.

    Late rows fall into place by their time; among rows of one time those of the first table come
    first.

    Args:
        tables: Each sorted as a part is, or in the order of the input; order keys rise from each
            table to the next.
    """
    pieces = []
    for table in tables:
        columns = {name: table[name] for name in _COLUMNS}
        for name in ("user_id", "raw_item_id"):
            columns[name] = as_dictionary(table[name])
        pieces.append(pa.table(columns))
    return sort_interactions(pa.concat_tables(pieces))


def without_users(table: pa.Table, excluded_users: pa.Array | None) -> pa.Table:
    """Interactions, ids as dictionaries, of all but some users."""
    if excluded_users is None:
        return table
    users = as_dictionary(table["user_id"])
    is_excluded = pc.is_in(users.dictionary, value_set=excluded_users.cast(users.dictionary.type))
    stays = ~is_excluded.to_numpy(zero_copy_only=False)[codes_of(users)]
    return table if stays.all() else table.filter(pa.array(stays))


def parts_of_users(users: pa.Array, num_parts: int) -> list[int]:
    """Numbers of the parts in which some users would be."""
    return [int(part) for part in np.unique(pieces_of(user_buckets(users), num_parts))]


def forget_users(rejects: pa.Table, excluded_users: Sequence[str]) -> pa.Table:
    """Refused rows without the values that these users left in them."""
    if "values" not in rejects.column_names:
        return rejects
    excluded = set(excluded_users)
    kept = [
        None if text is None or str(json.loads(text)["user"]) in excluded else text
        for text in rejects["values"].to_pylist()
    ]
    at = rejects.schema.get_field_index("values")
    return rejects.set_column(at, rejects.schema.field(at), pa.array(kept, pa.string()))
