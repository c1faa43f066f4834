"""Servers of tests: processes of their own, on ports that were free."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_START_S = 120.0


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held until the last is found."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def run_server(
    command: Sequence[str],
    directory: Path,
    ask: Callable[[], object],
    no_answer: tuple[type[Exception], ...],
) -> Iterator[None]:
    """Run a server as long as the block; the block begins when it answers.

    Args:
        command: Its command.
        directory: Where it runs, and its log lies.
        ask: A request, repeated until it is answered: the server may still be starting.
        no_answer: Errors of the request until then.
    """
    log = directory / "server.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=directory)
    try:
        _wait(server, ask, no_answer, log)
        yield
    finally:
        server.kill()  # its data goes with the directory, and an orderly end takes seconds
        server.wait()


def _wait(
    server: subprocess.Popen[bytes],
    ask: Callable[[], object],
    no_answer: tuple[type[Exception], ...],
    log: Path,
) -> None:
    give_up = time.monotonic() + _START_S
    while True:
        try:
            ask()
            return
        except no_answer as error:
            if server.poll() is not None or time.monotonic() > give_up:
                words = log.read_text()[-3000:]
                pytest.fail(f"the server {server.args!r} did not start: {error}\n{words}")
            time.sleep(0.1)
