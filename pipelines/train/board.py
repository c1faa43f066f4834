"""Live progress of training: workers post to an actor, the driver reads it and draws.

Lines that workers print reach the driver late, prefixed and mixed with Ray's own; a small actor
keeps their progress until a thread of the driver fetches it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from rich.console import Console
from rich.live import Live

from lightsans.errors import LightSANsError
from lightsans.training.progress import EpochRow, StepProgress
from pipelines.console.progress import can_draw, say
from pipelines.session.ray_session import on_this_machine

POLL_S = 0.5
LINE_EVERY_S = 30.0
"""Least time between two lines of a long epoch without a terminal."""


class TrainingBoard:
    """Keeps the progress and the errors of a run's workers; runs as a Ray actor."""

    def __init__(self) -> None:
        self._resumed = (0, 0)
        self._step: StepProgress | None = None
        self._rows: dict[int, EpochRow] = {}
        self._error: LightSANsError | None = None

    def resume(self, epoch: int, step: int) -> None:
        """Note that the run goes on after so many epochs, and steps of the next."""
        self._resumed = (epoch, step)

    def step(self, progress: StepProgress) -> None:
        """Note the progress of the current epoch."""
        self._step = progress

    def epoch(self, row: EpochRow) -> None:
        """Note a finished epoch."""
        self._rows[row.epoch] = row

    def fail(self, error: LightSANsError) -> None:
        """Note an error that a restart of the workers cannot mend."""
        self._error = self._error or error

    def error(self) -> LightSANsError | None:
        """The noted error; it ends the run."""
        return self._error

    def read(self, after: int) -> tuple[tuple[int, int], StepProgress | None, list[EpochRow]]:
        """Position of the last resume, the latest step, and the epochs after the given one."""
        rows = [row for epoch, row in sorted(self._rows.items()) if epoch > after]
        return self._resumed, self._step, rows


def start_board() -> Any:
    """A board for one run, as an actor that takes no CPU.

    It lives on the driver's machine, with which the run ends anyway, if that takes actors at all. A
    board that is lost elsewhere begins again empty: progress that was printed is not needed again,
    and the rest is in the checkpoints.
    """
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(TrainingBoard)
    return actor.options(scheduling_strategy=on_this_machine()).remote()


def has_failed(board: Any) -> bool:
    """Whether an error is noted that a restart of the workers cannot mend."""
    return ray.get(board.error.remote()) is not None


def raise_noted_error(board: Any) -> None:
    """Raise the error noted on a board, if there is one."""
    error: LightSANsError | None = ray.get(board.error.remote())
    if error is not None:
        raise error


class ProgressPrinter:
    """Prints a line per epoch, and within an epoch a live line or, without a terminal, a few."""

    def __init__(self, epochs: int, live: Live | None) -> None:
        self._epochs, self._live = epochs, live
        self.shown = 0
        """The last epoch that was printed."""
        self._finished, self._seconds = 0, 0.0
        self._last_line = time.monotonic()

    def resume(self, epoch: int, step: int) -> None:
        """Print that the run goes on after so many epochs, and steps of the next."""
        self.shown = max(self.shown, epoch)
        self._say(f"train: the run goes on after epoch {epoch}" + f", step {step}" * (step > 0))

    def epoch(self, row: EpochRow) -> None:
        """Print a finished epoch."""
        self.shown, self._finished = row.epoch, self._finished + 1
        self._seconds += row.train_s + row.valid_s
        left_s = self._seconds / self._finished * (self._epochs - row.epoch)
        line = format_row(row, self._epochs, left_s)
        if self._live is None:
            self._say(line, **asdict(row))
        else:
            self._live.console.print(line, highlight=False)

    def step(self, progress: StepProgress) -> None:
        """Print the progress of an epoch, unless it is over."""
        if progress.epoch <= self.shown:
            return
        if self._live is not None:
            self._live.update(format_step(progress))
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._say(format_step(progress), **asdict(progress))

    def _say(self, text: str, **fields: Any) -> None:
        self._last_line = time.monotonic()
        say(text, **fields)


@contextmanager
def print_progress(board: Any, epochs: int) -> Iterator[None]:
    """Print the progress that is posted to a board while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_print_progress, args=(board, epochs, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _print_progress(board: Any, epochs: int, stop: threading.Event) -> None:
    with ExitStack() as stack:
        live = None
        if can_draw():
            live = Live(console=Console(stderr=True), transient=True, refresh_per_second=4)
            stack.enter_context(live)
        printer, announced = ProgressPrinter(epochs, live), (0, 0)
        ending = False
        while not ending:
            ending = stop.wait(POLL_S)
            try:
                resumed, step, rows = ray.get(board.read.remote(printer.shown), timeout=10)
            except GetTimeoutError:
                continue  # it is on its way to another machine
            except RayError:
                return  # the cluster is going away: training itself reports why
            if resumed != announced:
                announced = resumed
                printer.resume(*resumed)
            for row in rows:
                printer.epoch(row)
            if step is not None:
                printer.step(step)


def format_row(row: EpochRow, epochs: int, left_s: float) -> str:
    """One finished epoch as a line."""
    shown = [name for name in ("hit@10", "ndcg@10", "mrr@10") if name in row.valid]
    valid = " ".join(f"{name} {row.valid[name]:.4f}" for name in shown) or "none"
    return (
        f"epoch {row.epoch:>3}/{epochs}  loss {row.loss:.4f}  valid {valid}  "
        f"{row.targets_per_s:,.0f} targets/s  at most {left_s:.0f} s left"
    )


def format_step(step: StepProgress) -> str:
    """The current epoch as a line."""
    return (
        f"epoch {step.epoch}: step {step.step}/{step.num_steps}  loss {step.loss:.4f}  "
        f"{step.targets_per_s:,.0f} targets/s  {step.left_s:.0f} s left of the epoch"
    )
