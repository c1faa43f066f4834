"""Checkpoints of a run: written beside training, found again whatever ended it.

    checkpoints/  epoch-00002/                the state after two epochs
                  epoch-00002-step-00000120/  the same, and 120 steps of the third

A checkpoint counts once its `PROGRESS` file exists. That one is written last and removed first, so
neither an interrupted upload nor an interrupted removal is ever taken for a checkpoint.
"""

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor

from lightsans.storage.location import Location

PROGRESS = "progress.json"

Files = dict[str, bytes]
"""Content by name; `PROGRESS` is among them."""


class CheckpointStore:
    """The checkpoints of one run; one worker writes, all may read.

    Args:
        directory: Of the checkpoints.
        keep: How many of the newest to keep.
    """

    def __init__(self, directory: Location, keep: int = 2) -> None:
        self._directory, self._keep = directory, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    @property
    def is_writing(self) -> bool:
        """Whether the last checkpoint is still on its way."""
        return self._writing is not None and not self._writing.done()

    def write(
        self, name: str, make_files: Callable[[], Files], also_kept: Collection[str] = ()
    ) -> None:
        """Begin to write a checkpoint, once the one before is written; older ones are removed.

        Args:
            name: Of the checkpoint; names sort by age.
            make_files: Makes its files, in another thread: it must own what it reads.
            also_kept: Checkpoints to keep besides the newest.

        Raises:
            OSError: The checkpoint before could not be written.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, name, make_files, frozenset(also_kept))

    def wait(self) -> None:
        """Wait until what was begun is written.

        Raises:
            OSError: It could not be.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def names(self) -> list[str]:
        """Complete checkpoints, oldest first."""
        return complete_checkpoints(self._directory)

    def _write(self, name: str, make_files: Callable[[], Files], also_kept: frozenset[str]) -> None:
        files = make_files()
        for file in sorted(files, key=lambda file: file == PROGRESS):
            (self._directory / name / file).write_bytes(files[file])
        complete = self.names()
        kept = {*complete[-self._keep :], *also_kept}
        for old in complete:
            if old not in kept:
                (self._directory / old / PROGRESS).delete()
                (self._directory / old).delete()


def complete_checkpoints(directory: Location) -> list[str]:
    """Names of the complete checkpoints below a directory, oldest first."""
    names = [name for name in directory.children() if name.startswith("epoch-")]
    return [name for name in names if (directory / name / PROGRESS).exists()]
