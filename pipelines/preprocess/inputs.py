"""Files that a dataset is made of: those that ``data.input`` lists, without partitions to come.

Where there is a base: those that it was not made of, and rows that came to its tables since.
"""

import re
from collections.abc import Collection, Sequence

from lightsans.conditions import columns_of, parse_condition
from lightsans.config import DataConfig, RunConfig, StorageConfig
from lightsans.errors import ConfigError, InputError
from lightsans.reading.times import parse_moment
from lightsans.storage.location import FileInfo, Location, locate
from lightsans.storage.manifest_kinds import InputFile
from lightsans.storage.table_formats import TableVersion
from lightsans.warehouse.partitions import partition_values, partitions_of
from lightsans.warehouse.tables import added_since, list_log_inputs, tables_of
from pipelines.console.progress import say
from pipelines.preprocess.base import ANEW, Base

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


def new_rows(base: Base, files: Sequence[FileInfo]) -> list[FileInfo] | None:
    """Select the files with rows that a base lacks; None where it has rows that are gone since.

    Raises:
        InputError: As `new_files`.
    """
    chosen = {f.location.uri for f in new_files(base, [f for f in files if f.rows is None])}
    before = {table.uri: table for table in base.manifest.tables or ()}
    for table in tables_of(files):
        added: Sequence[FileInfo] | None = [f for f in files if f.rows and f.rows.table == table]
        if table.uri in before:
            added = added_since(table, before[table.uri], files)
        if added is None:
            say(
                f"preprocess: {table.uri} has lost or changed rows since its version "
                f"{before[table.uri].version}, which dataset {base.location.name} has, or does not "
                "say any more: everything is read anew"
            )
            return None
        chosen.update(file.location.uri for file in added)
    return [file for file in files if file.location.uri in chosen]


def new_files(base: Base, files: Sequence[FileInfo]) -> list[FileInfo]:
    """Select the files that a base was not made of, in their order.

    A file with the size and the etag of a listed one is that file under another address, and adds
    nothing, unless its directories give its rows other values: a day or a shop. The time of a local
    file serves as its etag; one of whole seconds says too little, so that the name must agree, too.

    Raises:
        InputError: A file that it was made of has changed since, or cannot be told from a new one.
    """
    entries = base.manifest.input
    by_uri = {entry.uri: entry for entry in entries}
    names = _columns_of(base)
    by_content = {_content_key(e.uri, e.size, e.etag, names): e for e in entries}
    by_name = {(_name(e.uri), e.size, _values(e.uri, names)): e for e in entries}
    added, moved = [], []
    for file in files:
        uri, entry = file.location.uri, by_uri.get(file.location.uri)
        if entry is not None:
            _check_same(base, file, entry)
            continue
        key = _content_key(uri, file.size, file.etag, names)
        earlier = by_content.get(key) if file.etag else None
        if earlier is not None:
            moved.append((earlier.uri, uri))
            continue
        suspect = by_name.get((_name(uri), file.size, _values(uri, names)))
        if suspect is not None and not locate(suspect.uri, file.location.storage).exists():
            raise InputError(
                f"{file.location}: dataset {base.location.name} was made of {suspect.uri}, "
                f"which is gone and had the same name and {file.size:,} bytes. A moved log would "
                "count twice, and its etag does not say whether it is one. If it is, move it so "
                "that its time stays (mv, cp -p, rsync -t), take it out of data.input, or "
                f"{ANEW}; if it is not, give it another name"
            )
        added.append(file)
    if moved:
        (old, new), count = moved[0], len(moved)
        say(
            f"preprocess: {count:,} files lie elsewhere since dataset {base.location.name} was "
            f"made of them and are not added again: {old} is now {new}"
        )
    return added


def _check_same(base: Base, file: FileInfo, entry: InputFile) -> None:
    if (file.size, file.etag) != (entry.size, entry.etag):
        raise InputError(
            f"{file.location}: the file changed since dataset {base.location.name} was made of "
            f"it: {entry.size:,} bytes with etag {entry.etag} then, {file.size:,} with "
            f"{file.etag} now. A base holds the old rows; to read everything "
            f"anew, {ANEW}, or restore the file"
        )


def _columns_of(base: Base) -> set[str]:
    """Names of the columns that a base was read by."""
    data = base.manifest.data
    where = data.get("where")
    named = [*data.get("columns", {}).values()]
    named += columns_of(parse_condition(where, "data.where")) if where else []
    return {str(name) for name in named if name is not None}


def _content_key(uri: str, size: int, etag: str, names: Collection[str]) -> tuple[object, ...]:
    """Key that files of the same rows share, as far as size, etag and directories say it."""
    is_whole_second = etag.isdecimal() and etag.endswith("0" * 9)
    return (_name(uri) if is_whole_second else "", size, etag, _values(uri, names))


def _values(uri: str, names: Collection[str]) -> tuple[tuple[str, str | None], ...]:
    """Values that the directories of a file give to some columns."""
    found = partition_values(Location(uri, StorageConfig()))
    return tuple(sorted((name, value) for name, value in found.items() if name in names))


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def input_entries(base: Base | None, files: Sequence[FileInfo]) -> tuple[InputFile, ...]:
    """The list of input files for a manifest: those of the base, then the new ones."""
    listed = (
        InputFile(
            uri=file.location.uri,
            size=file.size,
            etag=file.etag,
            deleted=(file.rows.fingerprint or None) if file.rows else None,
        )
        for file in files
    )
    return (*(base.manifest.input if base is not None else ()), *listed)


def input_tables(base: Base | None, files: Sequence[FileInfo]) -> tuple[TableVersion, ...] | None:
    """The tables for a manifest: those listed now, and others of the base."""
    tables = {} if base is None else {t.uri: t for t in base.manifest.tables or ()}
    tables.update({table.uri: table for table in tables_of(files)})
    return tuple(tables.values()) or None
