"""Add rows to a part of a dataset, and remove users from it, without the raw logs.

Rows that are added to a part become a file beside those it has, a layer; `load_part` merges them.
"""

import functools
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.arrow import as_dictionary, codes_of, dictionary_of, encode, one_chunk
from lightsans.columns.hashing import pieces_of, user_buckets
from lightsans.preparation import kernels
from lightsans.preparation.part_files import load_interactions
from lightsans.preparation.sorting import order_users, users_of
from lightsans.storage.location import Location


def load_part(files: Sequence[Location], columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a part, sorted as if one file had them.

    Args:
        files: The files of the part, each with rows that were added to those before.
        columns: Some columns, users and times among them; None for all.
    """
    first, *later = (load_interactions(file, columns) for file in files)
    # Small ones first: the rows of the first file move once.
    return insert_rows(first, functools.reduce(insert_rows, later)) if later else first


def insert_rows(table: pa.Table, later: pa.Table) -> pa.Table:
    """A sorted part with the rows of another one in their places, ids as dictionaries.

    Late rows fall into place by their time; among rows of one time those of ``table`` come first.

    Args:
        table: A part, or some of its columns, users and times among them.
        later: Sorted alike, with the same columns at least; its order keys are greater.
    """
    # Users of both parts in the order of a part; `at`: places of those that only `later` has.
    (users, offsets), (later_users, later_offsets) = users_of(table), users_of(later)
    known = pc.index_in(later_users, value_set=users)
    is_new = known.is_null().to_numpy(zero_copy_only=False)
    order = order_users(pa.concat_arrays([users, later_users.filter(pa.array(is_new))]))
    at = np.flatnonzero(order >= len(users))
    # For each later user: the same user of `table`, or how many users of `table` come before it.
    before = known.fill_null(0).to_numpy().astype(np.int64)
    before[is_new] = at - np.arange(len(at))
    # Each later row goes before the first row of its user with a greater time.
    times, later_times = (rows["timestamp"].to_numpy() for rows in (table, later))
    places = kernels.find_places(offsets, times, later_offsets, later_times, before, is_new)
    rows = np.insert(np.arange(len(times)), places, len(times) + np.arange(len(later_times)))
    # Ids are merged as numbers: only the dictionaries' distinct values are compared.
    columns = {}
    for name in table.column_names:
        if name in ("user_id", "raw_item_id"):
            ours, theirs = as_dictionary(table[name]), as_dictionary(later[name])
            both = encode(pa.concat_arrays([ours.dictionary, theirs.dictionary]))
            renumbered = codes_of(both)[len(ours.dictionary) :]  # ours keep their numbers
            codes = np.insert(codes_of(ours), places, renumbered[codes_of(theirs)])
            columns[name] = dictionary_of(codes, both.dictionary)
        else:
            both = one_chunk(pa.chunked_array([*table[name].chunks, *later[name].chunks]))
            columns[name] = both.take(pa.array(rows))
    return pa.table(columns)


def without_users(table: pa.Table, excluded_users: pa.Array | None) -> pa.Table:
    """Remove the rows of some users from interactions whose ids are dictionaries."""
    if excluded_users is None:
        return table
    users = as_dictionary(table["user_id"])
    is_excluded = pc.is_in(users.dictionary, value_set=excluded_users.cast(users.dictionary.type))
    stays = ~is_excluded.to_numpy(zero_copy_only=False)[codes_of(users)]
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


def forget_users(rejects: pa.Table, excluded_users: Sequence[str]) -> tuple[pa.Table, set[str]]:
    """Clear the values that these users left in refused rows, and name those who left some."""
    if "values" not in rejects.column_names:
        return rejects, set()
    texts = rejects["values"].to_pylist()
    users = [None if text is None else str(json.loads(text)["user"]) for text in texts]
    found = set(excluded_users) & {user for user in users if user is not None}
    kept = [None if user in found else text for text, user in zip(texts, users, strict=True)]
    at = rejects.schema.get_field_index("values")
    column = pa.array(kept, pa.string())
    return rejects.set_column(at, rejects.schema.field(at), column), found
