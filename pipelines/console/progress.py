"""Progress of a stage: bars on a terminal, lines elsewhere; all on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lightsans.errors import InputError
from pipelines.console.logs import log, logs_are_json

LINE_EVERY_S = 10.0
"""Least time between two lines of a bar without a terminal."""


def say(text: str, **fields: Any) -> None:
    """Print one line for people; ``fields`` are the numbers behind it, for the JSON format."""
    log(text, **fields)


def say_passed_over(error: InputError) -> None:
    """Say that a file which cannot be read was left out of a list."""
    say(f"WARNING: passed over: {error}")


def can_draw() -> bool:
    """Whether standard error is a terminal and lines are not JSON for a collector."""
    return sys.stderr.isatty() and not logs_are_json()


class Bar:
    """A running count of work done; `advance` it as pieces finish."""

    def __init__(self, description: str, total: int, progress: Progress | None) -> None:
        self._description, self._total, self._progress = description, total, progress
        self._task = progress.add_task(description, total=total, note="") if progress else None
        self._done, self._started = 0, time.monotonic()
        self._last_line = self._started

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add finished pieces; ``note`` is a word on the latest state."""
        self._done += count
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, note=note)
            return
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            left = (now - self._started) / self._done * (self._total - self._done)
            text = f"{self._description}: {self._done}/{self._total}, {left:.0f} s left {note}"
            say(text.rstrip(), done=self._done, total=self._total, left_s=round(left))


@contextmanager
def bar(description: str, total: int) -> Iterator[Bar]:
    """A progress bar for the time of the block."""
    if not can_draw():
        yield Bar(description, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(description, total, progress)
