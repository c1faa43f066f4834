"""Second step of preprocessing: ``interactions/`` -> vocabulary and ``sequences/``, part by part.

No row travels: tasks send item counts, which the driver adds up one at a time. The vocabulary is
the only thing that it holds whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.hashing import bucket_range
from lightsans.interactions import (
    PartRows,
    count_items,
    derive_sequences,
    fingerprint_part,
    k_core,
    merge_counts,
    select_rows,
)
from lightsans.schema import part_name
from lightsans.storage import Location
from lightsans.vocabulary import Vocabulary
from pipelines.progress import bar
from pipelines.ray_session import iterate_tables, original_errors

STEPS = ("after_as_of", "after_dedupe", "after_min_rating")
_ROW_GROUP_USERS = 2**16
_COUNT_TASKS_PER_CPU = 4


@dataclass(frozen=True, slots=True)
class Filters:
    """What decides which interactions are learnt from."""

    data: DataConfig
    as_of: int | None
    """``data.as_of`` in microseconds."""


@dataclass(frozen=True, slots=True)
class Core:
    """What is left when k-core has come to rest."""

    vocabulary: Vocabulary
    num_rounds: int
    rows: dict[str, int]
    """Rows left after each filter."""


def find_core(dataset: Location, parts: Sequence[int], filters: Filters) -> Core:
    """The vocabulary: the items that k-core leaves.

    Raises:
        InputError: Nothing is left; the message names the filter that took the last row.
    """
    rows_by_step: dict[str, int] = {}

    def count(alive: pa.Array | None) -> pa.Table:
        counts, rows = _count_round(dataset, parts, filters, alive)
        rows_by_step.update(rows)  # the same in every round
        return counts

    items, num_rounds = k_core(count, filters.data.min_item_interactions)
    rows = {**rows_by_step, "after_k_core": int(pc.sum(items["count"]).as_py() or 0)}
    if not items.num_rows:
        raise InputError(_nothing_left(filters.data, rows))
    ids = items["raw_item_id"].combine_chunks()
    return Core(Vocabulary.from_counts(ids, items["count"].to_numpy()), num_rounds, rows)


def write_sequences(
    dataset: Location, parts: Sequence[int], filters: Filters, num_parts: int, core: Core
) -> list[dict[str, Any]]:
    """Write ``sequences/``; a description of each part, for the manifest."""
    write = partial(
        write_sequence_parts,
        dataset=dataset,
        filters=filters,
        vocabulary=ray.put(core.vocabulary),
    )
    stats = []
    for batch in _map_parts(write, parts, 1, "preprocess: sequences"):
        stats += batch.to_pylist()
    for part in stats:
        part["buckets"] = list(bucket_range(part.pop("part"), num_parts))
    return sorted(stats, key=lambda part: str(part["name"]))


def count_parts(
    batch: pa.Table,
    *,
    dataset: Location,
    filters: Filters,
    alive: "ray.ObjectRef[pa.Array | None]",
) -> pa.Table:
    """Item counts over some parts, and how many rows passed each filter, as one row."""
    parts = batch["parts"][0].as_py()
    merged: pa.Table | None = None
    rows = dict.fromkeys(STEPS, 0)
    for part in parts:
        selected = _load_part(dataset, part, filters)
        found = count_items(selected, ray.get(alive), filters.data.min_user_interactions)
        merged = found if merged is None else merge_counts([merged, found])
        for step in STEPS:
            rows[step] += selected.row_counts[step]
    assert merged is not None
    columns = {"raw_item_ids": merged["raw_item_id"], "counts": merged["count"]}
    lists = {name: _as_one_list(column) for name, column in columns.items()}
    return pa.table({**lists, "parts": [len(parts)], **{name: [n] for name, n in rows.items()}})


def write_sequence_parts(
    batch: pa.Table,
    *,
    dataset: Location,
    filters: Filters,
    vocabulary: "ray.ObjectRef[Vocabulary]",
) -> pa.Table:
    """Write the sequences of some parts; a row about each."""
    stats = []
    for part in batch["parts"][0].as_py():
        selected = _load_part(dataset, part, filters)
        least = filters.data.min_user_interactions
        table = derive_sequences(selected, ray.get(vocabulary), least)
        (dataset / "sequences" / part_name(part)).write_table(table, _ROW_GROUP_USERS)
        stats.append(
            {
                "part": part,
                "name": part_name(part),
                "rows": len(selected.user),
                "users": table.num_rows,
                "trainable": int(pc.sum(table["trainable"]).as_py() or 0),
                "interactions": int(pc.sum(pc.list_value_length(table["item_ids"])).as_py() or 0),
                "fingerprint": f"{fingerprint_part(table):016x}",
            }
        )
    return pa.Table.from_pylist(stats)


def _load_part(dataset: Location, part: int, filters: Filters) -> PartRows:
    table = (dataset / "interactions" / part_name(part)).read_table()
    return select_rows(table, filters.data, filters.as_of)


def _count_round(
    dataset: Location,
    parts: Sequence[int],
    filters: Filters,
    alive: pa.Array | None,
) -> tuple[pa.Table, dict[str, int]]:
    count = partial(count_parts, dataset=dataset, filters=filters, alive=ray.put(alive))
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_tasks = _COUNT_TASKS_PER_CPU * int(resources.get("CPU", 1))
    parts_per_task = max(1, len(parts) // num_tasks)
    merged: pa.Table | None = None
    rows = dict.fromkeys(STEPS, 0)
    for batch in _map_parts(count, parts, parts_per_task, "preprocess: items"):
        for index in range(batch.num_rows):
            ids, counts = batch["raw_item_ids"][index].values, batch["counts"][index].values
            found = pa.table({"raw_item_id": ids, "count": counts})
            merged = found if merged is None else merge_counts([merged, found])
        for step in STEPS:
            rows[step] += pc.sum(batch[step]).as_py()
    assert merged is not None
    return merged.combine_chunks(), rows


def _map_parts(
    function: Callable[[pa.Table], pa.Table],
    parts: Sequence[int],
    parts_per_task: int,
    description: str,
) -> Iterator[pa.Table]:
    """What the function returns for each group of parts, as tasks finish."""
    groups = [parts[i : i + parts_per_task] for i in range(0, len(parts), parts_per_task)]
    tasks = ray.data.from_items(
        [{"parts": list(group)} for group in groups], override_num_blocks=len(groups)
    )
    done = tasks.map_batches(function, batch_size=None, batch_format="pyarrow")
    with bar(description, len(groups)) as progress, original_errors():
        for table in iterate_tables(done):
            progress.advance(table.num_rows)
            yield table


def _as_one_list(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def _nothing_left(data: DataConfig, rows: dict[str, int]) -> str:
    settings = {
        "after_as_of": f"data.as_of={data.as_of}",
        "after_dedupe": f"data.dedupe={data.dedupe}",
        "after_min_rating": f"data.min_rating={data.min_rating}",
        "after_k_core": f"data.min_user_interactions={data.min_user_interactions} and "
        f"data.min_item_interactions={data.min_item_interactions}",
    }
    filter_name = next(settings[step] for step, count in rows.items() if count == 0)
    left = ", ".join(f"{count:,} rows {step.replace('_', ' ')}" for step, count in rows.items())
    return f"no rows are left to learn from: {filter_name} removes the last ones ({left}); relax it"
