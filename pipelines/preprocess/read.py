"""First step of preprocessing: logs -> ``interactions/``, all rows of a user in one part.

Read units are read side by side, rows exchanged once (`pipelines.preprocess.exchange`), and every
part written by one task. Names are determined by the content, files appear whole: a task that runs
twice does no harm. A part that an earlier attempt has written stays, and its rows are not exchanged
again.
"""

import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import ray

from lightsans.arrays import Bool
from lightsans.columns.erased import ErasedUsers
from lightsans.config import DataConfig, RunConfig
from lightsans.errors import LightSANsError
from lightsans.lists.id_lists import ids_of_type
from lightsans.preparation.packing import PACKED_SCHEMA, pack_rows, unpack_rows
from lightsans.preparation.sorting import sort_interactions
from lightsans.reading.rejects import RowCounts, rejects_file
from lightsans.reading.units import (
    ReadPlan,
    ReadUnit,
    describe_copies,
    order_keys,
    plan_reading,
    read_unit,
)
from lightsans.storage.listing import check_unchanged
from lightsans.storage.location import Location
from lightsans.storage.schemas import id_type
from pipelines.console.progress import Bar, bar, say
from pipelines.preprocess.base import Base
from pipelines.preprocess.exchange import (
    exchange_by_shuffle,
    exchange_by_tasks,
    is_exchanged_by_tasks,
)
from pipelines.preprocess.identity import Source, num_pieces
from pipelines.preprocess.parts import PART_NOTE, READERS, USUAL_ROWS, Draft
from pipelines.preprocess.records import PART_NOTES, Interactions, PartNote
from pipelines.preprocess.take_over import take_over_part, take_over_parts, take_over_rejects
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import ensure_ray, original_errors

_WATCH_EVERY_S = 2.0


def collect_interactions(
    config: RunConfig, draft: Draft, source: Source, num_parts: int
) -> Interactions:
    """Read, check and exchange all rows, or find it done by an earlier attempt.

    Raises:
        InputError: A file is unusable.
        ResourceError: The cluster could never do it.
    """
    dataset = draft.dataset
    found = draft.read_marker()
    if found is not None:
        say(f"preprocess: continuing from the finished {dataset / 'interactions'}")
        return found
    base = source.base
    num_before = base.num_files if base else 0
    plan = plan_reading(source.files, source.data, num_before, source.as_of)
    if plan.num_empty:
        say(f"preprocess: {plan.num_empty:,} files of data.input without a line are left out")
    if plan.after_as_of:
        say(
            f"preprocess: {len(plan.after_as_of):,} files are not read: their footers prove that "
            f"all rows are of data.as_of={source.data.as_of} or later"
        )
    copies = describe_copies(plan.alike(), "data.input")
    if copies is not None:
        say(f"preprocess: WARNING: {copies}")
    if base is not None:
        plan = base.check_plan(plan)
    size = sum(file.size for file in source.files)
    say(
        f"preprocess: files: {len(source.files):,}, {size / 1e6:,.1f} MB, in read units: "
        f"{len(plan.units):,} -> parts: {num_parts}, of dataset {dataset.name}"
    )
    finished = draft.finished_parts()
    if finished:
        say(f"preprocess: {len(finished)} of {num_parts} parts were written by an earlier attempt")
    ensure_ray(config.resources.memory_bytes)
    preflight("preprocess", config)
    parts = finished + _exchange(draft, source, plan, num_parts, finished)
    base_counts, refused, excluded = RowCounts(), set[str](), None
    if base is not None:
        excluded, erased = _excluded_ids(source, plan.user_id_type), source.erased_of_base
        written = {part.number for part in parts}
        parts += take_over_parts(base, draft, written, excluded, erased)
        refused = take_over_rejects(base, dataset, source.excluded_users, erased)
        base_counts = base.counts_to_begin_with()
    check_unchanged(source.files)  # else a mixture of versions would be gone on with
    made = _sum_up(draft.work, plan, parts, base_counts, source.data.event_names)
    if refused and excluded is not None:  # of whom the base may have had refused rows alone
        places = [at for at, user in enumerate(map(str, excluded.to_pylist())) if user in refused]
        made = replace(made, erased_users=tuple(sorted({*made.erased_users, *places})))
    draft.write_marker(made)
    return made


def _exchange(
    draft: Draft,
    source: Source,
    plan: ReadPlan,
    num_parts: int,
    finished: list[PartNote],
) -> list[PartNote]:
    """Write all parts but the finished ones."""
    if not plan.units:
        return []
    is_wanted = np.ones(num_parts, bool)
    is_wanted[[part.number for part in finished]] = False
    excluded_users = ray.put(_excluded_ids(source, plan.user_id_type))
    erased = ray.put(source.erased)
    read = partial(
        read_units,
        data=source.data,
        id_types=(plan.user_id_type, plan.item_id_type),
        is_wanted=is_wanted,
        excluded_users=excluded_users,
        erased=erased,
        draft=draft,
    )
    write = partial(
        write_parts,
        draft=draft,
        base=source.base,
        excluded_users=excluded_users,
        erased=ray.put(source.erased_of_base),
    )
    # Fewer partitions than parts when the input is small: each costs a task. Parts of a base may
    # have to be written anew, which weighs more than that.
    num_partitions = min(num_parts, num_pieces(source.files, source.data))
    # A part of a base is written anew with its old rows, one part after the other in a task.
    size = num_pieces(source.files, source.data) / num_parts
    if source.base is not None:
        num_partitions = num_parts
        size += max((part.rows for part in source.base.interactions.parts), default=0) / USUAL_ROWS
    by_tasks = is_exchanged_by_tasks(plan, source, num_parts, num_partitions)
    exchange = exchange_by_tasks if by_tasks else exchange_by_shuffle
    parts: list[PartNote] = []
    total = len(plan.units) + num_parts
    with (
        bar("preprocess: reading", total) as progress,
        original_errors(),
        _watch(draft.work, progress),
    ):
        for table in exchange(plan.units, read, write, num_partitions, size):
            parts += map(PartNote.from_json, table.to_pylist())
    return sorted(parts, key=lambda part: part.number)


def read_units(
    batch: pa.Table,
    *,
    data: DataConfig,
    id_types: tuple[str, str],
    is_wanted: Bool,
    excluded_users: "ray.ObjectRef[pa.Array | None]",
    erased: "ray.ObjectRef[ErasedUsers | None]",
    draft: Draft,
) -> Iterator[pa.Table]:
    """The valid rows of some read units, packed for the parts that are wanted.

    Refused rows and counts go to files beside them.
    """
    excluded, gone = ray.get([excluded_users, erased])
    for pickled in batch["unit"].to_pylist():
        unit: ReadUnit = pickle.loads(pickled)
        counts = RowCounts()
        with rejects_file(
            draft.dataset / "rejects" / f"unit-{unit.index:05d}.parquet"
        ) as write_rejects:
            for piece, rows in read_unit(unit, data, *id_types, excluded, gone):
                write_rejects(piece.file.location, rows)
                counts.add_rows(piece.file.location, rows, data.event_names)
                keys = order_keys(piece, rows.table["position"].to_numpy())
                table = rows.table.drop_columns("position")
                table = table.append_column("order_key", pa.array(keys))
                yield pack_rows(table, len(is_wanted), is_wanted)
        draft.note(f"unit-{unit.index:05d}", counts.to_dict())
    pa.default_memory_pool().release_unused()  # the process idles while parts are written
    yield PACKED_SCHEMA.empty_table()  # there is always a schema


def write_parts(
    packed: pa.Table,
    *,
    draft: Draft,
    base: Base | None,
    excluded_users: "ray.ObjectRef[pa.Array | None]",
    erased: "ray.ObjectRef[ErasedUsers | None]",
) -> pa.Table:
    """Write the parts whose rows these are, merged into those of a base; a row about each."""
    parts: list[PartNote] = []
    for number, rows in unpack_rows(packed):
        rows, part = sort_interactions(rows), base.part(number) if base is not None else None
        if base is None or part is None:
            parts.append(draft.write_part(number, rows))
        else:
            excluded, gone = ray.get([excluded_users, erased])
            parts.append(take_over_part(base, draft, part, rows, excluded, gone))
    pa.default_memory_pool().release_unused()
    return pa.Table.from_pylist([part.to_json() for part in parts], PART_NOTES)


def _sum_up(
    work: Location,
    plan: ReadPlan,
    parts: list[PartNote],
    counts: RowCounts,
    named_events: Sequence[str],
) -> Interactions:
    """Add up all that was read, with the counts of a base.

    Raises:
        LightSANsError: Rows were lost between tasks.
    """
    names = [f"unit-{unit.index:05d}.json" for unit in plan.units]
    with ThreadPoolExecutor(READERS) as pool:
        for content in pool.map(lambda name: (work / name).read_json(), names):
            counts.add(RowCounts.from_dict(content), named_events)
    written = sum(part.rows for part in parts)
    erased = sum(part.erased for part in parts)
    counts.valid, counts.excluded = counts.valid - erased, counts.excluded + erased
    erased_users = tuple(sorted({place for part in parts for place in part.erased_users}))
    parts = [part for part in parts if part.rows]
    counts.oldest = min((part.oldest for part in parts), default=None)
    counts.newest = max((part.newest for part in parts), default=None)
    if written != counts.valid:
        raise LightSANsError(
            f"{counts.valid:,} valid rows were read but {written:,} written; a worker may have "
            "been lost at a bad moment: run preprocess again"
        )
    return Interactions(
        counts=counts,
        user_id_type=plan.user_id_type,
        item_id_type=plan.item_id_type,
        parts=sorted(parts, key=lambda part: part.number),
        after_as_of=plan.after_as_of,
        erased_users=erased_users,
    )


def _excluded_ids(source: Source, user_id_type: str) -> pa.Array | None:
    if not source.excluded_users:
        return None
    return ids_of_type(pa.array(source.excluded_users, pa.string()), id_type(user_id_type))


@contextmanager
def _watch(work: Location, progress: Bar) -> Iterator[None]:
    """Advance the bar as tasks leave their notes; the exchange shows nothing until its end."""
    done, seen = threading.Event(), set[str]()
    rows = parts = 0

    def look() -> None:
        nonlocal rows, parts
        with suppress(OSError):  # it is only a bar
            for name in sorted(set(work.children()) - seen):
                if name.startswith(PART_NOTE):
                    parts += 1
                else:
                    rows += (work / name).read_json()["read"]
                seen.add(name)
                progress.advance(1, f"(rows read: {rows:,}, parts written: {parts})")

    def look_on() -> None:
        while not done.wait(_WATCH_EVERY_S):
            look()

    thread = threading.Thread(target=look_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look()
