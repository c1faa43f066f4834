"""Memory use of a stage: this process with its children, and Ray's spilling."""

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._private import internal_api

_SAMPLE_EVERY_S = 0.5


class MemoryWatch:
    """Peak memory of a process and its descendants, an embedded Ray with its workers for example.

    A page that several processes share counts once. Linux only: elsewhere the peak stays 0.
    """

    def __init__(self, pid: int | None = None) -> None:
        self.peak_bytes = 0
        self._pid = os.getpid() if pid is None else pid
        self._done = threading.Event()

    def look(self) -> None:
        """Take one sample."""
        self.peak_bytes = max(self.peak_bytes, sum(map(_proportional_bytes, _tree(self._pid))))

    @contextlib.contextmanager
    def watching(self) -> Iterator["MemoryWatch"]:
        """Look twice a second for the time of the block."""
        thread = threading.Thread(target=self._look_on, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()
            self.look()

    def _look_on(self) -> None:
        while not self._done.wait(_SAMPLE_EVERY_S):
            self.look()


def spilled_bytes() -> int | None:
    """Bytes that Ray's object stores have written to disk so far; None where Ray does not say."""
    try:  # Ray has no public name for it
        state = internal_api.get_state_from_address(  # type: ignore[no-untyped-call]
            ray.get_runtime_context().gcs_address
        )
        reply = internal_api.get_memory_info_reply(state)  # type: ignore[no-untyped-call]
        return int(reply.store_stats.spilled_bytes_total)
    except Exception:
        return None


def _tree(root: int) -> list[int]:
    """A process and its descendants."""
    children = defaultdict(list)
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
                children[int(fields[1])].append(int(name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _proportional_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
