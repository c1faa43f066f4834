"""Remove users from a part, and what they left in refused rows, without the raw logs."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.arrow import as_dictionary, codes_of
from lightsans.columns.erased import ErasedUsers, alike
from lightsans.columns.hashing import pieces_of, user_buckets


def without_users(
    table: pa.Table, excluded_users: pa.Array | None, erased: ErasedUsers | None = None
) -> pa.Table:
    """Remove the rows of some users from interactions whose ids are dictionaries."""
    if (excluded_users is None and erased is None) or not table.num_rows:
        return table
    users = as_dictionary(table["user_id"])
    leaves = np.zeros(len(users.dictionary), bool)
    if excluded_users is not None:
        excluded = excluded_users.cast(users.dictionary.type)
        is_excluded = pc.is_in(users.dictionary, value_set=excluded)
        leaves |= is_excluded.to_numpy(zero_copy_only=False)
    if erased is not None:
        leaves |= erased.is_among(users.dictionary)
    stays = ~leaves[codes_of(users)]
    return table if stays.all() else table.filter(pa.array(stays))


def places_of_users(table: pa.Table, users: pa.Array | None) -> tuple[int, ...]:
    """Places, in a list of users, of those who have interactions; ids are dictionaries."""
    if users is None:
        return ()
    ids = as_dictionary(table["user_id"])
    there = ids.dictionary.take(pa.array(np.unique(codes_of(ids))))
    is_there = pc.is_in(users.cast(there.type), value_set=there)
    return tuple(np.flatnonzero(is_there.to_numpy(zero_copy_only=False)).tolist())


def parts_of_users(users: pa.Array, num_parts: int) -> list[int]:
    """Numbers of the parts in which some users would be."""
    return [int(part) for part in np.unique(pieces_of(user_buckets(users), num_parts))]


def forget_users(
    rejects: pa.Table, excluded_users: Sequence[str], erased: ErasedUsers | None = None
) -> tuple[pa.Table, set[str]]:
    """Clear the values that these users left in refused rows, and name those who left some.

    They are known however the row writes them, ``7.0`` for 7, and are named in all these ways.
    """
    if "values" not in rejects.column_names:
        return rejects, set()
    texts = rejects["values"].to_pylist()
    users = [None if text is None else str(json.loads(text)["user"]) for text in texts]
    known = {user for user in users if user is not None}
    excluded = set[str]().union(*map(alike, excluded_users))
    found = {user for user in known if not excluded.isdisjoint(alike(user))}
    if erased is not None:
        found |= {user for user in known if erased.knows(user)}
    kept = [None if user in found else text for text, user in zip(texts, users, strict=True)]
    at = rejects.schema.get_field_index("values")
    column = pa.array(kept, pa.string())
    named = set[str]().union(*map(alike, found))
    return rejects.set_column(at, rejects.schema.field(at), column), named
