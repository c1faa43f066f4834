"""Runs by hand for tables that runs are written to, committed as scoring does."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.config.kinds import TableMode
from lightsans.storage.location import Location
from lightsans.storage.schemas import recommendations_schema
from lightsans.warehouse.output import (
    RunKey,
    TableFile,
    TableOutput,
    table_schema,
    write_table_file,
)
from tests.factories import local

NIGHT = datetime(2026, 11, 27, tzinfo=UTC)


def key_of(run_id: str, made: int = 1, digest: str = "abc") -> RunKey:
    return RunKey(run_id, made, digest)


def run_rows(*users: str) -> pa.Table:
    """Wide rows: the lists of ``ann`` are ``ann1`` and ``ann2``."""
    columns = {
        "user_id": list(users),
        "item_ids": [[f"{user}1", f"{user}2"] for user in users],
        "scores": [[2.0, 1.0] for _ in users],
        "source": ["model" for _ in users],
    }
    return pa.table(columns, schema=recommendations_schema(pa.string(), pa.string()))


def write_files(
    directory: Path, table: TableOutput, key: RunKey, rows: pa.Table
) -> tuple[pa.Schema, list[TableFile]]:
    """The file of a run's only part, in the table's directory and not committed."""
    run = directory / f"run-{key.run_id}-{key.digest}"
    run.mkdir(exist_ok=True)
    pq.write_table(rows, run / "part-00000.parquet")
    schema = table_schema(rows.schema, {})
    target: Location = table.begin(key, schema) / key.file_name("part-00000.parquet")
    if target.is_local:
        target.parent.require_directory()
    source = local(run / "part-00000.parquet")
    return schema, [write_table_file(source, target, table.file_schema(schema), key.columns(NIGHT))]


def commit(
    directory: Path, table: TableOutput, key: RunKey, mode: TableMode, rows: pa.Table
) -> None:
    """Write a run to a table unless it is there, as scoring does."""
    if not table.has(key, mode):
        schema, files = write_files(directory, table, key, rows)
        table.commit(key, mode, schema, files)
