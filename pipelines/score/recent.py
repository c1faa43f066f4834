"""Counts of the items of the last days, for the lists of users of whom the model knows nothing."""

import functools
import operator
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


@ray.remote
def _count_parts(parts: list[SequencePart], end: int, days: int, num_items: int) -> Int64:
    return count_parts(parts, end, days, num_items)


@ray.remote
def _add(*counts: Int64) -> Int64:
    return functools.reduce(operator.add, counts)
