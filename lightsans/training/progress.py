"""Progress of a training run: the learning curve, the position, and messages within an epoch.

Apart from the training loop, so that whoever only watches a run need not load PyTorch.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Array
from lightsans.storage.checkpoint_store import PROGRESS, checkpoint_name
from lightsans.storage.location import Location
from lightsans.storage.records import always_written, from_json, parse_json, to_json

PROGRESS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One line of the learning curve."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Mean over the epoch's targets."""
    targets: int
    """Targets of the epoch, over all workers; overlapping windows count theirs again."""
    distinct_targets: int
    train_s: float
    """Training alone, over all interruptions."""
    valid_s: float
    valid: dict[str, float]
    """Empty where nothing is held out."""
    load_s: float = 0.0
    """Part of train_s in which rank 0 made batches."""
    communication_s: float = 0.0
    """Part of train_s in which rank 0 reduced gradients and computed nothing."""
    compute_s: float = 0.0
    """Rest of train_s."""
    gradient_norm: float = 0.0
    """Mean over steps of the global norm, before clipping."""
    learning_rate: float = 0.0
    """Learning rate at the end of the epoch."""
    memory_mib: float = 0.0
    """Most that rank 0 has held so far: GPU memory, or the process's resident memory."""

    @property
    def targets_per_s(self) -> float:
        """Throughput of training over all workers."""
        return self.targets / max(self.train_s, 1e-9)


def read_history(file: Location) -> list[EpochRow]:
    """The learning curve in the ``history.json`` of a model.

    Raises:
        InputError: The file is damaged.
    """
    return from_json(list[EpochRow], parse_json(file.read_bytes(), str(file)), str(file))


@dataclass(slots=True, kw_only=True)
class Partial:
    """State of an unfinished epoch, between two steps."""

    step: int
    """Steps done."""
    loss_sums: list[float]
    """Sum of losses of every worker, over its own targets so far."""
    seconds: dict[str, float]
    """``train_s``, ``load_s`` and ``communication_s`` so far."""
    norm_sum: float
    """Sum of the gradient norms so far."""

    def own_loss_sum(self, rank: int, world_size: int) -> float:
        """A worker's share of the loss so far; rank 0 has it all when their number has changed."""
        if len(self.loss_sums) == world_size:
            return self.loss_sums[rank]
        return sum(self.loss_sums) if rank == 0 else 0.0


@dataclass(slots=True)
class Progress:
    """State of a run between two steps; JSON-able."""

    history: list[EpochRow] = always_written(make=list)
    best_epoch: int = always_written(0)
    stopped: bool = always_written(False)
    partial: Partial | None = always_written(None)
    """The epoch after those of the history, where it has begun."""

    @property
    def name(self) -> str:
        """A name for this position; names sort as positions do."""
        return checkpoint_name(len(self.history), self.partial.step if self.partial else None)

    def to_json(self) -> str:
        """Serialize to text, for the checkpoint."""
        return json.dumps(to_json(self))

    @classmethod
    def from_json(cls, text: str | bytes, name: str = PROGRESS) -> "Progress":
        """Parse the text of `to_json`.

        Args:
            text: Content of the file.
            name: Name of the file, for errors.

        Raises:
            InputError: The file is damaged.
        """
        return from_json(cls, parse_json(text, name), name)


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Position and speed in the middle of an epoch."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    targets_per_s: float
    left_s: float
    """Time until the epoch's last step, at this speed."""


class ProgressThrottle:
    """Throttles the progress messages of an epoch.

    Args:
        report: Called with the progress at most every `PROGRESS_EVERY_S` seconds.
        epoch: Number of the epoch, from 0.
        targets: (number of steps,) targets of each step.
        begin: Steps that were done before.
    """

    def __init__(
        self,
        report: Callable[[StepProgress], None],
        epoch: int,
        targets: Array,
        begin: int,
    ) -> None:
        self._report, self._epoch = report, epoch
        self._targets = np.cumsum(targets)
        self._before = float(self._targets[begin - 1]) if begin else 0.0
        self._started = self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether enough time has passed since the last message."""
        return time.monotonic() - self._last >= PROGRESS_EVERY_S

    def report(self, step: int, loss: float) -> None:
        """Report the progress after a step, counted from 0."""
        self._last = time.monotonic()
        done, all_targets = float(self._targets[step]), float(self._targets[-1])
        speed = (done - self._before) / (self._last - self._started)
        left_s = (all_targets - done) / max(speed, 1e-9)
        num_steps = len(self._targets)
        self._report(StepProgress(self._epoch + 1, step + 1, num_steps, loss, speed, left_s))
