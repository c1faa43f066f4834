"""Column names and Arrow schemas of the files on storage."""

from collections.abc import Sequence

import pyarrow as pa

TIMESTAMP_UNIT = "us"
"""Timestamps on storage are int64 microseconds since 1970, UTC."""


def interactions_schema(user_type: pa.DataType, item_type: pa.DataType) -> pa.Schema:
    """Every valid row of the log, sorted by (bucket, user_id, timestamp, order_key)."""
    return pa.schema(
        [
            ("user_id", user_type),
            ("raw_item_id", item_type),
            ("timestamp", pa.int64()),
            ("rating", pa.float64()),  # null where the log has none
            ("order_key", pa.int64()),  # file << 40 | row or byte offset
            ("bucket", pa.int32()),
        ]
    )


def sequences_schema(user_type: pa.DataType, with_periods: bool = False) -> pa.Schema:
    """One row per user, sorted by (bucket, user_id); with `PERIOD_COLUMNS` for a temporal split."""
    schema = pa.schema(
        [
            ("user_id", user_type),
            ("item_ids", pa.list_(pa.int32())),
            ("timestamps", pa.list_(pa.int64())),
            ("trainable", pa.bool_()),
            ("also_seen", pa.list_(pa.int32())),
            ("bucket", pa.int32()),
            ("fingerprint", pa.uint64()),
        ]
    )
    for name in PERIOD_COLUMNS if with_periods else ():
        schema = schema.append(pa.field(name, pa.int32()))
    return schema


PERIOD_COLUMNS = ("train_length", "test_length", "valid_target", "test_target")
"""Int32 columns of sequences under a temporal split, see `lightsans.dataset.sequences.Periods`."""


def items_schema(item_type: pa.DataType) -> pa.Schema:
    """The vocabulary, by item_id from 1; 0 is padding."""
    return pa.schema([("item_id", pa.int32()), ("raw_item_id", item_type), ("count", pa.int64())])


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
