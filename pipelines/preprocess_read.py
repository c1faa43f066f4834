"""First step of preprocessing: logs -> ``interactions/``, all rows of a user in one part.

Read units are read side by side, rows exchanged once, and every part written by one task. Names
are determined by the content, files appear whole: a task that runs twice does no harm.
"""

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data

from lightsans.config import DataConfig, RunConfig
from lightsans.errors import InputError, LightSANsError
from lightsans.hashing import NUM_BUCKETS
from lightsans.interactions import assign_parts, count_exact_duplicates, split_parts
from lightsans.reading.files import format_of
from lightsans.reading.rejects import RowCounts, rejects_file
from lightsans.reading.text_pieces import compression_of
from lightsans.reading.units import ReadPlan, ReadUnit, order_keys, plan_reading, read_unit
from lightsans.schema import id_type, interactions_schema, part_name
from lightsans.storage import FileInfo, Location
from pipelines.preflight import preflight
from pipelines.progress import Bar, bar, say
from pipelines.ray_session import ensure_ray, iterate_tables, original_errors

MARKER = "interactions.json"
"""Written when ``interactions/`` is complete: a later attempt goes on from there."""

_WORK = "_work"
"""Notes of the tasks, inside the dataset while it is made."""
_PART_BYTES = 96 * 2**20
_LEAST_PARTS = 8
_WATCH_EVERY_S = 2.0
_READERS = 16


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: files in order, how, and whom to leave out."""

    data: DataConfig
    files: list[FileInfo]
    excluded_users: list[str]


@dataclass(frozen=True, slots=True)
class Interactions:
    """What `collect_interactions` has made."""

    counts: RowCounts
    user_id_type: str
    item_id_type: str
    parts: list[int]
    """Numbers of the parts that have rows."""
    exact_duplicates: int


def choose_num_parts(files: list[FileInfo], data: DataConfig) -> int:
    """How many parts a dataset is cut into: about 96 MB of text each, or as configured."""
    if data.num_parts is not None:
        return min(data.num_parts, NUM_BUCKETS)
    return min(max(_num_pieces(files, data), _LEAST_PARTS), NUM_BUCKETS)


def collect_interactions(
    config: RunConfig, dataset: Location, source: Source, num_parts: int
) -> Interactions:
    """Read, check and exchange all rows, or find it done by an earlier attempt.

    Raises:
        InputError: A file is unusable.
        ResourceError: The cluster could never do it.
    """
    found = _read_marker(dataset)
    if found is not None:
        say(f"preprocess: continuing from the finished {dataset / 'interactions'}")
        return found
    plan = plan_reading(source.files, source.data)
    size = sum(file.size for file in source.files)
    say(
        f"preprocess: {len(source.files):,} files, {size / 1e6:,.1f} MB, in {len(plan.units):,} "
        f"read units -> {num_parts} parts of dataset {dataset.name}"
    )
    for leftover in ("interactions", "rejects", _WORK):
        (dataset / leftover).delete()
    ensure_ray()
    preflight("preprocess", config)
    stats = _exchange(dataset, source, plan, num_parts)
    made = _sum_up(dataset / _WORK, plan, stats)
    (dataset / MARKER).write_json(_marker(dataset, made))
    (dataset / _WORK).delete()
    return made


def _exchange(
    dataset: Location, source: Source, plan: ReadPlan, num_parts: int
) -> list[dict[str, Any]]:
    """Write all parts; a row of counts for each."""
    if not plan.units:
        return []
    read = partial(
        read_units,
        data=source.data,
        id_types=(plan.user_id_type, plan.item_id_type),
        num_parts=num_parts,
        excluded_users=ray.put(_excluded_ids(source, plan.user_id_type)),
        dataset=dataset,
    )
    items = [{"unit": pickle.dumps(unit)} for unit in plan.units]
    stats: list[dict[str, Any]] = []
    total = len(plan.units) + num_parts
    with bar("preprocess: reading", total) as progress, original_errors():
        units = ray.data.from_items(items, override_num_blocks=len(items))
        rows = units.map_batches(read, batch_size=None, batch_format="pyarrow")
        # Fewer partitions than parts when the input is small: each costs a task.
        num_partitions = min(num_parts, _num_pieces(source.files, source.data))
        written = rows.repartition(num_partitions, keys=["part"]).map_batches(
            partial(write_parts, dataset=dataset), batch_size=None, batch_format="pyarrow"
        )
        with _watch(dataset / _WORK, progress):
            for table in iterate_tables(written):
                stats += table.to_pylist()
                progress.advance(table.num_rows)
    return sorted(stats, key=lambda part: int(part["part"]))


def read_units(
    batch: pa.Table,
    *,
    data: DataConfig,
    id_types: tuple[str, str],
    num_parts: int,
    excluded_users: "ray.ObjectRef[pa.Array | None]",
    dataset: Location,
) -> Iterator[pa.Table]:
    """The valid rows of some read units; refused ones and counts go to files beside them."""
    excluded = ray.get(excluded_users)
    for pickled in batch["unit"].to_pylist():
        unit: ReadUnit = pickle.loads(pickled)
        counts = RowCounts()
        with rejects_file(dataset / "rejects" / f"unit-{unit.index:05d}.parquet") as write_rejects:
            for piece, rows in read_unit(unit, data, *id_types, excluded):
                write_rejects(piece.file.location, rows)
                counts.add_rows(piece.file.location, rows)
                keys = order_keys(piece, rows.table["position"].to_numpy())
                table = rows.table.drop_columns("position")
                yield assign_parts(table.append_column("order_key", pa.array(keys)), num_parts)
        (dataset / _WORK / f"unit-{unit.index:05d}.json").write_json(counts.to_dict())
    empty = interactions_schema(*map(id_type, id_types)).empty_table()
    yield assign_parts(empty.drop_columns("bucket"), num_parts)  # there is always a schema


def write_parts(table: pa.Table, *, dataset: Location) -> pa.Table:
    """Write the parts whose rows these are; one row of counts for each."""
    stats = []
    for number, rows in split_parts(table):
        (dataset / "interactions" / part_name(number)).write_table(rows)
        duplicates = count_exact_duplicates(rows)
        stats.append({"part": number, "rows": rows.num_rows, "exact_duplicates": duplicates})
    names = ("part", "rows", "exact_duplicates")
    return pa.Table.from_pylist(stats, pa.schema([(name, pa.int64()) for name in names]))


def _sum_up(work: Location, plan: ReadPlan, stats: list[dict[str, Any]]) -> Interactions:
    names = [f"unit-{unit.index:05d}.json" for unit in plan.units]
    counts = RowCounts()
    with ThreadPoolExecutor(_READERS) as pool:
        for content in pool.map(lambda name: (work / name).read_json(), names):
            counts.add(RowCounts.from_dict(content))
    written = sum(int(part["rows"]) for part in stats)
    if written != counts.valid:
        raise LightSANsError(
            f"{counts.valid:,} valid rows were read but {written:,} written; a worker may have "
            "been lost at a bad moment: run preprocess again"
        )
    return Interactions(
        counts=counts,
        user_id_type=plan.user_id_type,
        item_id_type=plan.item_id_type,
        parts=[int(part["part"]) for part in stats],
        exact_duplicates=sum(int(part["exact_duplicates"]) for part in stats),
    )


def _marker(dataset: Location, made: Interactions) -> dict[str, Any]:
    return {
        "id": dataset.name,
        "counts": made.counts.to_dict(),
        "user_id_type": made.user_id_type,
        "item_id_type": made.item_id_type,
        "parts": made.parts,
        "exact_duplicates": made.exact_duplicates,
    }


def _read_marker(dataset: Location) -> Interactions | None:
    try:
        content = (dataset / MARKER).read_json()
    except FileNotFoundError:
        return None
    if content.pop("id") != dataset.name:  # copied here from elsewhere
        return None
    return Interactions(**{**content, "counts": RowCounts.from_dict(content["counts"])})


def _excluded_ids(source: Source, user_id_type: str) -> pa.Array | None:
    if not source.excluded_users:
        return None
    users = pa.array(source.excluded_users, pa.string())
    try:
        return users.cast(id_type(user_id_type))
    except pa.ArrowInvalid as error:
        raise InputError(
            f"data.exclude_users={source.data.exclude_users}: user ids are integers, but: {error}"
        ) from None


def _num_pieces(files: list[FileInfo], data: DataConfig) -> int:
    """The input in units of `_PART_BYTES`, with a guess at what compression hides."""
    size = 0
    for file in files:
        is_parquet = format_of(file.location, data) == "parquet"
        is_compressed = is_parquet or compression_of(file.location.name) is not None
        size += file.size * (4 if is_compressed else 1)
    return -(-size // _PART_BYTES) or 1


@contextmanager
def _watch(work: Location, progress: Bar) -> Iterator[None]:
    """Advance the bar as tasks leave their notes; the exchange shows nothing until its end."""
    done = threading.Event()

    def count() -> None:
        seen = 0
        while not done.wait(_WATCH_EVERY_S):
            with suppress(OSError):  # it is only a bar
                found = len(work.children())
                if found > seen:
                    progress.advance(found - seen)
                seen = found

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
