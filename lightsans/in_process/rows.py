"""Rows of a `Recommender`'s answers: which were asked for, and lists laid out a row an item."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64
from lightsans.columns.segments import expand
from lightsans.errors import NotFoundError


def places_of(ids: pa.Array, known: pa.Array | pa.ChunkedArray, noun: str) -> Int64:
    """Positions of ids among known ones.

    Raises:
        NotFoundError: One is not there; the message names up to three.
    """
    found = pc.index_in(ids, value_set=known)
    if found.null_count:
        missing = ids.filter(found.is_null())
        some = ", ".join(repr(each.as_py()) for each in missing[:3])
        rest = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        raise NotFoundError(
            f"{noun} {some}{rest}: not among the {len(known):,} {noun}s that fit() has seen; ids "
            "are compared as they are in the log"
        )
    places: Int64 = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return places


def in_pieces(values: Int64, size: int) -> list[Int64]:
    """Stretches of some values; an empty one where there are none, so that columns are known."""
    return [values[first : first + size] for first in range(0, max(len(values), 1), size)]


def long_similar(wide: pa.Table) -> pa.Table:
    """Lists of similar items as rows: item, rank, similar item, score."""
    lists, scores = (wide[name].combine_chunks() for name in ("item_ids", "scores"))
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    owners, ranks = expand(lengths)
    return pa.table(
        {
            "item_id": wide["item_id"].take(pa.array(owners)),
            "rank": pa.array(ranks + 1, pa.int32()),
            "similar_item_id": lists.flatten(),
            "score": scores.flatten(),
        }
    )
