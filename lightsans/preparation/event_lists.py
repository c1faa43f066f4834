"""Columns of sequences that a log with events has: targets, and what is seen with its last time.

Shapes:
    R rows of a part   U its users
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lightsans.arrays import Bool, Int32, Int64, UInt64
from lightsans.columns.hashing import hash_ids, hash_segments, mix
from lightsans.preparation.temporal import Cutoffs

if TYPE_CHECKING:  # who wants lists of users waits for no Numba
    from lightsans.preparation.selection import PartRows


def derive_events(
    rows: "PartRows",
    item_ids: Int32,
    seen_ids: Int32,
    in_sequence: Bool,
    cutoffs: Cutoffs | None,
) -> tuple[pa.Array, list[pa.Array]]:
    """The items that are seen, and the columns of `lightsans.storage.schemas.EVENT_COLUMNS`.

    Args:
        rows: A part.
        item_ids: Item ids of its distinct items; 0 outside the vocabulary.
        seen_ids: The same, with items that may be recommended though they were not counted.
        in_sequence: (R,) the inputs that sequences hold.
        cutoffs: Cut-offs of a temporal split.
    """
    events = rows.events
    assert events is not None
    ids = item_ids[rows.item]
    inputs_before = np.concatenate([[0], np.cumsum(in_sequence)])
    position = inputs_before[:-1] - np.repeat(
        inputs_before[rows.offsets[:-1]], np.diff(rows.offsets)
    )
    # Rows come in the order of users and, within one, of time: so do those that are chosen.
    inputs = np.flatnonzero(in_sequence)
    targets = np.flatnonzero(rows.is_kept & events.is_target & (ids > 0))
    before = [targets, targets]
    if cutoffs is not None:
        times = rows.timestamps[targets]
        before = [targets[times < at] for at in (cutoffs.valid_from, cutoffs.test_from)]
    known = seen_ids[rows.item]
    seen = _last_of_each(rows, known, events.is_seen & (known > 0))
    input_ends, target_ends, seen_ends = (
        _ends(chosen, rows.offsets) for chosen in (inputs, targets, seen)
    )
    columns = [
        lists_of_users(events.code[inputs], input_ends),
        lists_of_users(ids[targets], target_ends),
        lists_of_users(position[targets].astype(np.int32), target_ends),
        lists_of_users(rows.timestamps[targets], target_ends),
        lists_of_users(events.code[targets], target_ends),
        lists_of_users(rows.timestamps[seen], seen_ends),
        lists_of_users(events.code[seen], seen_ends),
        *(_counts(chosen, rows.offsets) for chosen in before),
    ]
    return lists_of_users(known[seen], seen_ends), columns


def event_fingerprints(rows: "PartRows", item_ids: Int32) -> UInt64:
    """(U,) differ when any row of a user that counts for something does, its event included.

    Numbers of items are left out: numbering them anew leaves a fingerprint unchanged.
    """
    assert rows.events is not None
    is_known = item_ids[rows.item] > 0
    hashes = hash_ids(rows.raw_item_ids)[rows.item]
    hashes = mix(hashes ^ mix(rows.timestamps.astype(np.uint64)))
    flags = rows.events.code.astype(np.uint64) * np.uint64(4) + np.uint64(2) * rows.is_kept
    found: UInt64 = hash_segments(mix(hashes ^ mix(flags + is_known)), rows.offsets)
    return found


def lists_of_users(values: npt.NDArray[np.generic], ends: Int64) -> pa.Array:
    """Values of all users, end to end, as a list for each."""
    assert len(values) < 2**31, "lists of a part hold at most 2^31 values; raise data.num_parts"
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _ends(chosen: Int64, offsets: Int64) -> Int64:
    """(U,) where the chosen rows of each user end among all that are chosen."""
    return np.searchsorted(chosen, offsets[1:]).astype(np.int64)


def _counts(chosen: Int64, offsets: Int64) -> pa.Array:
    """(U,) chosen rows of each user."""
    return pa.array(np.diff(_ends(chosen, offsets), prepend=0).astype(np.int32))


def _last_of_each(rows: "PartRows", ids: Int32, is_seen: Bool) -> Int64:
    """The last of a user's seen rows with the same item and event, in the order of the rows."""
    assert rows.events is not None
    chosen = np.flatnonzero(is_seen)[::-1]
    keys = rows.user[chosen] * (int(ids.max(initial=0)) + 1) + ids[chosen]
    _, first = np.unique(keys * 128 + rows.events.code[chosen], return_index=True)
    return np.sort(chosen[first]).astype(np.int64)
