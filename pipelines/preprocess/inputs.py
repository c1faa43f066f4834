"""Files that a dataset is made of: those that ``data.input`` lists, without partitions to come."""

import re

from lightsans.config import DataConfig, RunConfig
from lightsans.errors import ConfigError, InputError
from lightsans.reading.times import parse_moment
from lightsans.storage.location import FileInfo
from lightsans.warehouse.partitions import partitions_of
from lightsans.warehouse.tables import list_log_inputs
from pipelines.console.progress import say

_SHORT_TIME = re.compile(r"(\d{4})-?(?:(\d{2})-?(?:(\d{2})(?:[-_ T]?(\d{2}))?)?)?")
"""2026, 2026-01, 2026-01-31, 2026-01-31-05, and the same without hyphens."""


def list_log(config: RunConfig, as_of: int | None) -> list[FileInfo]:
    """The files of a log, in the order that breaks ties; what is left out is said.

    Args:
        config: The run; ``data`` says the patterns and which partition is the time of its events.
        as_of: Partitions from this time on, in microseconds, are left out.

    Raises:
        ConfigError: ``data.partition_time`` names a partition that no file has.
        InputError: A pattern matches nothing, or a partition is no time.
    """
    data = config.data
    if not data.input and data.base is None:
        raise ConfigError("data.input is empty; name files, directories or globs")
    listing = list_log_inputs(data.input, config.storage)
    for note in listing.notes("data.input"):
        say(f"preprocess: {note}")
    files = listing.files
    if data.partition_time is None or not files:
        return files
    starts = partition_starts(files, data)
    kept = [
        file
        for file, start in zip(files, starts, strict=True)
        if as_of is None or start is None or start < as_of or file.rows is not None
    ]
    if len(kept) < len(files):
        say(
            f"preprocess: {len(files) - len(kept):,} files are left out: their partitions "
            f"{data.partition_time} begin at data.as_of={data.as_of} or later"
        )
    return kept


def partition_starts(files: list[FileInfo], data: DataConfig) -> list[int | None]:
    """Begin of the partition of each file; None for a file whose partition is missing.

    Raises:
        ConfigError: No file has such a partition.
        InputError: One is no time.
    """
    name = str(data.partition_time)
    values = [partitions_of(file) for file in files]
    if not any(name in found for found in values):
        known = sorted({partition for found in values for partition in found})
        raise ConfigError(
            f"data.partition_time={name}: no file of data.input lies in a directory {name}=…; "
            f"found {', '.join(known) or 'no partitions'}"
        )
    starts: dict[str, int] = {}
    for file, found in zip(files, values, strict=True):
        value = found.get(name)
        if value is None or value in starts:
            continue
        start = _start_of(value, data.timezone)
        if start is None:
            raise InputError(
                f"{file.location}: partition {name}={value} (data.partition_time) is no date or "
                "time; expected one such as 2026-01-31, 20260131 or 2026-01-31-05"
            )
        starts[value] = start
    return [None if (value := found.get(name)) is None else starts[value] for found in values]


def _start_of(value: str, timezone: str) -> int | None:
    short = _SHORT_TIME.fullmatch(value)
    if short is None:
        return parse_moment(value, timezone)
    year, month, day, hour = short.groups()
    return parse_moment(f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:00:00", timezone)
