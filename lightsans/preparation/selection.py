"""Selection of a part's rows to learn from: by date, dedupe and the rating filter.

A part holds all rows of its users, so every rule about a user is decided here without looking at
other parts.

Shapes:
    R rows of a part   U its users   I its distinct items
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int8, Int32, Int64
from lightsans.columns.arrow import (
    as_dictionary,
    codes_of,
)
from lightsans.config import DataConfig
from lightsans.preparation.sorting import users_of
from lightsans.preparation.temporal import NUM_PERIODS, Cutoffs


@dataclass(frozen=True, slots=True)
class PartRows:
    """The rows of a part as numbers, and which of them are learnt from."""

    user_ids: pa.Array
    """(U,) in order of (bucket, user id)."""
    offsets: Int64
    """(U + 1,) where each user's rows begin; they are in the order of the sequence."""
    raw_item_ids: pa.Array
    """(I,) distinct items, in no particular order."""
    item: Int32
    """(R,) index into ``raw_item_ids``."""
    timestamps: Int64
    """(R,)"""
    is_kept: Bool
    """(R,) rows that pass dedupe and the rating filter."""
    is_counted: Bool
    """(R,) those of them that vocabulary and k-core see: all, or those before the cut-off."""
    row_counts: dict[str, int]
    """Rows left after each step."""
    events: "EventRows | None" = None
    """Uses of each row, where there are events: kept ones are inputs or targets."""

    @property
    def user(self) -> Int64:
        """(R,) index into ``user_ids``, ascending."""
        return np.repeat(np.arange(len(self.user_ids)), np.diff(self.offsets))


@dataclass(frozen=True, slots=True)
class EventRows:
    """Uses of the rows of a part."""

    code: Int8
    """(R,) of the event, from 1, in the order of the names."""
    is_input: Bool
    is_target: Bool
    is_seen: Bool

    @classmethod
    def of(cls, codes: Int8, data: DataConfig) -> "EventRows":
        """Look up the codes."""
        events = [data.events[name] for name in data.event_names]
        is_input, is_target, is_seen = (
            np.array([False, *(getattr(event, role) for event in events)])[codes]
            for role in ("input", "target", "seen")
        )
        return cls(codes, is_input, is_target, is_seen)


def select_rows(
    table: pa.Table, data: DataConfig, as_of: int | None = None, cutoffs: Cutoffs | None = None
) -> PartRows:
    """Apply ``as_of``, dedupe and the rating filter to a part.

    Args:
        table: A part of the interactions, sorted as it is stored.
        data: The filters.
        as_of: Rows from this time on, in microseconds, count for nothing at all.
        cutoffs: Cut-offs of a temporal split. A repeat then removes no earlier row of another
            period: it would be known before it happened.
    """
    if as_of is not None:
        table = table.filter(pc.less(table["timestamp"], as_of))
    user_ids, offsets = users_of(table)
    items = as_dictionary(table["raw_item_id"])
    item = codes_of(items)
    timestamps = table["timestamp"].to_numpy()
    row_counts = {"after_as_of": len(item)}
    is_kept = np.ones(len(item), bool)
    num_items = len(items.dictionary)
    events = EventRows.of(table["event"].to_numpy(), data) if data.events else None
    thing, num_things = item, num_items  # a repeat has the same item, and the same event
    if events is not None:
        thing = item + np.int32(num_items) * events.code.astype(np.int32)
        num_things = num_items * (len(data.events) + 1)
        assert num_things * NUM_PERIODS < 2**31, "raise data.num_parts"
    if data.dedupe == "last" and cutoffs is not None:  # the last one of each period
        thing = thing + num_things * cutoffs.period_of(timestamps)
        num_things *= NUM_PERIODS
    if data.dedupe != "none":
        from lightsans.preparation import kernels  # Numba, as in `hash_segments`

        is_last = data.dedupe == "last"
        is_kept = kernels.first_of_each_item(offsets, thing, num_things, is_last)
    row_counts["after_dedupe"] = int(is_kept.sum())
    # Rows rated lower stay in the part, as seen, but are not learnt from.
    if data.min_rating is not None:
        is_rated = pc.fill_null(pc.greater_equal(table["rating"], data.min_rating), False)
        is_kept &= is_rated.to_numpy()
    row_counts["after_min_rating"] = int(is_kept.sum())
    if events is not None:
        is_kept &= events.is_input | events.is_target
        row_counts["after_events"] = int(is_kept.sum())
    # Vocabulary and k-core are made of what came before the first cut-off.
    is_counted = is_kept
    if cutoffs is not None:
        is_counted = is_kept & (timestamps < cutoffs.valid_from)
        row_counts["before_cutoff"] = int(is_counted.sum())
    return PartRows(
        user_ids=user_ids,
        offsets=offsets,
        raw_item_ids=items.dictionary,
        item=item,
        timestamps=timestamps,
        is_kept=is_kept,
        is_counted=is_counted,
        row_counts=row_counts,
        events=events,
    )
