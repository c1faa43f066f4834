"""Commands in processes of their own, without the seconds that their imports take.

They are forked from a process that has imported everything and started nothing, and then do what
``submit.py`` does: a session of their own, their output in a file, `main` with their arguments.
"""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path

_WARM = [
    *("pipelines.commands.app", "pipelines.preprocess.stage", "pipelines.train.stage"),
    *("pipelines.evaluate", "pipelines.score.stage", "pipelines.tune.stage", "pipelines.export"),
    *("lightsans.storage.s3", "ray.data", "tests.stage_processes"),
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_WARM)


class Command:
    """A running command.

    Args:
        words: Its command line.
        log: File of its output.
        environment: Variables that it has besides those of the first command of this process.
        constants: Values that it has instead of those in the code, by module and name.
    """

    def __init__(
        self,
        words: list[str],
        log: Path,
        environment: Mapping[str, str],
        constants: Mapping[str, float],
    ) -> None:
        self.log = log
        arguments = (words, str(log), dict(environment), dict(constants))
        self._process: BaseProcess = _context.Process(target=_run, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, the number of the signal below zero; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 600) -> int:
        self._process.join(seconds)
        status = self.status
        assert status is not None, f"{self.pid} still runs\n{self.said}"
        return status

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone, if it still runs."""
        if self.status is None:
            os.kill(self.pid, number)

    def end(self) -> None:
        self.send(signal.SIGKILL)
        self._process.join()


@contextmanager
def running(
    words: list[str],
    logs: list[Path],
    environment: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Iterator[list[Command]]:
    """The same command once for each log; what still runs is killed when the block ends."""
    commands: list[Command] = []
    try:
        for log in logs:
            commands.append(Command(words, log, environment or {}, constants or {}))
        yield commands
    finally:
        for command in commands:
            command.end()


def wait_until(happened: Callable[[], bool], command: Command) -> bool:
    """Wait for something; False where the command ends before."""
    while command.status is None:
        if happened():
            return True
        time.sleep(0.02)
    return happened()


def _run(
    words: list[str], log: str, environment: dict[str, str], constants: dict[str, float]
) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ.update(environment)
    tempfile.tempdir = None  # the environment may name another
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    for name, value in constants.items():
        module, _, attribute = name.rpartition(".")
        setattr(import_module(module), attribute, value)
    from pipelines.commands.app import main

    main(words)
