"""Selected rows of a part and the vocabulary -> one sequence per user, and its fingerprint.

Shapes:
    R rows of a part   U its users
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lightsans.arrays import Bool, Int64
from lightsans.columns.arrow import (
    narrow,
)
from lightsans.columns.hashing import hash_ids, hash_segments, mix, user_buckets
from lightsans.columns.segments import count_true
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.preparation.event_lists import derive_events, event_fingerprints, lists_of_users
from lightsans.preparation.selection import PartRows
from lightsans.preparation.temporal import Cutoffs, cut_periods
from lightsans.storage.schemas import sequences_schema


@dataclass(frozen=True, slots=True)
class SequenceLimits:
    """Limits on the histories that sequences keep; counts and k-core see all interactions.

    Rows that sequences drop still count as seen.
    """

    keep_last: int | None
    """The newest so many items of every user, in each period of a temporal split; None for all."""
    keep_since: int | None
    """Items from this moment on, in microseconds since 1970; None for all."""

    def keeps(
        self, offsets: Int64, timestamps: Int64, in_sequence: Bool, cutoffs: Cutoffs | None = None
    ) -> Bool:
        """Mark the rows that stay.

        Args:
            offsets: (U + 1,) where the rows of each user begin; they ascend in time.
            timestamps: (R,)
            in_sequence: (R,) rows that would be in a sequence that keeps everything.
            cutoffs: Cut-offs of a temporal split. Each period then keeps its own newest: what comes
                after a cut-off removes nothing of the history before it.
        """
        stays = in_sequence.copy()
        if self.keep_since is not None:
            stays &= timestamps >= self.keep_since
        if self.keep_last is not None:
            if cutoffs is not None:
                offsets = cutoffs.period_offsets(offsets, timestamps)
            before = np.concatenate([[0], np.cumsum(stays)])
            from_end = np.repeat(before[offsets[1:]], np.diff(offsets)) - before[:-1]
            stays &= from_end <= self.keep_last
        return stays


def derive_sequences(
    rows: PartRows,
    vocabulary: Vocabulary,
    min_user_interactions: int,
    limits: SequenceLimits | None = None,
    cutoffs: Cutoffs | None = None,
    events: str | None = None,
) -> pa.Table:
    """One row per user, as `lightsans.storage.schemas.sequences_schema` says.

    Args:
        rows: A part.
        vocabulary: The items that k-core has left; those with count 0 have left it since.
        min_user_interactions: Users with fewer interactions are not trainable.
        limits: Limits on what sequences keep of the rows that pass the filters; None for all.
        cutoffs: Cut-offs of a temporal split, which adds columns.
        events: JSON of the uses of events; None where there are none.
    """
    least = max(min_user_interactions, 1)
    item_ids = vocabulary.encode_living(rows.raw_item_ids)
    seen_ids = vocabulary.encode_seen(rows.raw_item_ids)
    # Limits shorten sequences alone: targets and who is trainable are decided before it.
    from lightsans.preparation import kernels  # Numba, as in `hash_segments`

    in_sequence = rows.is_kept & (item_ids[rows.item] > 0)
    is_target = rows.is_kept
    if rows.events is not None:
        in_sequence &= rows.events.is_input
        is_target = rows.is_kept & rows.events.is_target
    if limits is not None:
        in_sequence = limits.keeps(rows.offsets, rows.timestamps, in_sequence, cutoffs)
    ends, items, times, other_ends, others, fingerprints = kernels.derive(
        rows.offsets,
        rows.item,
        rows.timestamps,
        in_sequence,
        seen_ids,
        hash_ids(rows.raw_item_ids),
        hash_ids(rows.user_ids),
        least,
    )
    # Who is trainable follows from the sequence, unless something but the filters shortened it.
    lengths = np.diff(ends, prepend=0)
    is_trainable = lengths >= least
    periods: list[Int64] = []
    is_plain = limits is None and cutoffs is None and rows.events is None
    if not is_plain:
        is_counted = rows.is_counted & (item_ids[rows.item] > 0)
        is_trainable = (count_true(is_counted, rows.offsets) >= least) & (lengths > 0)
    if cutoffs is not None:
        found = cut_periods(
            rows.offsets, item_ids[rows.item], rows.timestamps, is_target, in_sequence, cutoffs
        )
        is_trainable &= found.train_lengths > 0
        periods = found.columns()
        # Numbers of items are left out: numbering them anew leaves a fingerprint unchanged.
        for column in (*periods[:2], *(np.sign(targets) for targets in periods[2:])):
            fingerprints = mix(fingerprints ^ mix(column.astype(np.uint64)))
    if not is_plain:
        fingerprints = mix(np.bitwise_xor(fingerprints, is_trainable.astype(np.uint64)))
    # Under events, items of rows that are no input are seen or not, as their event says.
    also_seen, event_columns = lists_of_users(others, other_ends), list[pa.Array]()
    if rows.events is not None:
        also_seen, event_columns = derive_events(rows, item_ids, seen_ids, in_sequence, cutoffs)
        fingerprints = mix(fingerprints ^ event_fingerprints(rows, seen_ids))
    user_ids = narrow(rows.user_ids)
    columns = [
        user_ids,
        lists_of_users(items, ends),
        lists_of_users(times, ends),
        pa.array(is_trainable),
        also_seen,
        pa.array(user_buckets(rows.user_ids)),
        pa.array(fingerprints),
        *(pa.array(column.astype(np.int32)) for column in periods),
        *event_columns,
    ]
    return pa.table(columns, schema=sequences_schema(user_ids.type, cutoffs is not None, events))


def fingerprint_dataset(parts: Sequence[int], vocabulary_fingerprint: str) -> str:
    """16 digits that differ when any sequence, or the id of any item, does."""
    total = np.array([sum(parts) % 2**64, int(vocabulary_fingerprint, 16)], np.uint64)
    return f"{hash_segments(total, np.array([0, 2]))[0]:016x}"
