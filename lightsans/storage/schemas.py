"""Column names and Arrow schemas of the files on storage."""

from collections.abc import Sequence

import pyarrow as pa

TIMESTAMP_UNIT = "us"
"""Timestamps on storage are int64 microseconds since 1970, UTC."""
MODEL, POPULAR, POPULAR_RECENT = "model", "popular", "popular_recent"
"""Sources of recommendations."""


def interactions_schema(
    user_type: pa.DataType, item_type: pa.DataType, with_events: bool = False
) -> pa.Schema:
    """Every valid row of the log, sorted by (bucket, user_id, timestamp, order_key)."""
    events = [("event", pa.int8())] if with_events else []  # codes from 1, in order of the names
    return pa.schema(
        [
            ("user_id", user_type),
            ("raw_item_id", item_type),
            ("timestamp", pa.int64()),
            ("rating", pa.float64()),  # null where the log has none
            ("order_key", pa.int64()),  # file << 40 | row or byte offset
            ("bucket", pa.int32()),
            *events,
        ]
    )


def sequences_schema(
    user_type: pa.DataType, with_periods: bool = False, events: str | None = None
) -> pa.Schema:
    """One row per user, sorted by (bucket, user_id); with `PERIOD_COLUMNS` for a temporal split.

    Args:
        user_type: Type of user ids.
        with_periods: Whether the split is one by time.
        events: JSON of the uses of events, which adds columns: then item_ids are the inputs,
            and also_seen, which may repeat an item, all items that are seen.
    """
    schema = pa.schema(
        [
            ("user_id", user_type),
            ("item_ids", pa.list_(pa.int32())),
            ("timestamps", pa.list_(pa.int64())),
            ("trainable", pa.bool_()),
            ("also_seen", pa.list_(pa.int32())),
            ("bucket", pa.int32()),
            (FINGERPRINT, pa.uint64()),
        ]
    )
    for name in PERIOD_COLUMNS if with_periods else ():
        schema = schema.append(pa.field(name, pa.int32()))
    if events is None:
        return schema
    for name, kind in EVENT_COLUMNS.items():
        schema = schema.append(pa.field(name, kind))
    return schema.with_metadata({EVENTS_KEY: events})


FINGERPRINT = "fingerprint"
"""Column of sequences with a hash of all that a user's row holds, but for the numbers of items."""
PERIOD_COLUMNS = ("train_length", "test_length", "valid_target", "test_target")
"""Int32 columns of sequences under a temporal split, see `lightsans.dataset.sequences.Periods`."""


EVENT_COLUMNS = {
    "events": pa.list_(pa.int8()),  # of the inputs
    "target_ids": pa.list_(pa.int32()),
    "target_positions": pa.list_(pa.int32()),  # inputs before each target
    "target_times": pa.list_(pa.int64()),
    "target_events": pa.list_(pa.int8()),
    "seen_times": pa.list_(pa.int64()),  # of also_seen: the last time of an item and event
    "seen_events": pa.list_(pa.int8()),
    "train_targets": pa.int32(),  # targets before the first cut-off of a temporal split
    "targets_before_test": pa.int32(),  # and before the second one
}
"""Columns of sequences of a log with events, see `lightsans.dataset.events`."""
EVENTS_KEY = b"lightsans.events"
"""Key of the metadata of such a file that says what each event counts for."""


def items_schema(
    item_type: pa.DataType, with_targets: bool = False, with_listed: bool = False
) -> pa.Schema:
    """The vocabulary, by item_id from 1; 0 is padding."""
    schema = pa.schema([("item_id", pa.int32()), ("raw_item_id", item_type), ("count", pa.int64())])
    if with_targets:
        schema = schema.append(pa.field(TARGET_COUNT, pa.int64()))
    return schema.append(pa.field(LISTED, pa.bool_())) if with_listed else schema


TARGET_COUNT = "target_count"
"""Column of the vocabulary of a log with events: rows of each item that are targets."""
LISTED = "in_item_table"
"""Column of the vocabulary of a dataset with item features: whether their table has the item."""


REJECTS = pa.schema(
    [
        ("file", pa.string()),
        ("position", pa.int64()),  # row in a parquet or compressed file, byte offset elsewhere
        ("reason", pa.string()),
    ]
)
REJECTS_WITH_VALUES = REJECTS.append(pa.field("values", pa.string()))  # JSON by role, or null


def recommendations_schema(user_type: pa.DataType, item_type: pa.DataType) -> pa.Schema:
    """One row per user, best item first."""
    return pa.schema(
        [
            ("user_id", user_type),
            ("item_ids", pa.list_(item_type)),
            ("scores", pa.list_(pa.float32())),
            ("source", pa.string()),  # model, or popular for users without a known item
        ]
    )


def long_recommendations_schema(user_type: pa.DataType, item_type: pa.DataType) -> pa.Schema:
    """One row per recommendation: each user's are together, rank 1 first."""
    return pa.schema(
        [
            ("user_id", user_type),
            ("rank", pa.int32()),
            ("item_id", item_type),
            ("score", pa.float32()),
            ("source", pa.string()),
        ]
    )


def ranks_schema(user_type: pa.DataType, others: Sequence[str]) -> pa.Schema:
    """Ranks of held-out targets: one row per evaluated user and split, in order of the users."""
    return pa.schema(
        [
            ("user_id", user_type),
            ("bucket", pa.int32()),
            ("split", pa.string()),  # valid or test
            ("rank", pa.int32()),  # of the target by the model, from 1; 0 when it is unknown
            *((f"{name}_rank", pa.int32()) for name in others),  # baselines, lists
            ("candidates", pa.int32()),  # items that the model ranked
            ("history_length", pa.int32()),  # items before the target
            ("newcomer", pa.bool_()),  # nothing of this user was trained on
            ("popularity", pa.int32()),  # of the target: 1 for the top tenth to 10; 0 unknown
            ("group", pa.string()),  # value of evaluate.user_column; null without one
        ]
    )


def id_type(name: str) -> pa.DataType:
    """The Arrow type of ids that a manifest calls ``string`` or ``int64``."""
    return {"string": pa.string(), "int64": pa.int64()}[name]
