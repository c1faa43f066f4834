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

import pyarrow as pa
import pyarrow.compute as pc
import ray

from lightsans.arrays import UInt64
from lightsans.columns.hashing import Key
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import NothingLeftError
from lightsans.preparation.k_core import (
    CoreRows,
    count_items,
    item_counts,
    k_core,
    merge_counts,
)
from lightsans.stages.filters import (
    Filters,
    LoadedPart,
    nothing_left,
    number_part,
    part_columns,
    surviving_items,
)
from lightsans.storage.location import Location
from pipelines.console.progress import say
from pipelines.preprocess.parts import Part, largest
from pipelines.session.ray_session import original_errors
from pipelines.session.tasks import MergeTree, Ref, merge_all, remote, run_tasks


@dataclass(frozen=True, slots=True)
class KCore:
    """Result of k-core: vocabulary, rounds, rows left."""

    vocabulary: Vocabulary
    num_rounds: int
    rows: dict[str, int]
    """Rows left after each filter."""


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
        raise NothingLeftError(nothing_left(data, rows))
    ids, counts = surviving_items(items, survivors)
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
    return number_part(part.load(dataset, part_columns(filters.data)), filters, time_range, key)


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
