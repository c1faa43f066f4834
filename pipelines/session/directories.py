"""Directories of this process that nobody needs later: an embedded Ray's, and scratch space.

All are removed at the end of the process, those of processes that were killed by the next one that
makes such a directory. Ray's logs outlive a command that failed: `keep_logs` copies their ends.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lightsans.errors import ConfigError, StorageError

PREFIX = "lightsans-ray-"
_ALL = "lightsans-*"
"""Names of all such directories; those with an owner's lock are removed once it is free."""
KEPT_COMMANDS = 5
"""Failed commands whose logs are kept."""
KEPT_FILE_BYTES = 256 << 10
"""Bytes that are kept of one log, its end."""
KEPT_BYTES = 8 << 20
"""Bytes that are kept of all logs of a command."""

_LONGEST_SOCKET = 103
"""Bytes of a socket's path: 107 on Linux, 103 on macOS."""
_LEAST_FREE = 16 << 20
_SESSION = "session_2026-01-01_00-00-00_000000_1234567"
_OWNER, _CONTENT = "owner", "content"


@dataclass(frozen=True, slots=True)
class RayDirectories:
    """Places for the files of an embedded Ray."""

    sessions: str
    """Directory of sockets and logs; short."""
    scratch: str
    """Directory of spilled objects and temporary files of workers, below that of ``TMPDIR``."""


_made: dict[Path, int] = {}
"""Directories of this process with their locks."""


def make_ray_directories() -> RayDirectories:
    """Make the directories of an embedded Ray.

    Raises:
        ConfigError: No directory for temporary files can be written to.
        StorageError: All that can be written to are full.
    """
    candidates = list(dict.fromkeys([*_wanted(), "/tmp", "/var/tmp"]))
    reasons = {name: _reason_against(name) for name in candidates}
    usable = [name for name in candidates if reasons[name] is None]
    short = [name for name in usable if _fits(name)]
    if not short:
        found = "; ".join(f"{name}: {reason or 'too long'}" for name, reason in reasons.items())
        kind = StorageError if "no space left" in found else ConfigError
        raise kind(
            f"no directory for the files of a Ray on this machine ({found}); set TMPDIR to one "
            "that can be written to, with some space left, and at most "
            f"{_LONGEST_SOCKET - _bytes_below()} bytes long"
        )
    for parent in usable:
        _remove_abandoned(Path(parent))
    sessions = _make(short[0])
    scratch = sessions if usable[0] == short[0] else _make(usable[0])
    (scratch / "tmp").mkdir()
    return RayDirectories(str(sessions), str(scratch))


@contextmanager
def scratch_directory(prefix: str) -> Iterator[str]:
    """An empty directory for the time of the block, or of the process.

    Args:
        prefix: Beginning of its name, ``lightsans-``.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    path = _make(str(parent), prefix)
    (path / _CONTENT).mkdir()
    try:
        yield str(path / _CONTENT)
    finally:
        _remove(path)


def remove_directories() -> None:
    """Remove all directories of this process."""
    for path in list(_made):
        _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    lock = _made.pop(path, None)
    if lock is not None:
        os.close(lock)


def keep_logs() -> str | None:
    """Copy the ends of Ray's logs to where they outlive this command.

    Returns:
        The directory; None where there are no logs, or they cannot be kept.
    """
    logs = [log for made in _made for log in made.glob("session_*/logs/**/*") if log.is_file()]
    filled = sorted((log for log in logs if log.stat().st_size), key=lambda log: -_age_key(log))
    if not filled:
        return None
    try:
        parent = Path(tempfile.gettempdir()) / f"lightsans-logs-{os.getuid()}"
        parent.mkdir(mode=0o700, exist_ok=True)
        found = parent.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return None  # a stranger's
        kept = parent / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        kept.mkdir()
        _copy_ends(filled, kept)
        for old in sorted(parent.iterdir())[:-KEPT_COMMANDS]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:  # a full disk, perhaps: the error that is told first matters more
        return None
    return str(kept)


def _copy_ends(logs: list[Path], target: Path) -> None:
    left = KEPT_BYTES
    for log in logs:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - KEPT_FILE_BYTES))
            content = file.read(min(KEPT_FILE_BYTES, left))
        left -= len(content)
        (target / log.name).write_bytes(content)
        if not left:
            return


def _age_key(log: Path) -> float:
    return log.stat().st_mtime


def _wanted() -> list[str]:
    """Directories to try first: what the environment says."""
    named = [os.environ.get(name, "") for name in ("RAY_TMPDIR", "TMPDIR")]
    return [os.path.abspath(name) for name in named if name]


def _reason_against(directory: str) -> str | None:
    """Reason why a directory cannot be used, if there is one."""
    if not os.path.isdir(directory):
        return "no such directory"
    if not os.access(directory, os.W_OK | os.X_OK):
        return "it cannot be written to"
    if shutil.disk_usage(directory).free < _LEAST_FREE:
        return "no space left on its disk"
    return None


def _fits(directory: str) -> bool:
    return len(os.fsencode(directory)) + _bytes_below() <= _LONGEST_SOCKET


def _bytes_below() -> int:
    """Bytes of the longest path of a socket below a directory for temporary files."""
    return len(f"/{PREFIX}12345678/{_SESSION}/sockets/plasma_store")


def _make(parent: str, prefix: str = PREFIX) -> Path:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # The lock ends with this process, however it ends.
        lock = os.open(path / _OWNER, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / _OWNER).exists():  # nobody took it for abandoned before it was locked
            _made[path] = lock
            return path
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """Remove directories of this user whose process was killed."""
    for path in parent.glob(_ALL):
        with suppress(OSError):
            if path.lstat().st_uid != os.getuid() or path.is_symlink():
                continue
            lock = os.open(path / _OWNER, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
