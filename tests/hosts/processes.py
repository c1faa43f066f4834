"""Processes that were started elsewhere: their output, children and ends."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COMMAND_S = 240.0
"""Time limit of a command, unless it is given another."""


@dataclass
class Running:
    """A command that runs on a host."""

    process: subprocess.Popen[bytes]
    log: Path
    limit_s: float

    def text(self) -> str:
        """Output so far."""
        return self.log.read_text(errors="replace")

    def wait(self, limit_s: float | None = None) -> int:
        """Exit status of the command; 124 where it ran out of time."""
        return self.process.wait((limit_s or self.limit_s) + 30)

    def is_running(self) -> bool:
        """Whether the command has not ended."""
        return self.process.poll() is None


def first_line(process: subprocess.Popen[str]) -> str:
    """Read the first line of a process's output, and no more of it."""
    assert process.stdout is not None
    with process.stdout:
        return process.stdout.readline()


def child_of(process: int) -> int:
    """Number of the one child of a process."""
    (child,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(child)


def wait_for(
    condition: Callable[[], bool],
    limit_s: float,
    goes_on: Callable[[], bool] = lambda: True,
    every_s: float = 0.2,
) -> bool:
    """Wait for a condition; false when time is over or nothing goes on."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline or not goes_on():
            return condition()
        time.sleep(every_s)
    return True
