"""Program that imports once what all workers of an embedded Ray import, and forks them.

A worker that Ray starts imports for two or three seconds of processor time, and shares no memory
with the others. Started by `pipelines.embedded.workers`, which sends messages to stdin, a line of
JSON each: modules to import, and at last the environment that Ray's process of the machine gives to
workers, from when on `pipelines.embedded.forked_worker` is answered. Ends with the driver. Before
it forks it calls nothing but imports: the one thread that these begin, of pyarrow's allocator,
knows how to fork. Processes of other users get no answer.
"""

import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, NamedTuple

_LONGEST_REQUEST = 1 << 24
"""Bytes of a command line and an environment."""
_TAKEN, _DECLINED = b"1", b"0"
_SILENCE_S = 10.0
_RAYLET = "RAY_RAYLET_PID"
_FIRST = "RAY_worker_oom_score_adjustment"  # the case is Ray's
_BEFORE_PYTHON = ("PYTHON", "LD_")
"""Beginnings of variables that are of use to a new process alone."""


class Job(NamedTuple):
    """Request of a worker, in the process that was forked for it."""

    request: dict[str, Any]
    """Command line, environment, working directory and limit of open files."""
    streams: list[int]
    """Its stdin, stdout and stderr."""


def main(descriptor: int) -> None:
    """Import and fork until stdin ends; in a forked process, return when the worker ends.

    Args:
        descriptor: The socket at which workers are asked for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as Ray has it in its processes
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Ray itself looks after workers
    gc.disable()
    listening = socket.socket(fileno=descriptor)
    paths, begun = list(sys.path), b""
    sources = select.poll()  # numbers of descriptors may be high
    sources.register(0, select.POLLIN)
    while True:
        if 0 in [source for source, _ in sources.poll()]:
            read = os.read(0, 1 << 16)
            if not read:
                return
            *whole, begun = (begun + read).split(b"\n")
            for line in whole:
                message = json.loads(line)
                _prepare(message)
                if "environment" in message:
                    sources.register(listening, select.POLLIN)
            gc.freeze()  # what workers share is not written to by their garbage collectors
        elif (job := _accept(listening)) is not None:
            listening.close()
            _become_worker(job, paths)
            return


def _prepare(message: dict[str, Any]) -> None:
    sys.path[:] = message["paths"]  # what workers get is what the driver would
    if "environment" in message:
        os.environ.clear()
        os.environ.update(message["environment"])
    for module in message["modules"]:
        with suppress(Exception):  # the worker that needs it will say
            importlib.import_module(module)


def _accept(listening: socket.socket) -> Job | None:
    """Answer a request; in the process that is forked for it, what it asks for."""
    streams: list[int] = []
    with suppress(OSError, ValueError, KeyError):
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(_SILENCE_S)
            if peer_user(connection) == os.getuid():
                size, streams, _, _ = socket.recv_fds(connection, 4, 3)
                request = json.loads(_read(connection, int.from_bytes(size, "little")))
                pid = _fork() if len(streams) == 3 and _fits(request) else None
                if pid == 0:
                    return Job(request, streams)
                _answer(connection, pid)
    for stream in streams:
        os.close(stream)
    return None


def _fork() -> int | None:
    try:
        return os.fork()
    except OSError:  # no process or memory is left: Ray's own way tells it
        return None


def _answer(connection: socket.socket, pid: int | None) -> None:
    try:
        connection.sendall(_DECLINED if pid is None else _TAKEN)
    except OSError:  # nobody waits any more: the worker was started in another way
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def peer_user(connection: socket.socket) -> int:
    """User of the process at the other end of a local socket."""
    pid_user_group = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", pid_user_group)[1])


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < min(size, _LONGEST_REQUEST):
        part = connection.recv(1 << 16)
        if not part:
            raise ValueError("the request ends early")
        found += part
    return found


def _fits(request: dict[str, Any]) -> bool:
    """Whether a worker that is forked here is as good as one that is started."""
    context = request["context"]
    return request["environment"].get(_RAYLET) == os.environ.get(_RAYLET) and (
        not context
        or (
            not (context["command_prefix"] or context["override_worker_entrypoint"])
            and context["py_executable"] == sys.executable
            and not any(name.startswith(_BEFORE_PYTHON) for name in context["env_vars"])
        )
    )


def _become_worker(job: Job, paths: list[str]) -> None:
    """Do what Ray's command of a worker does, in this process."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(job.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(job.request["environment"])
    os.chdir(job.request["directory"])
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, tuple(job.request["open_files"]))
    with suppress(OSError):  # Ray does so to the process that asked, unless it may not
        _be_first_to_go()
    if job.request["context"]:
        from ray._private.utils import update_envs

        update_envs(job.request["context"]["env_vars"])
    sys.argv[:] = job.request["arguments"]
    sys.path[:] = [os.path.dirname(sys.argv[0]), *paths[1:]]
    if "numpy" in sys.modules:  # Python's own generator begins anew by itself
        sys.modules["numpy"].random.seed()
    gc.enable()
    runpy.run_path(sys.argv[0], run_name="__main__")


def _be_first_to_go() -> None:
    """Let Linux end this worker, which is started again, before the driver when memory is short."""
    score = os.environ.get(_FIRST, "1000")
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(score)


if __name__ == "__main__":
    main(int(sys.argv[1]))
