"""Counting items over all parts, and k-core: the items and users with enough interactions.

Rules about items need counts of all parts, which `merge_counts` adds up. Items are compared by a
hash of 64 bits under a key of the run, so that no input can force ids to share one; that none do by
chance is checked when counts first meet.

Shapes:
    U users of a part   I its distinct items   K rows that pass the filters
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int32, Int64, UInt64
from lightsans.columns.arrow import (
    one_chunk,
)
from lightsans.columns.hashing import Key, keyed_hash_ids
from lightsans.errors import InputError
from lightsans.preparation.selection import PartRows


@dataclass(frozen=True, slots=True)
class CoreRows:
    """The part of a part's rows that a round of k-core reads."""

    offsets: Int64
    """(U + 1,) where each user's rows begin."""
    item: Int32
    """(K,) index into ``item_hashes`` of the rows that pass the filters."""
    item_hashes: UInt64
    """(I,) ascending."""


def core_rows(rows: PartRows, key: Key) -> tuple[CoreRows, pa.Array]:
    """The rows that k-core counts, and the raw ids of a part's items in order of their hashes.

    Args:
        rows: Rows of the part.
        key: The same for all parts of a run, and unknown to those who send ids.
    """
    hashes = keyed_hash_ids(rows.raw_item_ids, key)
    order = np.argsort(hashes)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    counted_before = np.concatenate([[0], np.cumsum(rows.is_counted)])
    item = place[rows.item[rows.is_counted]]
    core = CoreRows(counted_before[rows.offsets], item, hashes[order])
    return core, rows.raw_item_ids.take(pa.array(order))


def count_items(
    core: CoreRows, alive: UInt64 | None, min_user_interactions: int
) -> tuple[UInt64, Int64]:
    """Count the interactions of users with enough of them, by item.

    Args:
        core: A part.
        alive: Hashes of the items that interactions are counted with, ascending; None for all.
        min_user_interactions: Users with fewer interactions do not count.

    Returns:
        Hashes, ascending, and counts; items with count 0 are left out.
    """
    from lightsans.preparation import kernels  # Numba, as in `hash_segments`

    is_alive = np.ones(len(core.item_hashes), bool)
    if alive is not None:
        is_alive = _is_in(core.item_hashes, alive)
    counts = kernels.count_alive(core.offsets, core.item, is_alive, min_user_interactions)
    found = np.flatnonzero(counts)
    return core.item_hashes[found], counts[found]


def item_counts(hashes: UInt64, counts: Int64, raw_item_ids: pa.Array | None = None) -> pa.Table:
    """A table of counts that `merge_counts` adds up, with raw ids where they are known."""
    columns = {"hash": pa.array(hashes), "count": pa.array(counts)}
    return pa.table(columns if raw_item_ids is None else {**columns, "raw_item_id": raw_item_ids})


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """The sum of the counts of several parts, by ascending hash.

    Raises:
        InputError: Two different raw ids have the same hash.
    """
    table = pa.concat_tables(tables)
    hashes = table["hash"].to_numpy()
    order = np.argsort(hashes, kind="stable")  # they are a few ascending runs
    hashes = hashes[order]
    is_first = np.concatenate([[True], hashes[1:] != hashes[:-1]])[: len(hashes)]
    first = np.flatnonzero(is_first)
    counts = table["count"].to_numpy()[order]
    summed = np.add.reduceat(counts, first) if len(first) else counts
    if "raw_item_id" not in table.column_names:
        return item_counts(hashes[first], summed)
    raw = one_chunk(table["raw_item_id"])
    _check_hashes(raw, order, is_first)
    return item_counts(hashes[first], summed, raw.take(pa.array(order[first])))


def k_core(
    count: Callable[[UInt64 | None], pa.Table], min_item_interactions: int
) -> tuple[pa.Table, int]:
    """Drop users and items with too few interactions until none is left that has too few.

    Args:
        count: `count_items` over all parts, as `item_counts`: how often users with enough
            interactions with the given items met each of them.
        min_item_interactions: Items with fewer go.

    Returns:
        Counts of the items that stay, maybe none, and how often ``count`` was called.
    """
    counts, num_rounds = count(None), 1
    while True:
        survivors = counts.filter(pc.greater_equal(counts["count"], min_item_interactions))
        # With all of them still there, the next round would count the same again.
        if survivors.num_rows in (0, counts.num_rows):
            return survivors, num_rounds
        counts, num_rounds = count(survivors["hash"].to_numpy()), num_rounds + 1


def _is_in(values: UInt64, ascending: UInt64) -> Bool:
    if not len(ascending):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.equal(ascending[places], values)


def _check_hashes(raw: pa.Array, order: Int64, is_first: Bool) -> None:
    """Refuse rows that have the hash, but not the raw id, of the row before."""
    repeats = np.flatnonzero(~is_first)
    these, others = (raw.take(pa.array(order[rows])) for rows in (repeats, repeats - 1))
    differ = pc.not_equal(these, others)
    if pc.any(differ).as_py():
        a, b = (ids.filter(differ)[0].as_py() for ids in (these, others))
        raise InputError(
            f"items {a!r} and {b!r} have the same hash of 64 bits by chance, so that they cannot "
            "be told apart; run again: every run draws another key for its hashes"
        )
