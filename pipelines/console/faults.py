"""Faults of a machine and its disks, in words: full, read-only, without rights."""

import errno
import os
import re
from collections.abc import Iterator
from typing import Any

from lightsans.errors import AccessError, ConfigError, LightSANsError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_SPACE = f"[Errno {errno.ENOSPC}]"
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)
"""Errors that only a path given by the user can cause."""
_LIMITS = (errno.EMFILE, errno.ENFILE)


def explain_fault(error: BaseException) -> LightSANsError | None:
    """An error that says what a person has to do about the machine; None where it is another one.

    Args:
        error: Exception of this process, or of a worker: its causes are looked at, too.
    """
    for cause in _causes(error):
        if isinstance(cause, LightSANsError):
            return cause
        if type(cause).__name__ == "OutOfDiskError":  # Ray's
            return _full("the disk for Ray's temporary files")
        if type(cause).__name__ == "RuntimeEnvSetupError" and _NO_SPACE in str(cause):
            node = re.search(r"\[Node (\S+)\]", str(cause))  # Ray tells the cause as text alone
            return _full(f"the disk for Ray's temporary files{f' on {node[1]}' if node else ''}")
        if not isinstance(cause, OSError) or cause.errno is None:
            continue
        path = os.fsdecode(cause.filename) if isinstance(cause.filename, str | bytes) else ""
        if cause.errno in _FULL:
            return _full(path or "a disk")
        if cause.errno in _LIMITS:
            return StorageError(f"{cause.strerror}; raise the limit of open files (ulimit -n)")
        if cause.errno in _DENIED and path:
            return AccessError(
                f"{path}: {cause.strerror}; name another path, or give the user of this process "
                "access to it"
            )
        if cause.errno in _PATH and path:
            return ConfigError(f"{path}: {cause.strerror}; name another path")
    return None


def _full(what: str) -> StorageError:
    return StorageError(
        f"{what}: no space left; free some (or set root, or TMPDIR, to another disk) and run the "
        "same command: it goes on from here"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came of, as Python and Ray say it."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        current = pending.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        failures = getattr(current, "worker_failures", None)
        pending += [getattr(current, "cause", None), current.__cause__]
        pending += list(failures.values()) if isinstance(failures, dict) else []
