"""Apache Iceberg: the files of a snapshot, its deletes, and which snapshots add rows."""

from collections.abc import Iterator
from typing import Any

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.location import FileInfo
from lightsans.storage.table_formats import TableRows, TableVersion
from lightsans.warehouse.access import file_at, with_sizes
from lightsans.warehouse.catalogs import open_iceberg
from lightsans.warehouse.iceberg_deletes import DataFile, deleted_rows
from lightsans.warehouse.partitions import partition_values

_ADDS, _MOVES = "append", "replace"
_NUMBERS = ("int", "long", "float", "double")
_INSTEAD = "write its newest version to plain parquet files, or rewrite its data files first"


def list_table(address: str, storage: StorageConfig, version: int | None) -> list[FileInfo]:
    """The files of a snapshot of a table, the newest by default; in no certain order.

    Args:
        address: ``CATALOG/namespace.table``, the directory of a table, or one of its
            ``.metadata.json`` files.
        storage: Access to stores.
        version: Id of the snapshot.

    Raises:
        ConfigError: The package that reads such tables is not installed.
        InputError: The table or the snapshot is not there, or has what is not read here.
    """
    found = open_iceberg(address, storage)
    table, opened = found.place, found.opened
    snapshot = opened.current_snapshot() if version is None else opened.snapshot_by_id(version)
    if snapshot is None:
        if version is None:
            return []
        raise InputError(f"{address}: snapshot {version} is not there; it may have expired")
    _refuse_renamed(address, opened)
    data: list[Any] = []
    deletes: list[Any] = []
    for entry in _entries(address, opened, snapshot):
        content = _content(entry)
        kind = entry.data_file.file_format.name
        if kind != "PARQUET" and (content, kind) != ("POSITION_DELETES", "PUFFIN"):
            raise InputError(
                f"{address}: it has {kind} files, and only PARQUET is read; {_INSTEAD}"
            )
        (data if content == "DATA" else deletes).append(entry)
    places = _places(opened)
    # Commits of the first format have no numbers: the order of their snapshots is theirs.
    of_rows = [
        DataFile(entry, int(entry.sequence_number or 0) or places.get(entry.snapshot_id, 0))
        for entry in data
    ]
    deleted = deleted_rows(table, opened, of_rows, deletes)
    pinned = TableVersion(kind="iceberg", uri=found.name, version=snapshot.snapshot_id)
    absent = {field.name: _absent(address, field) for field in opened.schema().fields}
    files = []
    for file, gone in zip(of_rows, deleted, strict=True):
        location = file_at(file.path, table)
        partition = absent | partition_values(location)
        rows = TableRows(pinned, file.commit, partition, gone.astype("<i8").tobytes())
        files.append(FileInfo(location, 0, "", rows))
    return with_sizes(files)


def added_since(address: str, storage: StorageConfig, before: int, after: int) -> set[str] | None:
    """Addresses of files that were added after one snapshot and up to another.

    Returns:
        None where rows were deleted or replaced, or the earlier snapshot has expired or is none of
        the ancestors of the later one.
    """
    found = open_iceberg(address, storage)
    table, opened = found.place, found.opened
    number, adding = after, set[int]()
    while number != before:
        snapshot = opened.snapshot_by_id(number)
        operation = snapshot.summary.operation.value if snapshot and snapshot.summary else None
        if operation not in (_ADDS, _MOVES) or snapshot.parent_snapshot_id is None:
            return None
        if operation == _ADDS:
            adding.add(number)
        number = snapshot.parent_snapshot_id
    if opened.snapshot_by_id(before) is None:
        return None
    entries = _entries(address, opened, opened.snapshot_by_id(after))
    held = [entry for entry in entries if _content(entry) == "DATA"]
    added = {e.data_file.file_path for e in held if e.snapshot_id in adding}
    # Rows that were added and then compacted are in a file with rows of before.
    written = sum(
        int(opened.snapshot_by_id(number).summary.additional_properties.get("added-records", -1))
        for number in adding
    )
    there = sum(e.data_file.record_count for e in held if e.snapshot_id in adding)
    return {file_at(path, table).uri for path in added} if there == written else None


def _entries(address: str, opened: Any, snapshot: Any) -> Iterator[Any]:
    try:
        for manifest in snapshot.manifests(opened.io):
            yield from manifest.fetch_manifest_entry(opened.io, discard_deleted=True)
    except FileNotFoundError as error:
        words = str(error).partition("\n")[0]
        raise InputError(
            f"{address}: snapshot {snapshot.snapshot_id} needs a manifest that is gone: {words}. "
            "Restore it, or name a snapshot that is whole: @vID"
        ) from None


def _content(entry: Any) -> str:
    """DATA, POSITION_DELETES or EQUALITY_DELETES; the first format knows data alone."""
    from pyiceberg.manifest import DataFileContent

    return DataFileContent(entry.data_file.content or 0).name


def _places(opened: Any) -> dict[int, int]:
    """Snapshots by id, numbered from 1 in the order of their commits."""
    ordered = sorted(opened.snapshots(), key=lambda snapshot: int(snapshot.timestamp_ms))
    return {snapshot.snapshot_id: place for place, snapshot in enumerate(ordered, 1)}


def _absent(address: str, field: Any) -> str | None:
    """The value of a column in files that were written before it joined the table: null, mostly.

    Raises:
        InputError: It is a default of a type that files of text do not have.
    """
    default = field.initial_default
    if default is None or isinstance(default, str):
        return default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, (int, float)) and str(field.field_type) in _NUMBERS:
        return str(default)
    raise InputError(
        f"{address}: column {field.name} has the default {default!r} of type {field.field_type} in "
        f"files without it, which is not read here; {_INSTEAD}"
    )


def _refuse_renamed(address: str, opened: Any) -> None:
    """Files have the names that columns had when they were written; ids say which is which."""
    names: dict[int, set[str]] = {}
    ids: dict[str, set[int]] = {}
    for schema in opened.metadata.schemas:
        for field in schema.fields:
            names.setdefault(field.field_id, set()).add(field.name)
            ids.setdefault(field.name, set()).add(field.field_id)
    renamed = [sorted(found) for found in names.values() if len(found) > 1]
    if renamed:
        raise InputError(
            f"{address}: columns were renamed ({' and '.join(renamed[0])} are one), which is not "
            f"read here; {_INSTEAD}"
        )
    again = [name for name, found in ids.items() if len(found) > 1]
    if again:
        raise InputError(
            f"{address}: column {again[0]} was dropped and another one has its name now, which is "
            f"not read here; {_INSTEAD}"
        )
