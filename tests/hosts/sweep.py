"""Removal of what tests left behind that were killed: directories and control groups.

Their processes, and with them mounts and networks, have ended with the tests; names carry the
number of the process that made them.
"""

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PREFIX = "lightsans-hosts-"


def owner_of(name: str) -> int | None:
    """Number of the process that made a directory of this name; None for another's."""
    found = re.match(rf"{PREFIX}(\d+)-", name)
    return int(found[1]) if found else None


GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/cpuacct"))


def sweep(directories: Path = Path("/tmp"), groups: Sequence[Path] = GROUPS) -> list[str]:
    """Remove what is left of processes that have ended; the names."""
    removed = []
    for path in [found for place in (directories, *groups) for found in place.glob(f"{PREFIX}*")]:
        owner = owner_of(path.name)
        if owner is None or Path(f"/proc/{owner}").exists():
            continue
        if path.parent in groups:
            with suppress(OSError):
                path.rmdir()
        else:
            shutil.rmtree(path, ignore_errors=True)
        removed.append(path.name)
    return removed
