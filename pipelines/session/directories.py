"""Directories of an embedded Ray, which nobody needs later.

Ray's logs outlive a command that failed: `keep_logs` copies their ends.
"""

import os
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lightsans.errors import ConfigError, StorageError
from lightsans.scratch import made_directories, make_directory

PREFIX = "lightsans-ray-"
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


@dataclass(frozen=True, slots=True)
class RayDirectories:
    """Places for the files of an embedded Ray."""

    sessions: str
    """Directory of sockets and logs; short."""
    scratch: str
    """Directory of spilled objects and temporary files of workers, below that of ``TMPDIR``."""


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
    sessions = make_directory(PREFIX, short[0])
    scratch = sessions if usable[0] == short[0] else make_directory(PREFIX, usable[0])
    (scratch / "tmp").mkdir()
    return RayDirectories(str(sessions), str(scratch))


def keep_logs() -> str | None:
    """Copy the ends of Ray's logs to where they outlive this command.

    Returns:
        The directory; None where there are no logs, or they cannot be kept.
    """
    below = (path for made in made_directories() for path in made.glob("session_*/logs/**/*"))
    logs = [path for path in below if path.is_file()]
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
