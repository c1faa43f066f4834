"""Directories that are tables of a warehouse, whose files are not all rows of the table.

Such a directory also holds files that the newest version of the table no longer has: rows that were
deleted, replaced or compacted. A reader of a table format takes its directories before their files
are listed as data; until there is one, they are refused.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lightsans.errors import InputError


@dataclass(frozen=True, slots=True)
class TableFormat:
    """A way in which a directory says that it is a table."""

    name: str
    log: re.Pattern[str]
    """Matches, in its first group, the table in the path of a file of its log."""


TABLE_FORMATS: Final = (
    TableFormat("a Delta Lake", re.compile(r"(.*?)/?_delta_log/[^/]+\.(json|parquet|crc)")),
    TableFormat("an Iceberg", re.compile(r"(.*?)/?metadata/[^/]+\.metadata\.json(\.gz)?")),
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
    where = f"its directory {directory!r} is" if directory else "this is"
    raise InputError(
        f"{pattern}: {where} {kind.name} table, whose directory also holds files with rows that "
        "were deleted or replaced; have its newest version written to plain parquet files, and "
        "name their directory (a glob such as DIR/*.parquet reads every file as it is)"
    )
