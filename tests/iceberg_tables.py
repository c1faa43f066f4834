"""Iceberg tables of a few rows in a catalog of their own, and looks at them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from lightsans.config import StorageConfig
from lightsans.storage.table_formats import TableVersion
from lightsans.warehouse.tables import added_since, list_table_or_files, tables_of
from tests.logs_on_disk import read_log, rows

STORAGE = StorageConfig()


@contextmanager
def new_table(place: Path) -> Iterator[Table]:
    """An empty table ``shop.log``, whose files lie below a directory."""
    catalog = SqlCatalog("c", uri=f"sqlite:///{place}/c.db", warehouse=f"file://{place}")
    catalog.create_namespace("shop")
    yield catalog.create_table("shop.log", schema=rows(0).schema)
    catalog.close()


def directory(table: Table) -> str:
    return str(table.location()).removeprefix("file://")


def address(table: Table) -> str:
    return f"iceberg://{directory(table)}"


def items(name: str) -> list[str]:
    return sorted(item for _, item, _ in read_log(name).rows)


def snapshot(table: Table) -> int:
    found = table.current_snapshot()
    assert found is not None
    return found.snapshot_id


def new_files(table: Table, before: int) -> list[str] | None:
    files = list_table_or_files(address(table), STORAGE)
    [now] = tables_of(files)
    earlier = TableVersion(kind="iceberg", uri=directory(table), version=before)
    added = added_since(now, earlier, files)
    return None if added is None else [file.location.uri for file in added]


def change_metadata(table: Table, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the newest metadata file as a writer of another format would have written it."""
    newest = max(Path(directory(table)).glob("metadata/*.metadata.json"))
    metadata = json.loads(newest.read_text())
    change(metadata)
    newest.write_text(json.dumps(metadata))


def make_third(metadata: dict[str, Any]) -> None:
    metadata.update({"format-version": 3, "next-row-id": 8})
    for each in metadata["snapshots"]:
        each["first-row-id"] = 0
