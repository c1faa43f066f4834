"""Workers of an embedded Ray, forked by a process that has imported what they import."""

import atexit
import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

MODELS = (
    "torch",
    "lightsans.stages.part_evaluator",
    "pipelines.evaluate.ranks",
    "pipelines.score.parts",
    "pipelines.score.shared_model",
    "pipelines.train.task_group",
    "pipelines.train.worker",
)
"""Modules of workers that train, rank and score.

None may import ``ray.data``: by that Ray draws its first random id, and all that are forked later
would go on with the same ones.
"""
WITHOUT_RAY = ("torch", "numba", "pandas", "pyarrow")
"""Modules that may be imported before Ray has said what its library reads when it is imported."""
ALWAYS = (
    *("numba", "pandas", "pyarrow"),
    "ray._private.workers.default_worker",
    "pipelines.preprocess.stage",
)
"""Modules of all workers."""

_NO_JOB = "ffffffff"
"""Id of no job, which Ray gives to workers that it starts before a driver: they serve any."""
_WAITING = 128
"""Workers that may ask at a time."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Setting of most workers, which libraries read when they are loaded."""
_PIPE_BYTES = 1 << 20
_FLAG = "--python_worker_command="
_HERE = Path(__file__).parent


class ForkServer:
    """Process that forks workers, which runs `pipelines.embedded.fork_server`."""

    def __init__(self) -> None:
        self._name = f"lightsans-workers-{secrets.token_hex(8)}"
        program = str(_HERE / "fork_server.py")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("\0" + self._name)  # an abstract name, which leaves no file
            listening.listen(_WAITING)
            self._process = subprocess.Popen(
                [sys.executable, *_flags(), program, str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ONE_THREAD | os.environ,
                process_group=0,  # Ctrl-C is for the driver to handle
                pass_fds=[listening.fileno()],
            )
        assert self._process.stdin is not None
        with suppress(OSError):  # it reads nothing while it imports
            fcntl.fcntl(self._process.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._held: list[str] = []
        self.serves = False
        """Whether a Ray has, or had, its workers from it."""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def load(self, modules: Iterable[str]) -> None:
        """Let it import modules, some not before `serve`; workers forked later have them."""
        wanted = list(modules)
        now = [name for name in wanted if self.serves or name in WITHOUT_RAY]
        self._held += [name for name in wanted if name not in now]
        self._send(modules=now)

    def take_over(self, command: list[str]) -> list[str]:
        """Command line of Ray's process of a machine, as one that has its workers from here."""
        from ray._private import services

        workers = Path(services.__file__).parent / "workers"
        ours = subprocess.list2cmdline([str(_HERE / "forked_worker.py")])
        setup, worker = (
            subprocess.list2cmdline([str(workers / f"{name}_worker.py")])
            for name in ("setup", "default")
        )
        changed = {f" {setup} ": f" {ours} ", f" {worker} ": f" {ours} {self._name} {worker} "}

        def change(argument: str) -> str:
            if argument.startswith(_FLAG) and all(old in argument for old in changed):
                for old, new in changed.items():
                    argument = argument.replace(old, new)
            return argument

        return [change(argument) for argument in command]

    def serve(self, raylet: int) -> None:
        """Fork workers from now on.

        Args:
            raylet: Pid of the process that was started with the command of `take_over`.
        """
        self.serves = True
        ray = {"RAY_JOB_ID": _NO_JOB, "RAY_RAYLET_PID": str(raylet)}
        self._send(modules=self._held, environment=_ONE_THREAD | os.environ | ray)

    def close(self) -> None:
        """End it; its workers stay."""
        self._process.kill()  # it may be importing, for seconds
        self._process.communicate()

    def _send(self, **message: Any) -> None:
        assert self._process.stdin is not None
        paths = [path for path in sys.path if isinstance(path, str)]
        line = json.dumps({"paths": paths, **message}).encode() + b"\n"
        with suppress(OSError):  # it is gone: workers start as Ray has it
            self._process.stdin.write(line)
            self._process.stdin.flush()


def _flags() -> list[str]:
    """Flags of this Python that Ray, too, hands on to workers."""
    return ["-S"] * sys.flags.no_site + ["-s"] * sys.flags.no_user_site


def is_raylet(command: list[str]) -> bool:
    """Whether a command line is that of Ray's process of a machine."""
    return any(argument.startswith(_FLAG) for argument in command)


_server: ForkServer | None = None


def expect_workers(modules: Iterable[str] = ()) -> None:
    """Begin to import, in another process, what workers of this process's own Ray will import.

    The sooner before Ray starts, the less its workers wait. Does nothing but on Linux: elsewhere a
    process that has loaded these libraries cannot be forked safely.
    """
    global _server
    if sys.platform != "linux":
        return
    if _server is None:
        try:
            _server = ForkServer()
        except OSError:  # this system has no such sockets, or no process left: Ray's way it is
            return
        modules = [*modules, *ALWAYS]
        atexit.register(end_fork_server)
    _server.load(modules)


def fork_server() -> ForkServer | None:
    """The fork server for a Ray that starts now, if there is one."""
    if _server is not None and _server.serves:  # that Ray has ended
        end_fork_server()
    expect_workers()
    return _server


def end_fork_server() -> None:
    """End the fork server; a Ray that is started later has another."""
    global _server
    if _server is not None:
        _server.close()
        _server = None
