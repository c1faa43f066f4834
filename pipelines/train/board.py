"""Live progress of training: workers post to a board, the driver reads it and draws.

Lines that workers print reach the driver late, prefixed and mixed with Ray's own; a board keeps
their progress until a thread of the driver fetches it: a small actor or, where workers and driver
share a machine, a directory.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayError
from rich.console import Console
from rich.live import Live

from lightsans import errors
from lightsans.errors import LightSANsError
from lightsans.training.progress import EpochRow, StepProgress
from pipelines.console.progress import can_draw, say
from pipelines.session.ray_session import on_this_machine

POLL_S = 0.5
_READ_S = 10.0
LINE_EVERY_S = 30.0
"""Least time between two lines of a long epoch without a terminal."""


News = tuple[tuple[int, int], StepProgress | None, list[EpochRow]]
"""Position of the last resume, the latest step, and epochs."""


class Board(Protocol):
    """Keeps the progress and the errors of a run's workers."""

    def resume(self, epoch: int, step: int) -> None:
        """Note that the run goes on after so many epochs, and steps of the next."""

    def step(self, progress: StepProgress) -> None:
        """Note the progress of the current epoch."""

    def epoch(self, row: EpochRow) -> None:
        """Note a finished epoch."""

    def fail(self, error: LightSANsError) -> None:
        """Note an error that a restart of the workers cannot mend."""

    def error(self) -> LightSANsError | None:
        """The noted error, the first of several; it ends the run."""

    def read(self, after: int) -> News:
        """The progress, with the epochs after the given one."""


class TrainingBoard:
    """A `Board` in the memory of one process; `ActorBoard` makes it a Ray actor."""

    def __init__(self) -> None:
        self._resumed = (0, 0)
        self._step: StepProgress | None = None
        self._rows: dict[int, EpochRow] = {}
        self._error: LightSANsError | None = None

    def resume(self, epoch: int, step: int) -> None:
        """See `Board`."""
        self._resumed = (epoch, step)

    def step(self, progress: StepProgress) -> None:
        """See `Board`."""
        self._step = progress

    def epoch(self, row: EpochRow) -> None:
        """See `Board`."""
        self._rows[row.epoch] = row

    def fail(self, error: LightSANsError) -> None:
        """See `Board`."""
        self._error = self._error or error

    def error(self) -> LightSANsError | None:
        """See `Board`."""
        return self._error

    def read(self, after: int) -> News:
        """See `Board`."""
        rows = [row for epoch, row in sorted(self._rows.items()) if epoch > after]
        return self._resumed, self._step, rows


@dataclass(frozen=True, slots=True)
class ActorBoard:
    """A `TrainingBoard` as an actor, which workers on all machines reach."""

    actor: Any

    @classmethod
    def start(cls) -> "ActorBoard":
        """A board for one run, as an actor that takes no CPU.

        It lives on the driver's machine, with which the run ends anyway, if that takes actors at
        all. A board that is lost elsewhere begins again empty: progress that was printed is not
        needed again, and the rest is in the checkpoints.
        """
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(TrainingBoard)
        return cls(actor.options(scheduling_strategy=on_this_machine()).remote())

    def resume(self, epoch: int, step: int) -> None:
        """See `Board`."""
        self.actor.resume.remote(epoch, step)

    def step(self, progress: StepProgress) -> None:
        """See `Board`."""
        self.actor.step.remote(progress)

    def epoch(self, row: EpochRow) -> None:
        """See `Board`."""
        self.actor.epoch.remote(row)

    def fail(self, error: LightSANsError) -> None:
        """See `Board`."""
        ray.get(self.actor.fail.remote(error))

    def error(self) -> LightSANsError | None:
        """See `Board`."""
        found: LightSANsError | None = ray.get(self.actor.error.remote())
        return found

    def read(self, after: int) -> News:
        """See `Board`."""
        news: News = ray.get(self.actor.read.remote(after), timeout=_READ_S)
        return news


@dataclass(frozen=True, slots=True)
class DirectoryBoard:
    """A `Board` of small files: an actor would take a process, longer to start than to train.

    Files appear whole, whatever happens to who writes them.
    """

    directory: str

    def resume(self, epoch: int, step: int) -> None:
        """See `Board`."""
        self._write("resumed", (epoch, step))

    def step(self, progress: StepProgress) -> None:
        """See `Board`."""
        self._write("step", asdict(progress))

    def epoch(self, row: EpochRow) -> None:
        """See `Board`."""
        self._write(f"epoch-{row.epoch}", asdict(row))

    def fail(self, error: LightSANsError) -> None:
        """See `Board`; the first stays. Where the disk is full, only the worker tells the error."""
        kinds = (kind.__name__ for kind in type(error).__mro__)
        known = next(kind for kind in kinds if hasattr(errors, kind))
        self._put([known, str(error)], lambda part: os.link(part, self._path("error")))

    def error(self) -> LightSANsError | None:
        """See `Board`."""
        found = self._read("error")
        if found is None:
            return None
        kind: type[LightSANsError] = getattr(errors, found[0], LightSANsError)
        return kind(found[1])

    def read(self, after: int) -> News:
        """See `Board`."""
        names = [name.split("-") for name in os.listdir(self.directory)]
        epochs = sorted(int(name[1]) for name in names if name[0] == "epoch")
        rows = [EpochRow(**self._read(f"epoch-{epoch}")) for epoch in epochs if epoch > after]
        epoch, step = self._read("resumed") or (0, 0)
        progress = self._read("step")
        return (epoch, step), progress and StepProgress(**progress), rows

    def _path(self, name: str) -> Path:
        return Path(self.directory) / name

    def _write(self, name: str, value: object) -> None:
        self._put(value, lambda part: part.replace(self._path(name)))

    def _put(self, value: object, place: Callable[[Path], object]) -> None:
        """Write a file and put it in its place, if that can be done; half a file never stays."""
        part = self._path(f"part-{os.getpid()}")
        with suppress(OSError):  # a disk that is full: no progress to show, nothing worse
            try:
                part.write_text(json.dumps(value))
                place(part)
            finally:
                part.unlink(missing_ok=True)

    def _read(self, name: str) -> Any:
        try:
            return json.loads(self._path(name).read_text())
        except FileNotFoundError:
            return None


def raise_noted_error(board: Board) -> None:
    """Raise the error noted on a board, if there is one."""
    error = board.error()
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
def print_progress(board: Board, epochs: int) -> Iterator[None]:
    """Print the progress that is posted to a board while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_print_progress, args=(board, epochs, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _print_progress(board: Board, epochs: int, stop: threading.Event) -> None:
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
                resumed, step, rows = board.read(printer.shown)
            except GetTimeoutError:
                continue  # it is on its way to another machine
            except (RayError, OSError):
                return  # the cluster, or the directory, is going away: training reports why
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
