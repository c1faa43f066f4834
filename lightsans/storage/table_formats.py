"""Directories that are tables of a warehouse, whose files are not all rows of the table.

Such a directory also holds files that the newest version of the table no longer has: rows that were
deleted, replaced or compacted. `lightsans.warehouse` reads them by their addresses; plain listings
refuse them.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lightsans.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class TableVersion:
    """A version of a table, in the words of its manifest entry."""

    kind: str
    """``delta`` or ``iceberg``."""
    uri: str
    """Its directory."""
    version: int
    """Delta's version, or the id of Iceberg's snapshot."""

    @property
    def address(self) -> str:
        """Address of this version in ``data.input``."""
        return f"{self.kind}://{self.uri}@v{self.version}"


@dataclass(frozen=True, slots=True)
class TableRows:
    """Statements of a table about one of its files."""

    table: TableVersion
    commit: int
    """Place of the commit that added it among those of the table."""
    partition: Mapping[str, str | None] | None
    """Columns that the file lacks and the table has; None: those that its directories name."""
    deleted: bytes = b""
    """Numbers of its rows that were deleted: sorted 64-bit integers, little-endian."""

    @property
    def fingerprint(self) -> str:
        """Digest of the deleted rows; empty where there are none."""
        return hashlib.sha256(self.deleted).hexdigest()[:16] if self.deleted else ""


@dataclass(frozen=True, slots=True)
class TableFormat:
    """A way in which a directory says that it is a table."""

    name: str
    log: re.Pattern[str]
    """Matches, in its first group, the table in the path of a file of its log."""
    scheme: str = ""
    """Begins the address under which its newest version is read, if it is."""


TABLE_FORMATS: Final = (
    TableFormat(
        "a Delta Lake", re.compile(r"(.*?)/?_delta_log/[^/]+\.(json|parquet|crc)"), "delta"
    ),
    TableFormat(
        "an Iceberg", re.compile(r"(.*?)/?metadata/[^/]+\.metadata\.json(\.gz)?"), "iceberg"
    ),
    TableFormat("a Hudi", re.compile(r"(.*?)/?\.hoodie/.+")),
)


def find_table(paths: Iterable[str]) -> tuple[TableFormat, str] | None:
    """The format and the directory of the first table among some paths of files, if any."""
    for path in paths:
        for kind in TABLE_FORMATS:
            found = kind.log.fullmatch(path.strip("/"))
            if found:
                return kind, found[1]
    return None


def refuse_tables(pattern: str, below: Iterable[str]) -> None:
    """Refuse a directory that is a table of a warehouse, or holds one.

    Args:
        pattern: The directory, or a glob.
        below: Paths of the files that were found, below it.

    Raises:
        InputError: The message says the way out.
    """
    table = find_table(below)
    if table is None:
        return
    kind, directory = table
    address = f"{kind.scheme}://{pattern.rstrip('/')}{'/' if directory else ''}{directory}"
    way_out = f"name it as {address}, or have" if kind.scheme and "*" not in pattern else "have"
    where = f"its directory {directory!r} is" if directory else "this is"
    raise InputError(
        f"{pattern}: {where} {kind.name} table, whose directory also holds files with rows that "
        f"were deleted or replaced; {way_out} its newest version written to plain parquet files, "
        "and name their directory (a glob such as DIR/*.parquet reads every file as it is)"
    )
