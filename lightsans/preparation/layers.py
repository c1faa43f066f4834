"""Add rows to a part of a dataset without the raw logs.

Rows that are added to a part become a file beside those it has, a layer; `load_part` merges them.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.arrow import as_dictionary, codes_of, dictionary_of, encode, one_chunk
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
    from lightsans.preparation import kernels  # Numba, as in `hash_segments`

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
