"""Times and memory of the stages of this process, for whoever asks: a night and its report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageTime:
    """One result that a stage found, made, or failed to make."""

    stage: str
    """Name of the stage, such as ``train``."""
    kind: str
    """Kind of the result, such as ``model``."""
    id: str
    is_found: bool = False
    """Whether it had been made before."""
    seconds: float = 0.0
    peak_bytes: int = 0
    """Most memory that this process and its descendants held; 0 where the system does not say.
    Workers on other machines are not counted."""
    has_failed: bool = False


_recorders: list[list[StageTime]] = []


@contextmanager
def recorded_stages() -> Iterator[list[StageTime]]:
    """Collect the stages of the block, in the order in which they end."""
    found: list[StageTime] = []
    _recorders.append(found)
    try:
        yield found
    finally:
        _recorders.remove(found)


def note_stage(stage: StageTime) -> None:
    """Add a stage to all that record."""
    for recorder in _recorders:
        recorder.append(stage)


@contextmanager
def timed_stage(stage: str, kind: str, name: str) -> Iterator[None]:
    """Measure the block as the making of one result; costs nothing where nobody records."""
    if not _recorders:
        yield
        return
    from pipelines.session.memory import MemoryWatch  # Ray comes with it

    begun, has_failed = time.monotonic(), True
    with MemoryWatch().watching() as watch:
        try:
            yield
            has_failed = False
        finally:
            watch.look()
            seconds = round(time.monotonic() - begun, 3)
            measured = StageTime(
                stage,
                kind,
                name,
                seconds=seconds,
                peak_bytes=watch.peak_bytes,
                has_failed=has_failed,
            )
            note_stage(measured)
