"""Recommendations as tables: wide, one row per user with lists, and long, one per recommendation.

The wide table is what the code works with; the long one exists on storage only.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.dataset.loading import history_column, list_column
from lightsans.storage.schemas import long_recommendations_schema, recommendations_schema

if TYPE_CHECKING:  # with PyTorch, which readers of finished lists do without
    from lightsans.recommendations.list_maker import ListMaker, Recommendations

NUM_COLUMNS = len(recommendations_schema(pa.string(), pa.string()))
"""Columns of every wide table; those beside them follow."""


def recommend_rows(list_maker: "ListMaker", rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The wide table of some rows of a sequences table, in their order."""
    return to_table(rows, make_lists(list_maker, rows), schema)


def make_lists(list_maker: "ListMaker", rows: pa.Table) -> "Recommendations":
    """The lists of some rows of a sequences table."""
    segments = None if list_maker.rules is None else list_maker.rules.bits(rows["user_id"])
    return list_maker.recommend(history_column(rows), list_column(rows, "also_seen"), segments)


def to_table(rows: pa.Table, made: "Recommendations", schema: pa.Schema) -> pa.Table:
    """Lists as the wide rows of their users."""
    columns = [rows["user_id"], made.item_ids, made.scores, made.source]
    named = dict(zip(schema.names, columns, strict=True))
    return pa.table(named).cast(schema)


def to_long(wide: pa.Table, item_columns: Collection[str] = ()) -> pa.Table:
    """The long table of a wide one. Users with an empty list have no row in it.

    Args:
        wide: The wide table.
        item_columns: Columns after its own that are lists beside the items; others are of users.
    """
    items = wide["item_ids"].combine_chunks()
    parents = items.value_parent_indices().to_numpy()
    firsts = items.offsets.to_numpy()[:-1] - items.offsets.to_numpy()[0]
    ranks = np.arange(len(parents)) - firsts[parents] + 1
    per_row = pa.array(parents)
    columns = [
        wide["user_id"].combine_chunks().take(per_row),
        pa.array(ranks, pa.int32()),
        items.flatten(),
        wide["scores"].combine_chunks().flatten(),
        wide["source"].combine_chunks().take(per_row),
    ]
    schema = long_recommendations_schema(wide["user_id"].type, items.type.value_type)
    long = pa.table(columns, schema=schema)
    for name in wide.column_names[NUM_COLUMNS:]:
        column = wide[name].combine_chunks()
        is_of_items = name in item_columns
        long = long.append_column(name, column.flatten() if is_of_items else column.take(per_row))
    return long


def to_wide(long: pa.Table, schema: pa.Schema) -> pa.Table:
    """The wide table, with users in order of their first row; rows may come in any order.

    Args:
        long: The long table.
        schema: Schema of the wide table.
    """
    users = pc.dictionary_encode(long["user_id"]).combine_chunks()
    codes = users.indices.to_numpy()
    order = pa.array(np.lexsort([long["rank"].to_numpy(), codes]))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))]).astype(np.int32)
    columns = [
        users.dictionary,
        pa.ListArray.from_arrays(pa.array(offsets), long["item_id"].take(order).combine_chunks()),
        pa.ListArray.from_arrays(pa.array(offsets), long["score"].take(order).combine_chunks()),
        long["source"].take(order).combine_chunks().take(pa.array(offsets[:-1])),
    ]
    return pa.table(columns, names=schema.names).cast(schema)
