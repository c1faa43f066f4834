"""Windows of recent popularity: when they end, and which rows they may count."""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Int64
from lightsans.columns.times import from_iso
from lightsans.dataset.held_out import Split
from lightsans.dataset.loading import load_timed, trainable_rows
from lightsans.ranking.recent import RecentRows, count_rows, rows_before, training_rows
from lightsans.reading.times import parse_moment
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import sequence_parts


@dataclass(frozen=True, slots=True)
class Window:
    """The window of recent popularity, and the moments at which it ends."""

    days: int
    cutoffs: dict[Split, int]
    """Microseconds, by split, of a temporal split; empty for leave-one-out, where the window of
    each target ends at its own time."""


def find_window(days: int | None, manifest: DatasetManifest) -> Window | None:
    """The window over a dataset; None when there is to be none.

    Args:
        days: ``evaluate.popular_days``.
        manifest: Manifest of the dataset.
    """
    if days is None:
        return None
    begins: dict[Split, str] = {"valid": "valid_from", "test": "test_from"}
    found = manifest.cutoffs or {}
    cutoffs = {split: from_iso(found[name]) for split, name in begins.items() if name in found}
    return Window(days, cutoffs)


def recent_rows(part: Location, window: Window) -> RecentRows:
    """The rows of a part that a window may count: see `docs/decisions.md`."""
    users = load_timed(part, trainable_rows(), None)
    if not window.cutoffs:
        return training_rows(users.sequences, users.timestamps)
    moments = list(window.cutoffs.values())
    return rows_before(users.sequences, users.timestamps, moments, window.days)


def window_end(manifest: DatasetManifest) -> int:
    """Microsecond after the newest interaction of a dataset, which ``data.as_of`` may precede."""
    newest = from_iso(manifest.time_range[1]) + 1
    as_of = manifest.data["as_of"]
    if as_of is None:
        return newest
    return min(newest, int(parse_moment(as_of, manifest.data["timezone"]) or newest))


def request_moment(manifest: DatasetManifest) -> int:
    """Microsecond for which the users of a dataset are scored: ``data.as_of``, or the newest time.

    Args:
        manifest: Manifest of the dataset.
    """
    as_of, newest = manifest.data["as_of"], from_iso(manifest.time_range[1])
    if as_of is None:
        return newest
    return int(parse_moment(as_of, manifest.data["timezone"]) or newest)


def count_here(
    dataset: Location, manifest: DatasetManifest, windows: Sequence[int]
) -> dict[int, Int64]:
    """Interactions of each item in the newest days of a dataset, counted in this process.

    Args:
        dataset: The dataset.
        manifest: Its manifest.
        windows: Numbers of days; without any, nothing is read.
    """
    if not windows:
        return {}
    parts, end = sequence_parts(dataset, manifest), window_end(manifest)
    return dict(zip(windows, count_parts(parts, end, windows, manifest.items), strict=True))


def count_parts(
    parts: Sequence[Location], end: int, windows: Sequence[int], num_items: int
) -> Int64:
    """Interactions of each item of some parts before a moment, (windows, num_items + 1).

    Args:
        parts: The parts.
        end: The moment, in microseconds.
        windows: Numbers of days.
        num_items: Size of the catalogue.
    """

    def count(part: Location) -> Int64:
        users = load_timed(part, None, None)
        times = users.timestamps
        return np.stack(
            [count_rows(users.sequences, times, end, days, num_items) for days in windows]
        )

    return functools.reduce(operator.add, map(count, parts))
