"""Job of all workers of a training; the driver, which hands it out, does without PyTorch."""

from dataclasses import dataclass
from typing import Any

from lightsans.config import RunConfig
from lightsans.storage.location import Location
from pipelines.session.lease import Owner
from pipelines.train.board import Board


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJob:
    """Job of all workers of a run."""

    config: RunConfig
    dataset: Location
    """A finished dataset. Workers run in other directories, where ``config.root`` may not hold."""
    model: Location
    """Directory of the model; a run that was interrupted there goes on."""
    board: Board
    owner: Owner | None = None
    """Token of the run that may write checkpoints; None where no other can."""
    tapes: tuple[Any, ...] = ()
    """References to the sequences of each shard in Ray's object store; empty to read them."""
    begins_with: str | None = None
    """SHA-256 of the weights of ``train.warm_start``, which the model's id stands for."""
    barrier: Any = None
    """The actor at which the workers of a trial wait after each epoch."""

    @property
    def checkpoints(self) -> Location:
        """Directory of the checkpoints."""
        return self.model / "checkpoints"
