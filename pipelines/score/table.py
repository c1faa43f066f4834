"""A finished run in a table of a warehouse: files written by tasks, then one commit.

Whoever comes again, after a crash or with the same command, finds the commit and does nothing.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.config import RunConfig
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, RunFile, RunManifest
from lightsans.storage.manifests import read_manifest
from lightsans.warehouse.output import (
    RunKey,
    TableFile,
    TableOutput,
    table_schema,
    write_table_file,
)
from lightsans.warehouse.tables import open_output
from pipelines.console.progress import say
from pipelines.publish import moment_of_dataset, require_complete
from pipelines.session.ray_session import ensure_ray
from pipelines.session.stage import own
from pipelines.session.tasks import remote, run_tasks

_PARTITIONS = {"source": pa.string(), "rank": pa.int32()}


def write_to_table(config: RunConfig, run_id: str) -> None:
    """Commit a finished run to the table of ``score.table``, if one is asked for, once.

    Args:
        config: The run.
        run_id: The run.

    Raises:
        ConfigError: The table has other columns, or cannot be written to.
        NotFoundError: The run is not finished.
    """
    uri, mode = config.score.table.uri, config.score.table.mode
    if uri is None:
        return
    root = locate(config.root, config.storage)
    run = root / "recommendations" / run_id
    manifest = require_complete(run)
    key, table = RunKey.of(manifest), open_output(uri, config.storage)
    if table.has(key, mode):
        say(f"score: {uri} has run {run_id}")
        return
    with own(run, root, stage="score", kind="run") as (owner, _):
        files = [file for part in manifest.parts for file in part.files]
        schema = _schema(run, files, manifest)
        directory = table.begin(key, schema)
        written = _write_files(config, run, manifest, table, key, schema, directory)
        owner.require()
        table.commit(key, mode, schema, written)
    rows = sum(file.rows for file in written)
    how = "added to" if mode == "append" else "are all there is in"
    say(f"score: {rows:,} rows of run {run_id} {how} {uri}")


def _schema(run: Location, files: Sequence[RunFile], manifest: RunManifest) -> pa.Schema:
    column: str | None = manifest.settings.get("partition_by")
    # A part without rows has no directory, and the column in its file.
    file = next((f for f in files if f.path.startswith(f"{column}=")), files[0])
    with (run / file.path).open() as opened:
        schema = pq.read_schema(opened)
    lacks = column is not None and column not in schema.names
    return table_schema(schema, {column: _PARTITIONS[column]} if column and lacks else {})


def _write_files(
    config: RunConfig,
    run: Location,
    manifest: RunManifest,
    table: TableOutput,
    key: RunKey,
    schema: pa.Schema,
    directory: Location,
) -> list[TableFile]:
    """Write the rows of all files of a run, as tasks; files without rows have none."""
    datasets = locate(config.root, config.storage) / "datasets"
    dataset = read_manifest(DatasetManifest, datasets / manifest.dataset_id)
    as_of = None if dataset is None else moment_of_dataset(dataset)
    files = [file for part in manifest.parts for file in part.files if file.rows]
    if not files:
        return []
    if directory.is_local:
        directory.require_directory()
    ensure_ray(config.resources.memory_bytes)
    write = remote(
        partial(
            _write_file,
            run=run,
            directory=directory,
            key=key,
            schema=table.file_schema(schema),
            constants=key.columns(as_of),
        )
    )
    written: list[TableFile] = list(run_tasks(write.remote, files, "score: table"))
    return sorted(written, key=lambda file: file.location.name)


def _write_file(
    file: RunFile,
    *,
    run: Location,
    directory: Location,
    key: RunKey,
    schema: pa.Schema,
    constants: dict[str, Any],
) -> TableFile:
    column, is_partition, value = file.path.rpartition("/")[0].partition("=")
    if is_partition:
        constants = {**constants, column: int(value) if column == "rank" else value}
    target = directory / key.file_name(file.path)
    return write_table_file(run / file.path, target, schema, constants)
