"""Columns in the names of directories, as Hive and Spark write them: ``dt=2026-01-01/``."""

from collections.abc import Mapping
from urllib.parse import unquote

from lightsans.storage.location import FileInfo, Location

_MISSING = "__HIVE_DEFAULT_PARTITION__"


def partition_values(file: Location) -> dict[str, str | None]:
    """The values that the directories above a file name, decoded; None is a missing one.

    All directories of the address count, so that a file has the same columns whether it is named
    itself or found in a directory. Of two of a name, the one closer to the file counts.
    """
    values: dict[str, str | None] = {}
    for part in file.path.split("/")[:-1]:
        name, is_partition, value = part.partition("=")
        if is_partition and name:
            values[unquote(name)] = None if value == _MISSING else unquote(value)
    return values


def partitions_of(file: FileInfo) -> Mapping[str, str | None]:
    """`partition_values`, or what the table says that the file belongs to."""
    if file.rows is not None and file.rows.partition is not None:
        return file.rows.partition
    return partition_values(file.location)
