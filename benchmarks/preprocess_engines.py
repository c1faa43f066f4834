"""The engines that `benchmarks.preprocess` compares; each is run in a process of its own.

    python -m benchmarks.preprocess_engines ENGINE OUTPUT FILE…

All of them read the files, keep ratings from 3 on, iterate the 5-core to its end, number items by
falling count (ties by id), and write one row per user: items and times in order of (time, place in
the input). The last line is a JSON object: seconds of the work and of starting up, what came out.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

LEAST_RATING, LEAST = 3, 5
THREADS = 2
MEMORY_BYTES = 3 * 2**30
"""The budget that ours has: ``resources.memory_bytes``."""


def ours(output: Path, files: Sequence[str]) -> dict[str, Any]:
    """The stage ``preprocess``, which also writes interactions, rejects, a report and manifest."""
    from lightsans.config import DataConfig, ResourcesConfig, RunConfig
    from pipelines.preprocess.stage import run_preprocess
    from pipelines.session.ray_session import ensure_ray

    started = time.perf_counter()
    ensure_ray(MEMORY_BYTES)
    start_s = time.perf_counter() - started
    data = DataConfig(
        input=tuple(files),
        min_rating=LEAST_RATING,
        min_user_interactions=LEAST,
        min_item_interactions=LEAST,
    )
    started = time.perf_counter()
    resources = ResourcesConfig(memory_bytes=MEMORY_BYTES)
    result = run_preprocess(RunConfig(root=str(output), data=data, resources=resources))
    manifest = result.manifest
    return {
        "seconds": time.perf_counter() - started,
        "start_s": start_s,
        "users": manifest.trainable_users,
        "items": manifest.items,
        "interactions": manifest.rows.left["after_k_core"],
        "rounds": manifest.k_core_rounds,
        "written": str(Path(result.location.path) / "sequences"),
    }


def incremental(output: Path, files: Sequence[str]) -> dict[str, Any]:
    """The last file added to a dataset of the others, which is made first and timed apart."""
    base = ours(output, files[:-1])
    from lightsans.config import DataConfig, RunConfig
    from pipelines.preprocess.stage import run_preprocess

    data = DataConfig(
        input=tuple(files),
        base=Path(base["written"]).parent.name,
        min_rating=LEAST_RATING,
        min_user_interactions=LEAST,
        min_item_interactions=LEAST,
    )
    started = time.perf_counter()
    result = run_preprocess(RunConfig(root=str(output), data=data))
    return {
        **base,
        "seconds": time.perf_counter() - started,
        "full_s": base["seconds"],
        "users": result.manifest.trainable_users,
        "items": result.manifest.items,
        "written": str(Path(result.location.path) / "sequences"),
    }


def polars(output: Path, files: Sequence[str]) -> dict[str, Any]:
    """Strings become numbers first; then semi-joins on counts until nothing changes."""
    started = time.perf_counter()
    import polars as pl

    start_s = time.perf_counter() - started
    started = time.perf_counter()
    rows = (
        pl.scan_parquet(list(files), row_index_name="place")
        .filter(pl.col("rating") >= LEAST_RATING)
        .select(
            pl.col("user_id").cast(pl.Categorical),
            pl.col("item_id").cast(pl.Categorical),
            "timestamp",
            "place",
        )
        .collect()
    )
    rows = rows.with_columns(
        user=pl.col("user_id").to_physical(), item=pl.col("item_id").to_physical()
    )
    height, rounds = -1, 0
    while rows.height != height:
        height, rounds = rows.height, rounds + 1
        kept = [
            rows.group_by(name).len().filter(pl.col("len") >= LEAST).select(name)
            for name in ("user", "item")
        ]
        rows = rows.join(kept[0], on="user", how="semi").join(kept[1], on="item", how="semi")
    items = (
        rows.group_by("item")
        .agg(pl.len().alias("count"), pl.col("item_id").first().cast(pl.String))
        .sort(["count", "item_id"], descending=[True, False])
        .with_row_index("id", offset=1)
    )
    sequences = (
        rows.join(items.select("item", pl.col("id").cast(pl.Int32)), on="item")
        .sort("user", "timestamp", "place")
        .group_by("user", maintain_order=True)
        .agg(pl.col("user_id").first().cast(pl.String), "id", "timestamp")
        .select("user_id", item_ids="id", timestamps="timestamp")
    )
    sequences.write_parquet(output / "part.parquet", compression="zstd", compression_level=1)
    return {
        "seconds": time.perf_counter() - started,
        "start_s": start_s,
        "users": sequences.height,
        "items": items.height,
        "interactions": rows.height,
        "rounds": rounds,
        "written": str(output),
    }


def duckdb(output: Path, files: Sequence[str]) -> dict[str, Any]:
    """Tables in memory; users and items with too few rows are deleted until none is left."""
    started = time.perf_counter()
    import duckdb as engine

    database = engine.connect()
    database.execute(f"SET threads={THREADS}")
    database.execute("SET preserve_insertion_order=false")
    start_s = time.perf_counter() - started
    started = time.perf_counter()

    def run(query: str) -> int:
        found = database.execute(query).fetchone()
        return int(found[0]) if found and found[0] is not None else 0

    run(
        f"CREATE TABLE log AS SELECT user_id, item_id, timestamp, filename AS file, "
        f"file_row_number AS row FROM read_parquet({list(files)!r}, filename=true, "
        f"file_row_number=true) WHERE rating >= {LEAST_RATING}"
    )
    run(
        "CREATE TABLE users AS SELECT user_id, row_number() OVER () AS u FROM "
        "(SELECT DISTINCT user_id FROM log)"
    )
    run(
        "CREATE TABLE items AS SELECT item_id, row_number() OVER () AS i FROM "
        "(SELECT DISTINCT item_id FROM log)"
    )
    run(
        "CREATE TABLE rows AS SELECT u, i, timestamp, file, row FROM log "
        "JOIN users USING (user_id) JOIN items USING (item_id)"
    )
    run("DROP TABLE log")
    height, rounds = -1, 0
    while height != (height := run("SELECT count(*) FROM rows")):
        rounds += 1
        run(
            f"CREATE OR REPLACE TABLE rows AS SELECT * FROM rows "
            f"WHERE u IN (SELECT u FROM rows GROUP BY u HAVING count(*) >= {LEAST}) "
            f"AND i IN (SELECT i FROM rows GROUP BY i HAVING count(*) >= {LEAST})"
        )
    run(
        "CREATE TABLE numbered AS SELECT i, row_number() OVER (ORDER BY n DESC, item_id) AS id "
        "FROM (SELECT i, count(*) AS n FROM rows GROUP BY i) JOIN items USING (i)"
    )
    run(
        "COPY (SELECT user_id, item_ids, timestamps FROM (SELECT u, "
        "list(id::INTEGER ORDER BY timestamp, file, row) AS item_ids, "
        "list(timestamp ORDER BY timestamp, file, row) AS timestamps "
        "FROM rows JOIN numbered USING (i) GROUP BY u) JOIN users USING (u)) "
        f"TO '{output / 'part.parquet'}' (FORMAT parquet, COMPRESSION zstd)"
    )
    return {
        "seconds": time.perf_counter() - started,
        "start_s": start_s,
        "users": run("SELECT count(DISTINCT u) FROM rows"),
        "items": run("SELECT count(*) FROM numbered"),
        "interactions": height,
        "rounds": rounds,
        "written": str(output),
    }


def ray_data(output: Path, files: Sequence[str]) -> dict[str, Any]:
    """The bound: no k-core, no vocabulary, no checks; Ray Data's reader, exchange and writer."""
    from pipelines.session.ray_session import ensure_ray

    started = time.perf_counter()
    ensure_ray()
    import ray.data
    from ray.data.expressions import col

    start_s = time.perf_counter() - started
    started = time.perf_counter()
    rows = ray.data.read_parquet(list(files)).filter(expr=col("rating") >= LEAST_RATING)
    parts = rows.select_columns(["user_id", "item_id", "timestamp"]).repartition(
        16, keys=["user_id"]
    )
    parts.map_batches(to_lists, batch_format="pyarrow", batch_size=None).write_parquet(str(output))
    return {"seconds": time.perf_counter() - started, "start_s": start_s, "written": str(output)}


def to_lists(table: pa.Table) -> pa.Table:
    """One row per user, items in order of time."""
    table = table.sort_by([("user_id", "ascending"), ("timestamp", "ascending")]).combine_chunks()
    if not table.num_rows:
        return table
    users = table["user_id"].chunk(0).dictionary_encode()
    starts = np.flatnonzero(np.diff(users.indices.to_numpy(), prepend=-1))
    offsets = pa.array(np.append(starts, table.num_rows).astype(np.int32))
    items, times = (table[name].chunk(0) for name in ("item_id", "timestamp"))
    return pa.table(
        {
            "user_id": users.dictionary,
            "item_ids": pa.ListArray.from_arrays(offsets, items),
            "timestamps": pa.ListArray.from_arrays(offsets, times),
        }
    )


ENGINES: dict[str, Callable[[Path, Sequence[str]], dict[str, Any]]] = {
    "ours": ours,
    "polars": polars,
    "duckdb": duckdb,
    "ray data": ray_data,
}

if __name__ == "__main__":
    directory = Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    engine = {**ENGINES, "incremental": incremental}[sys.argv[1]]
    print(json.dumps(engine(directory, sys.argv[3:])))
