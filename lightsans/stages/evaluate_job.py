"""The question of an evaluation, and the parts of the dataset that its baselines are counted on.

Pairs of successive items grow with the log, and every process of an evaluation holds all of them.
So they are counted on whole parts, a random sample of the users, up to
`evaluate.counted_interactions`. Bytes are peaks that were measured at 10 million interactions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from lightsans.config import EvaluateConfig, RunConfig
from lightsans.dataset.held_out import Split
from lightsans.reports.evaluation_figures import (
    MODEL,
    POPULAR,
    POPULAR_RECENT,
    RECOMMENDATIONS,
    SUCCESSOR,
)
from lightsans.stages.window import Window
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest

T = TypeVar("T")

SPLITS: tuple[Split, ...] = ("valid", "test")
RANKS, WORK = "ranks", "work"
TRANSITIONS, RECENT = "baseline-counts.npz", "recent-rows.npz"

RECENT_INTERACTIONS = 20_000_000
"""Most interactions of popularity with a window, which keeps every row with its time."""
COUNT_BYTES = 72
"""Memory of a task that counts parts, for each of their interactions."""
MERGE_BYTES = 48
"""Memory of a task that adds up or writes counts, for each interaction they were made from."""

_READ_PAIR, _PAIR = 33, 16
_READ_RECENT, _RECENT = 25, 12
_PART = 60


@dataclass(frozen=True, slots=True)
class EvaluateJob:
    """Question and places that all processes of an evaluation share."""

    config: RunConfig
    dataset: Location
    dataset_manifest: DatasetManifest
    model: Location
    map_items: bool
    window: Window | None
    groups: Mapping[str, Any] | None
    """Identity of the table by which users are told apart."""
    report: Location
    require_owner: Callable[[], None]
    """Raises where another process makes the report by now: its workers write nothing more."""

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines, in order."""
        recent = [POPULAR_RECENT] if self.window is not None else []
        return [POPULAR, *recent, SUCCESSOR]

    @property
    def scorers(self) -> list[str]:
        """Names of all that are ranked, in order."""
        given = [RECOMMENDATIONS] if self.config.evaluate.recommendations is not None else []
        return [MODEL, *self.baselines, *given]


def most_counted(config: EvaluateConfig, *, recent: bool) -> int:
    """Interactions that a baseline is counted on at most, but for a first part that has more."""
    counted = config.counted_interactions
    return min(counted, RECENT_INTERACTIONS) if recent else counted


def counted_parts(parts: Sequence[T], manifest: DatasetManifest, most: int) -> list[T]:
    """The first parts that together stay within so many interactions; at least one.

    Args:
        parts: Something for each part of the dataset, in order.
        manifest: Manifest of the dataset.
        most: Interactions.
    """
    interactions = np.cumsum([part.interactions for part in manifest.parts])
    return list(parts[: max(1, int(np.searchsorted(interactions, most, "right")))])


def counted_interactions(config: EvaluateConfig, manifest: DatasetManifest, recent: bool) -> int:
    """Interactions that a baseline is counted on."""
    chosen = counted_parts(manifest.parts, manifest, most_counted(config, recent=recent))
    return sum(part.interactions for part in chosen)


def evaluator_bytes(config: EvaluateConfig, manifest: DatasetManifest, parameters: int) -> int:
    """Memory of a process that ranks whole parts, besides that of any process.

    Args:
        config: The protocol.
        manifest: Manifest of the dataset.
        parameters: Numbers of the model: it is held as it was read, as a model, and as unit
            vectors.
    """
    pairs = min(counted_interactions(config, manifest, recent=False), manifest.items**2)
    rows = 0
    if config.popular_days is not None:
        rows = counted_interactions(config, manifest, recent=True)
    part = max((part.interactions for part in manifest.parts), default=0)
    counts = max(_READ_PAIR * pairs, _PAIR * pairs + _READ_RECENT * rows)
    ranking = _PAIR * pairs + _RECENT * rows + _PART * part
    return 3 * 4 * parameters + max(counts, ranking)
