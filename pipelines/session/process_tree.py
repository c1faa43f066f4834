"""Processes of this machine that a run consists of: a driver, its embedded Ray, and the workers.

Read from /proc, so Linux only: elsewhere there are no figures. Processes on other machines, and
those of a Ray that was there before, are no descendants and are not counted.
"""

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY_S = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """A process and its descendants at a moment."""

    processes: int
    handles: int
    """Open files, sockets and pipes of all of them."""
    driver_bytes: int
    """Memory of the first process alone; a page that several share counts in parts."""
    all_bytes: int
    """Memory of all of them."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    started: int
    """Ticks since the machine started; with the pid it names a process for ever."""
    seconds: float
    """Processor time so far, without that of children."""


class ProcessorClock:
    """Processor seconds of a process and its descendants, over the blocks that are watched.

    A process that ends between two samples is counted up to the last one before. Linux only:
    elsewhere `seconds` stays None.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = os.getpid() if pid is None else pid
        self._before: dict[tuple[int, int], float] = {}
        self._last: dict[tuple[int, int], float] = {}

    @property
    def seconds(self) -> float | None:
        """Processor time that passed in the block; None where the system does not say."""
        if not self._last:
            return None
        return sum(last - self._before.get(key, 0.0) for key, last in self._last.items())

    @property
    def processes(self) -> int:
        """Number of processes that were seen."""
        return len(self._last)

    def look(self) -> None:
        """Take one sample."""
        for process in read_tree(self._pid):
            self._last[process.pid, process.started] = process.seconds

    @contextlib.contextmanager
    def watching(self) -> Iterator["ProcessorClock"]:
        """Count the processor time of the block."""
        self.look()
        self._before = dict(self._last)
        done = threading.Event()

        def look_on() -> None:
            while not done.wait(SAMPLE_EVERY_S):
                self.look()

        thread = threading.Thread(target=look_on, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
            self.look()


def read_figures(pid: int | None = None) -> ProcessFigures | None:
    """Figures of a process, this one by default, with its descendants; None where nobody says."""
    tree = [process.pid for process in read_tree(os.getpid() if pid is None else pid)]
    if not tree:
        return None
    sizes = [proportional_bytes(each) for each in tree]
    return ProcessFigures(
        processes=len(tree),
        handles=sum(map(_count_handles, tree)),
        driver_bytes=sizes[0],
        all_bytes=sum(sizes),
    )


def read_tree(root: int) -> list[_Process]:
    """A process and its descendants, itself first; none where it ended, or without /proc."""
    found: dict[int, _Process] = {}
    children = defaultdict(list)
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                process = _parse(int(name), Path(f"/proc/{name}/stat").read_text())
                found[process.pid] = process
                children[process.parent].append(process)
    tree = [found[root]] if root in found else []
    for process in tree:
        tree += children[process.pid]
    return tree


def proportional_bytes(pid: int) -> int:
    """Memory of a process; a page that several share counts in parts. 0 where nobody says."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _parse(pid: int, stat: str) -> _Process:
    # The name, in brackets, may hold spaces and brackets. Numbers as in proc(5), from state on.
    fields = stat.rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    return _Process(pid, int(fields[1]), int(fields[19]), ticks / _TICKS)


def _count_handles(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0
