"""Delta Lake: the files of a version, its deletion vectors, and what its log says of commits."""

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.location import FileInfo, Location, locate
from lightsans.storage.table_formats import TableRows, TableVersion
from lightsans.warehouse.access import (
    SIDE_BY_SIDE,
    delta_options,
    file_at,
    require_package,
    with_sizes,
)

_LOG = "_delta_log"
_COMMIT = re.compile(r"(\d{20})\.json")
_TOO_NEW = re.compile(r"[Uu]nsupported|catalog|not supported")
"""Words of the library on features of tables that it does not know."""
_INSTEAD = "; write its newest version to plain parquet files"
_EARLY = -(2**62)
"""Commits whose entry of the log was removed come first, in the order of their time."""


def is_table(directory: Location) -> bool:
    """Whether a directory is a Delta table itself."""
    return bool(directory.filesystem.isdir((directory / _LOG).path))


def list_table(address: str, storage: StorageConfig, version: int | None) -> list[FileInfo]:
    """The files of a version of a table, the newest by default; in no certain order.

    Args:
        address: Directory of the table.
        storage: Access to stores.
        version: Number of the version.

    Raises:
        ConfigError: The package that reads such tables is not installed.
        InputError: The table or the version is not there, or its columns have other names in files.
    """
    table = locate(address, storage)
    opened = open_delta(table, version)
    mode = opened.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise InputError(
            f"{table}: its columns have other names in its files "
            f"(delta.columnMapping.mode={mode}), which is not read here; write its newest version "
            "to plain parquet files"
        )
    number = int(opened.version())
    pinned = TableVersion(kind="delta", uri=table.uri, version=number)
    commits = {
        path: at for at, actions in _commits(table, 0, number) for path in _added_paths(actions)
    }
    deleted = _deleted_rows(opened, table)
    nulls: dict[str, str | None] = {field.name: None for field in opened.schema().fields}
    files = []
    for action in pa.table(opened.get_add_actions()).to_pylist():
        location = file_at(unquote(action["path"]), table)
        commit = commits.get(action["path"], _EARLY + int(action["modification_time"]))
        partition = {name: _text(value) for name, value in (action.get("partition") or {}).items()}
        # Columns that joined the table after a file was written are null in it.
        rows = TableRows(pinned, commit, nulls | partition, deleted.get(location.uri, b""))
        files.append(FileInfo(location, 0, "", rows))
    return with_sizes(files)


def added_since(address: str, storage: StorageConfig, before: int, after: int) -> set[str] | None:
    """Addresses of files that were added after one version and up to another.

    Returns:
        None where rows were deleted, updated or replaced, or the log no longer says it.
    """
    table = locate(address, storage)
    added: set[str] = set()
    seen = 0
    for _, actions in _commits(table, before + 1, after):
        seen += 1
        for action in actions:
            if action.get("remove", {}).get("dataChange", False):
                return None
            if action.get("add", {}).get("dataChange", False):
                added.add(file_at(unquote(action["add"]["path"]), table).uri)
    return added if seen == after - before else None


def open_delta(table: Location, version: int | None) -> Any:
    """A version of a table, the newest by default.

    Raises:
        ConfigError: The package that reads such tables is not installed.
        InputError: The table or the version is not there.
    """
    require_package("Delta", table.uri)
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(table.uri, version=version, storage_options=delta_options(table))
    except (DeltaError, FileNotFoundError, OSError, ValueError, OverflowError) as error:
        which = "" if version is None else f" version {version} of it, which may be vacuumed,"
        words = str(error).partition("\n")[0].partition(": ParsedLogPath")[0]
        hint = ""
        if version is None and "@" in table.name:
            hint = "; a version is named by its number: @v3"
        elif _TOO_NEW.search(words):
            hint = _INSTEAD
        raise InputError(
            f"{table}:{which} cannot be read as a Delta table: {words}{hint}"
        ) from None


def _deleted_rows(opened: Any, table: Location) -> dict[str, bytes]:
    """Numbers of the rows that deletion vectors take out, by file."""
    if "deletionVectors" not in (opened.protocol().reader_features or ()):
        return {}
    from deltalake.exceptions import DeltaError

    try:
        batches = opened.deletion_vectors()
    except DeltaError as error:  # a feature beside it, which reading the files does not need
        raise InputError(
            f"{table}: its deletion vectors cannot be read: {error}{_INSTEAD}"
        ) from None
    deleted = {}
    for batch in batches:
        read = pa.record_batch(batch)
        for name, kept in zip(*(read.column(index) for index in (0, 1)), strict=True):
            mask = kept.values.to_numpy(zero_copy_only=False)
            uri = file_at(unquote(name.as_py()), table).uri
            deleted[uri] = np.flatnonzero(~mask).astype("<i8").tobytes()
    return deleted


def _commits(
    table: Location, first: int, last: int
) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """Files that the entries of the log that are still there add and remove, in order."""
    found = [(_COMMIT.fullmatch(name), name) for name in (table / _LOG).children()]
    names = {int(match[1]): name for match, name in found if match}
    numbers = sorted(number for number in names if first <= number <= last)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        read = pool.map(lambda number: _changes(table / _LOG / names[number]), numbers)
        yield from zip(numbers, read, strict=True)


def _changes(entry: Location) -> list[Mapping[str, Any]]:
    """Files that an entry adds and removes, without their statistics."""
    actions = (json.loads(line) for line in entry.read_bytes().splitlines() if line.strip())
    return [
        {kind: {"path": each["path"], "dataChange": each.get("dataChange", False)}}
        for action in actions
        for kind, each in action.items()
        if kind in ("add", "remove")
    ]


def _added_paths(actions: list[Mapping[str, Any]]) -> Iterator[str]:
    return (action["add"]["path"] for action in actions if "add" in action)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
