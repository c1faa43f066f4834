"""The input formats: which file reads which, and which format a file has."""

from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa

from lightsans.config import DataConfig
from lightsans.config.kinds import FORMATS, Format
from lightsans.errors import InputError
from lightsans.reading import csv_files, inter_files, jsonl_files, parquet_files
from lightsans.reading.columns import Found, check_log_types, find_columns, log_columns
from lightsans.reading.input_files import Head, InputFile, readable
from lightsans.reading.text_pieces import COMPRESSIONS
from lightsans.reading.times import clean_timestamps
from lightsans.reading.values import Problems
from lightsans.storage.location import FileInfo, Location

READ_HEAD: Final[Mapping[Format, Callable[[FileInfo, DataConfig], Head]]] = {
    "parquet": parquet_files.read_head,
    "csv": csv_files.read_head,
    "jsonl": jsonl_files.read_head,
    "inter": inter_files.read_head,
}
"""A row for each of `FORMATS`: looks at the columns of a file, and gives the layout that reads."""


def inspect_file(info: FileInfo, data: DataConfig) -> InputFile:
    """Look at a file of a log as far as needed to plan its reading.

    Raises:
        InputError: It is empty or unreadable, a column is missing, or has a type that cannot be
            used.
    """
    file = info.location
    head = read_head(info, data)
    found = find_columns(file, head.names, log_columns(data))
    id_types = check_log_types(file, head, found, data)
    layout = head.layout(found.positions)
    oldest = _least_timestamp(head, found, data)
    return InputFile(info, layout, head.data_start, found.partition, id_types, oldest)


def _least_timestamp(head: Head, found: Found, data: DataConfig) -> int | None:
    """Least time of a file's rows, where ``data.as_of`` may make a difference."""
    at = found.positions.get("timestamp")
    least = None if at is None or data.as_of is None else head.least_value(at)
    if least is None:
        return None
    problems = Problems(1)
    micros = clean_timestamps(pa.array([least.as_py()], least.type), data, problems)
    return int(micros[0].as_py()) if problems.is_valid.all() else None


def read_head(info: FileInfo, data: DataConfig) -> Head:
    """The columns of a file.

    Raises:
        InputError: It is empty or unreadable.
    """
    with readable(info.location):
        return READ_HEAD[format_of(info.location, data)](info, data)


def format_of(file: Location, data: DataConfig) -> Format:
    """The format that the configuration or the file name says.

    Raises:
        InputError: The name says none.
    """
    if data.format != "auto":
        return data.format
    name = file.name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    for kind in FORMATS.values():
        if name.endswith(kind.endings):
            return kind.name
    endings = ", ".join(ending for kind in FORMATS.values() for ending in kind.endings)
    raise InputError(
        f"{file}: the name does not tell the format (it ends with none of {endings}); "
        "set data.format, and data.separator for csv"
    )
