"""Counts of training interactions for the baselines, made by tasks and merged in a tree.

Each task asks for the memory that its counts take (`lightsans.stages.evaluate_job`).
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import ray

from lightsans.dataset.loading import load_trainable
from lightsans.ranking.baselines import TransitionCounts
from lightsans.ranking.recent import RecentRows
from lightsans.stages.evaluate_job import (
    COUNT_BYTES,
    MERGE_BYTES,
    RECENT,
    TRANSITIONS,
    WORK,
    EvaluateJob,
    counted_parts,
    most_counted,
)
from lightsans.stages.window import Window, recent_rows
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import SequencePart
from pipelines.console.progress import say
from pipelines.session.tasks import TASK_BYTES, memory_for, merge_all

PARTS_PER_COUNT = 8


def count_transitions(
    job: EvaluateJob, parts: list[SequencePart], manifest: DatasetManifest
) -> None:
    """Write the counts of items and of successive pairs, which the driver never holds."""
    most = most_counted(job.config.evaluate, recent=False)
    chosen = _choose(parts, manifest, most, "baselines are")
    _merge(job, chosen, manifest, _count_parts, manifest.items, TRANSITIONS)


def collect_recent(
    job: EvaluateJob, parts: list[SequencePart], manifest: DatasetManifest, window: Window
) -> None:
    """Write the rows that a window may count, which the driver never holds."""
    most = most_counted(job.config.evaluate, recent=True)
    chosen = _choose(parts, manifest, most, "recent popularity is")
    _merge(job, chosen, manifest, _recent_parts, window, RECENT)


def _choose(
    parts: list[SequencePart], manifest: DatasetManifest, most: int, what: str
) -> list[SequencePart]:
    chosen = counted_parts(parts, manifest, most)
    if len(chosen) < len(parts):
        say(
            f"evaluate: {what} counted on {len(chosen)} of {len(parts)} parts "
            "(evaluate.counted_interactions)"
        )
    return chosen


def _merge(
    job: EvaluateJob,
    parts: list[SequencePart],
    manifest: DatasetManifest,
    count: Any,
    counted_by: int | Window,
    name: str,
) -> None:
    sizes = [part.interactions for part in manifest.parts[: len(parts)]]
    merging = {"memory": memory_for(TASK_BYTES + MERGE_BYTES * sum(sizes))}
    counted = []
    for first in range(0, len(parts), PARTS_PER_COUNT):
        group = slice(first, first + PARTS_PER_COUNT)
        counting = {"memory": memory_for(TASK_BYTES + COUNT_BYTES * sum(sizes[group]))}
        counted.append(count.options(**counting).remote(parts[group], counted_by))
    merged = merge_all(_add.options(**merging), counted)
    result = job.report / WORK / name
    ray.get(_save.options(**merging).remote(merged, result, job.require_owner))


@ray.remote
def _count_parts(parts: list[SequencePart], num_items: int) -> TransitionCounts:
    counts = (TransitionCounts.count(load_trainable(part), num_items) for part in parts)
    return functools.reduce(operator.add, counts)


@ray.remote
def _recent_parts(parts: list[SequencePart], window: Window) -> RecentRows:
    return functools.reduce(operator.add, (recent_rows(part, window) for part in parts))


@ray.remote
def _add(*counts: Any) -> Any:
    return functools.reduce(operator.add, counts)


@ray.remote
def _save(
    counts: TransitionCounts | RecentRows, location: Location, require_owner: Callable[[], None]
) -> None:
    require_owner()
    location.write_bytes(counts.to_bytes())
