"""Counts of training interactions for the baselines, made by tasks and merged in a tree."""

import functools
import operator
from typing import Any

import numpy as np
import ray

from lightsans.dataset.loading import load_trainable
from lightsans.ranking.baselines import TransitionCounts
from lightsans.ranking.recent import RecentRows
from lightsans.stages.window import Window, recent_rows
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from pipelines.console.progress import say
from pipelines.session.merge_tree import merge_all

PARTS_PER_COUNT = 8
MAX_COUNTED_INTERACTIONS = 50_000_000
"""The baselines are counted on whole parts (a random sample of the users) up to this many
interactions: pairs of successive items would otherwise grow with the log."""
MAX_RECENT_INTERACTIONS = 20_000_000
"""The same for popularity with a window, which keeps every row with its time: 12 bytes each."""


def count_transitions(
    parts: list[Location], manifest: DatasetManifest, num_items: int, result: Location
) -> None:
    """Write the counts of items and of successive pairs, which the driver never holds."""
    chosen = _sample(parts, manifest, MAX_COUNTED_INTERACTIONS, "baselines are")
    _merge(chosen, _count_parts, (num_items,), result)


def collect_recent(
    parts: list[Location], manifest: DatasetManifest, window: Window, result: Location
) -> None:
    """Write the rows that a window may count, which the driver never holds."""
    chosen = _sample(parts, manifest, MAX_RECENT_INTERACTIONS, "recent popularity is")
    _merge(chosen, _recent_parts, (window,), result)


def _sample(
    parts: list[Location], manifest: DatasetManifest, most: int, what: str
) -> list[Location]:
    """The first parts that together stay within so many interactions; at least one."""
    interactions = np.cumsum([part.interactions for part in manifest.parts])
    kept = max(1, int(np.searchsorted(interactions, most, "right")))
    if kept < len(parts):
        say(f"evaluate: {what} counted on {kept} of {len(parts)} parts")
    return parts[:kept]


def _merge(parts: list[Location], count: Any, arguments: tuple[Any, ...], result: Location) -> None:
    counted = (
        count.remote(parts[first : first + PARTS_PER_COUNT], *arguments)
        for first in range(0, len(parts), PARTS_PER_COUNT)
    )
    ray.get(_save.remote(merge_all(_add, counted), result))


@ray.remote
def _count_parts(parts: list[Location], num_items: int) -> TransitionCounts:
    counts = (TransitionCounts.count(load_trainable(part), num_items) for part in parts)
    return functools.reduce(operator.add, counts)


@ray.remote
def _recent_parts(parts: list[Location], window: Window) -> RecentRows:
    return functools.reduce(operator.add, (recent_rows(part, window) for part in parts))


@ray.remote
def _add(*counts: Any) -> Any:
    return functools.reduce(operator.add, counts)


@ray.remote
def _save(counts: TransitionCounts | RecentRows, location: Location) -> None:
    location.write_bytes(counts.to_bytes())
