"""Addresses of tables, the files of one version, and what came to a table since another version.

``delta://DIR`` and ``iceberg://DIR`` name a table's directory, on a disk or a store
(``delta://s3://bucket/log``), ``iceberg://CATALOG/namespace.table`` a table of a catalog; ``@vN``
at the end names a version. A directory that is a Delta table
is read as one. The order of a table's files is that of their commits, then of their paths.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.listing import InputListing, list_files, list_inputs
from lightsans.storage.location import FileInfo, Location, locate
from lightsans.storage.table_formats import TableVersion
from lightsans.warehouse import delta, iceberg
from lightsans.warehouse.catalogs import is_catalog_name, open_iceberg
from lightsans.warehouse.catalogs import is_table as is_iceberg_table
from lightsans.warehouse.delta_output import DeltaOutput
from lightsans.warehouse.iceberg_output import IcebergOutput
from lightsans.warehouse.output import TableOutput

_ADDRESS = re.compile(r"((?i:delta|iceberg))://(.+?)(?:@v(\d+))?/?")
_ROOM: dict[str, Any] = {"delta": delta, "iceberg": iceberg}


def list_log_inputs(patterns: Iterable[str], storage: StorageConfig) -> InputListing:
    """`list_inputs`, with tables as their files.

    Raises:
        InputError: A pattern matches nothing, or a table cannot be read.
        ConfigError: The package that reads the table is not installed.
    """
    return list_inputs(patterns, storage, list_table_or_files)


def list_table_or_files(pattern: str, storage: StorageConfig) -> list[FileInfo]:
    """The files of a table, in the order of commits; of anything else as `list_files` has them."""
    found = _ADDRESS.fullmatch(pattern)
    if found is None:
        location = locate(pattern, storage)
        if not delta.is_table(location):
            _refuse_partition(location)
            return list_files(pattern, storage)
        return _checked(pattern, delta.list_table(pattern, storage, None))
    kind, directory, version = found[1].lower(), found[2], found[3]
    if not directory.strip():
        name = "Delta" if kind == "delta" else "Iceberg"
        raise InputError(f"{pattern!r} names no {name} table; expected a directory after {kind}://")
    number = int(version) if version else None
    listed: list[FileInfo] = _ROOM[kind].list_table(directory, storage, number)
    return _checked(pattern, listed)


def path_in(address: str) -> str | None:
    """The path behind ``delta://`` or ``iceberg://``; None for a table of a catalog."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return address
    in_catalog = found[1].lower() == "iceberg" and is_catalog_name(found[2])
    return None if in_catalog else found[2]


def table_directory(pattern: str, storage: StorageConfig) -> Location | None:
    """The directory of all versions of a table; None where an address names no table.

    Raises:
        InputError: A table of Iceberg cannot be read.
        ConfigError: The package that reads it is not installed.
    """
    found = _ADDRESS.fullmatch(pattern)
    if found is None:
        location = locate(pattern, storage)
        return location if delta.is_table(location) else None
    kind, address = found[1].lower(), found[2]
    if kind == "delta":
        return locate(address, storage)
    place = open_iceberg(address, storage).place
    return place.parent.parent if ".metadata.json" in place.name else place


def tables_of(files: Iterable[FileInfo]) -> list[TableVersion]:
    """The tables that files belong to, each once."""
    return list(dict.fromkeys(file.rows.table for file in files if file.rows is not None))


def pinned_inputs(files: Iterable[FileInfo]) -> tuple[str, ...]:
    """Addresses that stand for these files from now on: of files, and of versions of tables."""
    addresses = (f.location.uri if f.rows is None else f.rows.table.address for f in files)
    return tuple(dict.fromkeys(addresses))


def added_since(
    table: TableVersion, before: TableVersion, files: Sequence[FileInfo]
) -> list[FileInfo] | None:
    """The files of a table with rows that an earlier version lacks.

    Compaction writes rows into other files: these are not among them.

    Args:
        table: The newer version.
        before: The earlier one.
        files: Files of the newer one.

    Returns:
        None where rows were deleted or changed, or where it cannot be told any more.
    """
    if table.version == before.version:
        return []
    own = [file for file in files if file.rows is not None and file.rows.table == table]
    if not own:
        return None
    names: set[str] | None = _ROOM[table.kind].added_since(
        table.uri, own[0].location.storage, before.version, table.version
    )
    if names is None or not names <= {file.location.uri for file in own}:
        return None  # rows that came and were compacted since are in files with others
    added = [file for file in own if file.location.uri in names]
    return None if any(file.rows and file.rows.deleted for file in added) else added


def open_output(uri: str, storage: StorageConfig) -> TableOutput:
    """The table that an address names, to write runs to; it need not be there yet.

    Raises:
        ConfigError: The package that writes it is not installed, or there is no such catalog.
    """
    scheme, _, rest = uri.partition("://")
    return (DeltaOutput if scheme == "delta" else IcebergOutput)(uri, rest, storage)


def _refuse_partition(location: Location) -> None:
    """Refuse a directory within a table: the table's metadata says which of its files count."""
    above, kind = location, None
    while "=" in above.name and kind is None:
        above = above.parent
        kind = "delta" if delta.is_table(above) else None
    if kind is None and above.name == "data" and is_iceberg_table(above.parent):
        above, kind = above.parent, "iceberg"
    if kind is not None:
        raise InputError(
            f"{location}: this is within the {kind} table {above}, whose metadata says which of "
            f"its files count; name {kind}://{above}, and a partition in data.where "
            f"(a glob such as {location.name}/*.parquet reads every file as it is)"
        )


def _checked(pattern: str, files: list[FileInfo]) -> list[FileInfo]:
    if not files:
        raise InputError(f"{pattern}: this version of the table has no rows")
    return sorted(files, key=_place)


def _place(file: FileInfo) -> tuple[int, bytes]:
    assert file.rows is not None
    return file.rows.commit, file.location.uri.encode()
