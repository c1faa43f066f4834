"""The input formats: which file reads which, and which format a file has."""

from collections.abc import Callable, Mapping
from typing import Final

from lightsans.config import DataConfig
from lightsans.config.kinds import FORMATS, Format
from lightsans.errors import InputError
from lightsans.reading import csv_files, inter_files, jsonl_files, parquet_files
from lightsans.reading.input_files import InputFile, readable
from lightsans.reading.text_pieces import COMPRESSIONS
from lightsans.storage.location import FileInfo, Location

INSPECT: Final[Mapping[Format, Callable[[FileInfo, DataConfig], InputFile]]] = {
    "parquet": parquet_files.inspect,
    "csv": csv_files.inspect,
    "jsonl": jsonl_files.inspect,
    "inter": inter_files.inspect,
}
"""A row for each of `FORMATS`: looks at a file and gives it the layout that reads it."""


def inspect_file(info: FileInfo, data: DataConfig) -> InputFile:
    """Look at a file as far as needed to plan its reading.

    Raises:
        InputError: It is empty or unreadable, a column is missing, or has a type that cannot be
            used.
    """
    with readable(info.location):
        return INSPECT[format_of(info.location, data)](info, data)


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
