"""Parts of a dataset that the baselines are counted on, and the memory that their counts take.

Pairs of successive items grow with the log, and every process of an evaluation holds all of them.
So they are counted on whole parts, a random sample of the users, up to
`evaluate.counted_interactions`. Bytes are peaks that were measured at 10 million interactions.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from lightsans.config import EvaluateConfig
from lightsans.storage.manifest_kinds import DatasetManifest

T = TypeVar("T")

RECENT_INTERACTIONS = 20_000_000
"""Most interactions of popularity with a window, which keeps every row with its time."""
COUNT_BYTES = 72
"""Memory of a task that counts parts, for each of their interactions."""
MERGE_BYTES = 48
"""Memory of a task that adds up or writes counts, for each interaction they were made from."""

_READ_PAIR, _PAIR = 33, 16
_READ_RECENT, _RECENT = 25, 12
_PART = 60


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
