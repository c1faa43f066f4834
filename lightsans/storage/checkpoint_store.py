"""Checkpoints of a run: written beside training, found again whatever ended it.

    checkpoints/  epoch-00002/                the state after two epochs
                  epoch-00002-step-00000120/  the same, and 120 steps of the third
                    progress.json             position, learning curve, best epoch, owner
                    <owner>/                  the other files

A checkpoint is complete once its `PROGRESS` file exists. That one is written last and removed
first, so neither an interrupted upload nor an interrupted removal is ever taken for a checkpoint.
It names the directory of the other files, which belongs to one owner: a checkpoint never consists
of files of two runs, even if workers of an earlier owner are still alive and writing.
"""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from lightsans.storage.location import Location
from lightsans.storage.records import from_json, parse_object

PROGRESS = "progress.json"

Files = dict[str, bytes]
"""Content by name; `PROGRESS` is among them, a JSON object with the number ``best_epoch``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    """Fields of `PROGRESS` that the store reads; those of the training run stand beside them."""

    best_epoch: int = 0
    """Number of the best epoch so far; 0 before the first one ends."""
    owner: str = ""
    """Directory of the other files; older checkpoints have none."""


def checkpoint_name(epochs: int, steps: int | None = None) -> str:
    """The name of a position: finished epochs, and steps of the next; names sort by position."""
    name = f"epoch-{epochs:05d}"
    return name if steps is None else f"{name}-step-{steps:08d}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint."""

    location: Location
    progress: bytes
    """The content of its `PROGRESS` file."""
    best: str | None
    """Name of the checkpoint of the best epoch so far; None before the first epoch ends."""
    owner: str
    """Token of the run that wrote it; "" where no other run could."""

    def read(self, file: str) -> bytes:
        """The content of one of its files."""
        return (_files_directory(self.location, self.owner) / file).read_bytes()


class CheckpointStore:
    """The checkpoints of one run; one worker writes, all may read.

    Args:
        directory: Directory of the checkpoints.
        keep: How many of the newest to keep. The best epochs that these name are kept besides.
        owner: Token of the run that writes; "" where no other run can write.
        require_owner: Raises where another run has taken over.
    """

    def __init__(
        self,
        directory: Location,
        keep: int = 2,
        owner: str = "",
        require_owner: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory, self._keep = directory, keep
        self._owner, self._require_owner = owner, require_owner
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    @property
    def is_writing(self) -> bool:
        """Whether the last checkpoint is not yet complete."""
        return self._writing is not None and not self._writing.done()

    def write(self, name: str, make_files: Callable[[], Files]) -> None:
        """Begin to write a checkpoint, once the one before is written; older ones are removed.

        Args:
            name: A `checkpoint_name`.
            make_files: Makes its files, in another thread: it must own what it reads.

        Raises:
            OSError: The checkpoint before could not be written.
            LeaseError: Another run has taken over; the checkpoint before was not written.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, name, make_files)

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            OSError: It could not be written.
            LeaseError: Another run has taken over; the last checkpoint was not written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Wait until nothing is being written; what went wrong is told by `wait`."""
        self._thread.shutdown()

    def names(self) -> list[str]:
        """Complete checkpoints, oldest first."""
        return complete_checkpoints(self._directory)

    def _write(self, name: str, make_files: Callable[[], Files]) -> None:
        files = make_files()
        progress = json.loads(files[PROGRESS]) | {"owner": self._owner}
        checkpoint = self._directory / name
        self._require_owner()
        # A checkpoint of this name, left by an earlier run, is no longer complete from here on.
        (checkpoint / PROGRESS).delete()
        for file, content in files.items():
            if file != PROGRESS:
                (_files_directory(checkpoint, self._owner) / file).write_bytes(content)
        # Writing may have taken minutes, in which another run may have taken over.
        self._require_owner()
        (checkpoint / PROGRESS).write_bytes(json.dumps(progress).encode())
        self._remove_old(name)

    def _remove_old(self, written: str) -> None:
        """Remove all but the newest checkpoints, the best epochs they name, and the one written."""
        complete = self.names()
        if len(complete) <= self._keep:
            return
        kept = {written, *complete[-self._keep :]}
        for name in list(kept):
            checkpoint = find_checkpoint(self._directory / name)
            if checkpoint is not None and checkpoint.best is not None:
                kept.add(checkpoint.best)
        for old in complete:
            if old not in kept:
                _remove(self._directory / old)


def complete_checkpoints(directory: Location) -> list[str]:
    """Names of the complete checkpoints below a directory, oldest first."""
    names = [name for name in directory.children() if name.startswith("epoch-")]
    return [name for name in names if (directory / name / PROGRESS).exists()]


def find_checkpoint(location: Location) -> Checkpoint | None:
    """The checkpoint of a directory; None where it is missing or incomplete.

    Raises:
        InputError: Its `PROGRESS` file is damaged.
    """
    file = location / PROGRESS
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    header = from_json(_Header, parse_object(content, str(file)), str(file))
    best = checkpoint_name(header.best_epoch) if header.best_epoch else None
    return Checkpoint(location, content, best, header.owner)


def discard_without_best(directory: Location) -> list[str]:
    """Remove the checkpoints whose best epoch is missing: a run cannot be finished from them.

    Returns:
        Names of the best epochs that are missing; empty where nothing was removed.
    """
    names = complete_checkpoints(directory)
    missing = set()
    for name in names:
        checkpoint = find_checkpoint(directory / name)
        if checkpoint is not None and checkpoint.best not in (None, *names):
            missing.add(str(checkpoint.best))
            _remove(directory / name)
    return sorted(missing)


def remove_checkpoints(directory: Location) -> None:
    """Remove all checkpoints of a run; none of which only a part is left is taken for one."""
    for name in complete_checkpoints(directory):
        _remove(directory / name)


def _files_directory(checkpoint: Location, owner: str) -> Location:
    return checkpoint / owner if owner else checkpoint


def _remove(checkpoint: Location) -> None:
    (checkpoint / PROGRESS).delete()
    checkpoint.delete()
