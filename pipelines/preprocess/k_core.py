"""Second step of preprocessing: ``interactions/`` -> the vocabulary that filters and k-core leave.

Every part is read once. The numbers that counting needs of it, and those that sequences are
derived from, stay in Ray's object store (or are made again where a node is lost). From then on only
counts of items travel, added up in a tree; the driver holds items, never rows or users.
"""

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from lightsans.arrays import UInt64
from lightsans.columns.arrow import narrow, one_chunk
from lightsans.columns.hashing import Key
from lightsans.config import DataConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.preparation.derive import Retention
from lightsans.preparation.k_core import (
    CoreRows,
    core_rows,
    count_items,
    item_counts,
    k_core,
    merge_counts,
)
from lightsans.preparation.selection import PartRows, select_rows
from lightsans.preparation.sorting import count_exact_duplicates, users_of
from lightsans.preparation.temporal import Cutoffs
from lightsans.reports.dataset_figures import PartReport
from lightsans.storage.location import Location
from pipelines.console.progress import say
from pipelines.preprocess.parts import Part, largest
from pipelines.session.merge_tree import MergeTree, Ref, merge_all
from pipelines.session.ray_session import original_errors
from pipelines.session.tasks import remote, run_tasks

_COLUMNS = ("user_id", "raw_item_id", "timestamp", "rating")


@dataclass(frozen=True, slots=True)
class Filters:
    """Settings that decide which interactions are learnt from."""

    data: DataConfig
    as_of: int | None
    """``data.as_of`` in microseconds."""
    retention: Retention | None = None
    """Limits on the sequences; None to keep everything."""
    cutoffs: Cutoffs | None = None
    """Cut-offs of a temporal split; None for other splits."""

    def select(self, table: pa.Table) -> PartRows:
        """`select_rows` of a part of the interactions."""
        return select_rows(table, self.data, self.as_of, self.cutoffs)


@dataclass(frozen=True, slots=True)
class KCore:
    """Result of k-core: vocabulary, rounds, rows left."""

    vocabulary: Vocabulary
    num_rounds: int
    rows: dict[str, int]
    """Rows left after each filter."""


@dataclass(frozen=True, slots=True)
class LoadedPart:
    """A part as the last step needs it."""

    rows: PartRows
    report: PartReport
    """Report on its rows; nothing yet on its sequences."""


def find_k_core(
    dataset: Location,
    parts: Sequence[Part],
    filters: Filters,
    time_range: tuple[int, int],
    base: Vocabulary | None = None,
) -> tuple[KCore, dict[Part, Ref]]:
    """The vocabulary: the items that k-core leaves, after those of a base dataset.

    Args:
        dataset: Its directory.
        parts: Parts of its interactions.
        filters: Which of them are counted.
        time_range: Least and greatest timestamp of the dataset.
        base: The vocabulary of its base.

    Returns:
        The result, and where the `LoadedPart` of each part is: in Ray's object store.

    Raises:
        InputError: Nothing is left; the message names the filter that took the last row. Or two
            items share a hash.
    """
    data = filters.data
    loaded, items, rows = _load_parts(dataset, parts, filters, time_range)
    cores = [found.core for found in loaded.values()]
    rounds = itertools.count(1)

    def count(alive: UInt64 | None) -> pa.Table:
        if alive is None:  # counted as the parts were loaded
            counts = items.filter(pc.greater(items["count"], 0))
        else:
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
    make = Vocabulary.from_counts if base is None else base.extended
    result = KCore(make(ids, counts), num_rounds, rows)
    return result, {part: found.rows for part, found in loaded.items()}


def load_part_rows(
    part: Part, *, dataset: Location, filters: Filters, time_range: tuple[int, int], key: Key
) -> tuple[dict[str, int], CoreRows, pa.Table, LoadedPart]:
    """A part as numbers.

    Returns:
        Rows left after each filter, what counting needs, the counts of the first round for all its
        items with raw ids, and what sequences are derived from.
    """
    table = part.load(dataset, _COLUMNS)
    _, offsets = users_of(table)
    duplicates = count_exact_duplicates(table, offsets)
    report = PartReport.of(offsets, table["timestamp"].to_numpy(), duplicates, time_range)
    selected = filters.select(table)
    core, raw = core_rows(selected, key)
    found, counts = count_items(core, None, filters.data.min_user_interactions)
    all_counts = np.zeros(len(raw), np.int64)
    all_counts[np.searchsorted(core.item_hashes, found)] = counts
    items = item_counts(core.item_hashes, all_counts, raw)
    return selected.row_counts, core, items, LoadedPart(selected, report)


def count_part(core: CoreRows, alive: UInt64, min_user_interactions: int) -> pa.Table:
    """`count_items` as a table."""
    return item_counts(*count_items(core, alive, min_user_interactions))


def merge_tables(*tables: pa.Table) -> pa.Table:
    """`merge_counts`."""
    return merge_counts(tables).combine_chunks()


class _Loaded(NamedTuple):
    """References to the numbers of a part."""

    core: Ref
    rows: Ref


def _load_parts(
    dataset: Location, parts: Sequence[Part], filters: Filters, time_range: tuple[int, int]
) -> tuple[dict[Part, _Loaded], pa.Table, dict[str, int]]:
    """Load parts: references to their numbers, counts of all items, rows left after each filter."""
    # Drawn anew for each run: hashes compare items, and nothing that is written depends on them.
    key = (secrets.randbits(64), secrets.randbits(64))
    function = partial(
        load_part_rows, dataset=dataset, filters=filters, time_range=time_range, key=key
    )
    load = remote(function, num_returns=4, size=largest(parts))
    loaded: dict[Part, _Loaded] = {}
    tree = MergeTree(remote(merge_tables))

    def submit(part: Part) -> Ref:
        row_counts, core, table, found = load.remote(part)
        loaded[part] = _Loaded(core, found)
        tree.add(table)
        return row_counts

    rows: dict[str, int] = {}
    for found in run_tasks(submit, parts, "preprocess: items"):
        rows = {step: rows.get(step, 0) + count for step, count in found.items()}
    with original_errors():
        items = ray.get(tree.root())
    return loaded, items, rows


def _count_round(cores: Sequence[Ref], least: int, alive: UInt64) -> pa.Table:
    count, alive_ref = remote(count_part), ray.put(alive)
    counted = (count.remote(core, alive_ref, least) for core in cores)
    with original_errors():
        counts: pa.Table = ray.get(merge_all(remote(merge_tables), counted))
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
