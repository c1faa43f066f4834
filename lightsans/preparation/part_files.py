"""Reading and writing the parts of ``interactions/`` and ``sequences/`` as parquet files."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.storage.location import Location
from lightsans.storage.parts import readable_part

_ROW_GROUP = 2**22  # a part of the usual size is one: a reader joins no dictionaries
_ROW_GROUP_USERS = 2**16
_DICTIONARY_BYTES = 2**26  # of a row group; beyond, ids are written row by row


def save_interactions(location: Location, table: pa.Table) -> None:
    """Write a part of the interactions; to its readers, ids are plain strings or integers."""
    events = ["event"] if "event" in table.column_names else []
    with location.open_atomic() as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            compression_level=1,
            row_group_size=_ROW_GROUP,
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            store_schema=False,
            use_dictionary=["user_id", "raw_item_id", "rating", "bucket", *events],
            write_statistics=[
                "timestamp",
                "bucket",
            ],  # of text, they would take a third of the time
            column_encoding={
                "timestamp": "DELTA_BINARY_PACKED",
                "order_key": "DELTA_BINARY_PACKED",
            },
        )


def load_interactions(location: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """A part of the interactions, or some columns of it; text as dictionaries."""
    names = None if columns is None else list(columns)
    ids = ["user_id", "raw_item_id"]
    with (
        readable_part(location),
        location.open() as file,
        pq.ParquetFile(file, read_dictionary=ids) as opened,
    ):
        return opened.read(names)


def save_sequences(location: Location, table: pa.Table) -> None:
    """Write a part of the sequences.

    Times of a user rise, and no user comes twice: dictionaries, Arrow's default, would take twice
    the time and more room. Codes of events are small: they need no encoding of differences.
    """
    lists = [
        field.name
        for field in table.schema
        if pa.types.is_list(field.type) and field.type.value_type != pa.int8()
    ]
    with location.open_atomic() as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            compression_level=1,
            row_group_size=_ROW_GROUP_USERS,
            use_dictionary=False,
            column_encoding={f"{name}.list.element": "DELTA_BINARY_PACKED" for name in lists},
        )
