"""Second step of preprocessing: ``interactions/`` -> the vocabulary that filters and k-core leave.

Every part is read once and reduced to the numbers that counting needs, which stay in Ray's object
store (or are made again where a node is lost). From then on only counts of items travel, added up
in a tree; the driver holds items, never rows or users.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray

from lightsans.arrow_columns import narrow, one_chunk
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.interactions import (
    CoreRows,
    PartRows,
    core_rows,
    count_items,
    item_counts,
    k_core,
    load_interactions,
    merge_counts,
    select_rows,
)
from lightsans.retention import Retention
from lightsans.schema import part_name
from lightsans.storage import Location
from lightsans.temporal import Cutoffs
from lightsans.vocabulary import Vocabulary
from pipelines.preprocess_tasks import Ref, merge_in_tree, remote, run_tasks
from pipelines.progress import say
from pipelines.ray_session import original_errors

UInt64 = npt.NDArray[np.uint64]

_COLUMNS = ("user_id", "raw_item_id", "timestamp", "rating")


@dataclass(frozen=True, slots=True)
class Filters:
    """What decides which interactions are learnt from."""

    data: DataConfig
    as_of: int | None
    """``data.as_of`` in microseconds."""
    retention: Retention | None = None
    """What sequences keep; None for everything."""
    cutoffs: Cutoffs | None = None
    """Of a temporal split."""

    def select(self, table: pa.Table) -> PartRows:
        """`select_rows` of a part of the interactions."""
        return select_rows(table, self.data, self.as_of, self.cutoffs)


@dataclass(frozen=True, slots=True)
class Core:
    """What is left when k-core has come to rest."""

    vocabulary: Vocabulary
    num_rounds: int
    rows: dict[str, int]
    """Rows left after each filter."""


def find_core(
    dataset: Location, parts: Sequence[int], filters: Filters, base: Vocabulary | None = None
) -> Core:
    """The vocabulary: the items that k-core leaves, after those of a base dataset.

    Raises:
        InputError: Nothing is left; the message names the filter that took the last row. Or two
            items share a hash.
    """
    data = filters.data
    cores, items, rows = _load_parts(dataset, parts, filters)

    rounds = itertools.count(1)

    def count(alive: UInt64 | None) -> pa.Table:
        counts = _count_round(cores, data.min_user_interactions, alive)
        say_round(next(rounds), counts, alive)
        return counts

    survivors, num_rounds = k_core(count, data.min_item_interactions)
    rows = {**rows, "after_k_core": int(pc.sum(survivors["count"]).as_py() or 0)}
    if not survivors.num_rows:
        raise InputError(_nothing_left(data, rows))
    places = np.searchsorted(items["hash"].to_numpy(), survivors["hash"].to_numpy())
    raw = one_chunk(items["raw_item_id"]).take(pa.array(places))
    ids = narrow(raw).combine_chunks()
    counts = survivors["count"].to_numpy()
    if base is not None:
        return Core(base.extended(ids, counts), num_rounds, rows)
    return Core(Vocabulary.from_counts(ids, counts), num_rounds, rows)


def load_core_rows(
    part: int, *, dataset: Location, filters: Filters
) -> tuple[dict[str, int], CoreRows, pa.Table]:
    """Rows of a part after each filter, what counting needs of it, and its items with raw ids."""
    table = load_interactions(dataset / "interactions" / part_name(part), _COLUMNS)
    selected = filters.select(table)
    core, raw = core_rows(selected)
    zeros = np.zeros(len(raw), np.int64)
    return selected.row_counts, core, item_counts(core.item_hashes, zeros, raw)


def count_part(core: CoreRows, alive: UInt64 | None, min_user_interactions: int) -> pa.Table:
    """`count_items` as a table."""
    return item_counts(*count_items(core, alive, min_user_interactions))


def merge_tables(*tables: pa.Table) -> pa.Table:
    """`merge_counts`."""
    return merge_counts(tables).combine_chunks()


def _load_parts(
    dataset: Location, parts: Sequence[int], filters: Filters
) -> tuple[list[Ref], pa.Table, dict[str, int]]:
    """Where the numbers of each part are, all items, and rows left after each filter."""
    load = remote(partial(load_core_rows, dataset=dataset, filters=filters), num_returns=3)
    cores: list[Ref] = []
    tables: list[Ref] = []

    def submit(part: int) -> Ref:
        row_counts, core, table = load.remote(part)
        cores.append(core)
        tables.append(table)
        return row_counts

    rows: dict[str, int] = {}
    for found in run_tasks(submit, parts, "preprocess: items"):
        rows = {step: rows.get(step, 0) + count for step, count in found.items()}
    with original_errors():
        return cores, ray.get(merge_in_tree(remote(merge_tables), tables)), rows


def _count_round(cores: Sequence[Ref], least: int, alive: UInt64 | None) -> pa.Table:
    count, alive_ref = remote(count_part), ray.put(alive)
    tables = [count.remote(core, alive_ref, least) for core in cores]
    with original_errors():
        counts: pa.Table = ray.get(merge_in_tree(remote(merge_tables), tables))
    return counts


def say_round(number: int, counts: pa.Table, alive: UInt64 | None) -> None:
    """One line on a round of k-core."""
    before = "" if alive is None else f", {len(alive):,} before"
    say(
        f"preprocess: k-core, round {number}: {counts.num_rows:,} items with enough users{before}",
        round=number,
        items=counts.num_rows,
    )


def _nothing_left(data: DataConfig, rows: dict[str, int]) -> str:
    settings = {
        "after_as_of": f"data.as_of={data.as_of}",
        "after_dedupe": f"data.dedupe={data.dedupe}",
        "after_min_rating": f"data.min_rating={data.min_rating}",
        "before_cutoff": f"data.temporal={data.temporal}",
        "after_k_core": f"data.min_user_interactions={data.min_user_interactions} and "
        f"data.min_item_interactions={data.min_item_interactions}",
    }
    filter_name = next(settings[step] for step, count in rows.items() if count == 0)
    left = ", ".join(f"{count:,} rows {step.replace('_', ' ')}" for step, count in rows.items())
    return f"no rows are left to learn from: {filter_name} removes the last ones ({left}); relax it"
