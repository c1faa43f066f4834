"""Programs that tests start beside themselves: where they run, and when they are far enough."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
SMALL_RUN = (
    "data.num_parts=3",
    "model.max_seq_len=12",
    "model.hidden_size=16",
    "model.inner_size=32",
    "model.n_layers=1",
    "model.k_interests=3",
    "model.hidden_dropout_prob=0",
    "model.attn_dropout_prob=0",
    "train.learning_rate=0.01",
    "score.k=7",
)
"""Settings of a run whose parts are small, and whose model trains in seconds."""


def wait_until(condition: Callable[[], bool], process: Any = None, timeout_s: float = 240) -> bool:
    """Wait for a condition; false when the process, if one is given, has ended before."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        if process is not None and process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def processes_of(nodes: Iterable[Any], name: bytes) -> list[int]:
    """Ids of the Ray workers on nodes of a cluster whose command line has a name in it."""
    raylets = {str(node.all_processes["raylet"][0].process.pid) for node in nodes}
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = (directory / "stat").read_text().rpartition(") ")[2].split()[1]
            if parent in raylets and name in (directory / "cmdline").read_bytes():
                found.append(int(directory.name))
        except OSError:  # it ended meanwhile
            continue
    return found
