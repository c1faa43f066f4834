"""Memory use of a stage: this process with its children, and Ray's spilling."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import ray
from ray._private import internal_api

from pipelines.session.process_tree import SAMPLE_EVERY_S, proportional_bytes, read_tree

REST = 20
"""Least time between two looks, in times of what one takes: the kernel counts page by page."""


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
        sizes = [proportional_bytes(process.pid) for process in read_tree(self._pid)]
        self.peak_bytes = max(self.peak_bytes, sum(sizes))

    @contextlib.contextmanager
    def watching(self) -> Iterator["MemoryWatch"]:
        """Look twice a second for the time of the block, less often where looking takes long."""
        thread = threading.Thread(target=self._look_on, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()
            self.look()

    def _look_on(self) -> None:
        wait_s = SAMPLE_EVERY_S
        while not self._done.wait(wait_s):
            begun = time.thread_time()
            self.look()
            wait_s = max(SAMPLE_EVERY_S, REST * (time.thread_time() - begun))


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
