"""Directories of this process that nobody needs later: uploads on their way, room of libraries.

All are removed at the end of the process; those of a process that was killed by the next one that
makes such a directory beside them: its owner's lock is free.
"""

import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ALL = "lightsans-*"
"""Names of all such directories; those with an owner's lock are removed once it is free."""
_OWNER, _CONTENT = "owner", "content"

_made: dict[Path, int] = {}
"""Directories of this process with their locks."""


@contextmanager
def scratch_directory(prefix: str = "lightsans-") -> Iterator[str]:
    """An empty directory for the time of the block, or of the process.

    Args:
        prefix: Beginning of its name, ``lightsans-``.
    """
    path = make_directory(prefix)
    (path / _CONTENT).mkdir()
    try:
        yield str(path / _CONTENT)
    finally:
        remove_directory(path)


def make_directory(prefix: str = "lightsans-", parent: str | None = None) -> Path:
    """Make a directory that `remove_directory` removes, or the end of this process.

    Args:
        prefix: Beginning of its name, ``lightsans-``.
        parent: Where it lies; None for the place of temporary files.
    """
    parent = tempfile.gettempdir() if parent is None else parent
    _remove_abandoned(parent)
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # The lock ends with this process, however it ends.
        lock = os.open(path / _OWNER, os.O_CREAT | os.O_RDWR, 0o600)
        with suppress(OSError):  # a disk without locks: nobody gets one there, and all stays
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / _OWNER).exists():  # nobody took it for abandoned before it was locked
            _made[path] = lock
            return path
        os.close(lock)


def remove_directory(path: Path) -> None:
    """Remove a directory of this process, if it is still there."""
    shutil.rmtree(path, ignore_errors=True)
    lock = _made.pop(path, None)
    if lock is not None:
        os.close(lock)


def remove_directories() -> None:
    """Remove all directories of this process."""
    for path in made_directories():
        remove_directory(path)


def made_directories() -> list[Path]:
    """List the directories of this process."""
    return list(_made)


@functools.cache  # what is killed later is for the next process
def _remove_abandoned(parent: str) -> None:
    """Remove directories of this user whose process was killed."""
    for path in Path(parent).glob(_ALL):
        with suppress(OSError):
            if path.lstat().st_uid != os.getuid() or path.is_symlink():
                continue
            lock = os.open(path / _OWNER, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
