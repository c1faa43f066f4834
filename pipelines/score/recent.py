"""Counts of the items of the last days, for the lists of users of whom the model knows nothing."""

import functools
import operator
from typing import Any

import ray

from lightsans.arrays import Int64
from lightsans.columns.times import from_iso
from lightsans.dataset.loading import load_timed
from lightsans.ranking.recent import count_rows
from lightsans.reading.times import parse_moment
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import sequence_parts
from pipelines.session.merge_tree import merge_all
from pipelines.session.ray_session import cpus_per_task

_PARTS_PER_TASK = 8


def window_end(manifest: DatasetManifest) -> int:
    """Microsecond after the newest interaction of a dataset, which ``data.as_of`` may precede."""
    newest = from_iso(manifest.time_range[1]) + 1
    as_of = manifest.data["as_of"]
    if as_of is None:
        return newest
    return min(newest, int(parse_moment(as_of, manifest.data["timezone"]) or newest))


def count_recent(dataset: Location, manifest: DatasetManifest, days: int) -> Any:
    """Reference to interactions of each item in the last days, added up in a tree of tasks."""
    parts = sequence_parts(dataset, manifest)
    window = window_end(manifest), days, manifest.items
    counted = (
        _count_parts.options(num_cpus=cpus_per_task()).remote(
            parts[first : first + _PARTS_PER_TASK], *window
        )
        for first in range(0, len(parts), _PARTS_PER_TASK)
    )
    return merge_all(_add.options(num_cpus=cpus_per_task()), counted)


def count_here(dataset: Location, manifest: DatasetManifest, days: int) -> Int64:
    """The same counts, made in this process."""
    parts = sequence_parts(dataset, manifest)
    return _count(parts, window_end(manifest), days, manifest.items)


def _count(parts: list[Location], end: int, days: int, num_items: int) -> Int64:
    timed = (load_timed(part, None, None) for part in parts)
    counts = (count_rows(u.sequences, u.timestamps, end, days, num_items) for u in timed)
    return functools.reduce(operator.add, counts)


@ray.remote
def _count_parts(parts: list[Location], end: int, days: int, num_items: int) -> Int64:
    return _count(parts, end, days, num_items)


@ray.remote
def _add(*counts: Int64) -> Int64:
    return functools.reduce(operator.add, counts)
