"""Counts of the items of the last days: for lists of popular items, and boosts by them."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import ray

from lightsans.arrays import Int64
from lightsans.stages.window import count_parts, window_end
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import SequencePart, sequence_parts
from pipelines.session.cpus import cpus_per_task
from pipelines.session.tasks import merge_all

_PARTS_PER_TASK = 8


def count_recent(dataset: Location, manifest: DatasetManifest, windows: Sequence[int]) -> Any:
    """Reference to what `count_parts` counts in all parts, added up in a tree of tasks."""
    parts = sequence_parts(dataset, manifest)
    asked = window_end(manifest), windows, manifest.items
    counted = (
        _count_parts.options(num_cpus=cpus_per_task()).remote(
            parts[first : first + _PARTS_PER_TASK], *asked
        )
        for first in range(0, len(parts), _PARTS_PER_TASK)
    )
    return merge_all(_add.options(num_cpus=cpus_per_task()), counted)


@ray.remote
def _count_parts(
    parts: list[SequencePart], end: int, windows: Sequence[int], num_items: int
) -> Int64:
    return count_parts(parts, end, windows, num_items)


@ray.remote
def _add(*counts: Int64) -> Int64:
    return functools.reduce(operator.add, counts)
