"""The fork server and the program that asks it, with a program in the place of Ray's worker."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.embedded import workers
from pipelines.embedded.workers import ForkServer
from pipelines.session.process_tree import read_tree
from tests.commands import wait_until

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone"),
]
FORKED = str(Path(workers.__file__).with_name("forked_worker.py"))
WORKER = """
import json, os, random, resource, signal, sys
import numpy
told = {
    "parent": os.getppid(), "group": os.getpgrp() == os.getpid(), "directory": os.getcwd(),
    "arguments": sys.argv, "environment": dict(os.environ), "name": __name__,
    "drawn": [random.random(), numpy.random.random()], "has": "colorsys" in sys.modules,
    "path": sys.path, "blocks": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []),
    "files": [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")[:-1]],
    "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
    "score": open("/proc/self/oom_score_adj").read().strip(),
    "children": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
}
with open(sys.argv[1], "w") as file:
    file.write(json.dumps(told))
print("said")
sys.exit(3)
"""
SETUP = """
import os, sys
os.environ["SET_UP"] = "by Ray's own program"
plain = [each for each in sys.argv[1:] if not each.startswith(("--serialized", "--language"))]
os.execv(sys.executable, [sys.executable, *plain])
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    """A fork server that has imported a module which no program imports by itself."""
    monkeypatch.setattr(workers, "WITHOUT_RAY", ("numpy",))
    server = ForkServer()
    server.load(["numpy", "colorsys", "no.such.module"])
    yield server
    server.close()


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins for the two programs of Ray, side by side as Ray has them."""
    (tmp_path / "default_worker.py").write_text(WORKER)
    (tmp_path / "setup_worker.py").write_text(SETUP)
    return tmp_path


def start(
    server: ForkServer, programs: Path, *more: str, raylet: int = 77, **environment: str
) -> tuple[dict[str, Any], str]:
    """Ask for a worker as Ray does; what it tells, and what it printed."""
    told = programs / "told.json"
    told.unlink(missing_ok=True)
    command = [FORKED, server._name, str(programs / "default_worker.py"), str(told), *more]
    if more:  # Ray's program that sets a worker up stands first
        command.insert(0, FORKED)
    done = subprocess.Popen(
        [sys.executable, *command], cwd=programs, stdout=subprocess.PIPE, text=True,
        env=os.environ | environment | {"RAY_RAYLET_PID": str(raylet)},
    )  # fmt: skip
    printed, _ = done.communicate()  # the worker holds the other end
    assert wait_until(lambda: told.exists() and told.read_text() != "")
    return json.loads(told.read_text()), printed


def test_a_worker_is_forked_with_the_streams_arguments_and_environment_of_its_own(server, programs):
    server.serve(77)
    told, printed = start(server, programs, "--language=PYTHON", COLOUR="blue")
    assert (told["parent"], told["has"], told["name"]) == (server.pid, True, "__main__")
    worker = str(programs / "default_worker.py")
    assert told["arguments"] == [worker, str(programs / "told.json")]
    assert told["directory"] == str(programs)
    assert told["environment"]["COLOUR"] == "blue"
    assert told["environment"].get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")
    assert (told["group"], told["blocks"], told["path"][0]) == (True, True, str(programs))
    assert told["children"]
    assert told["score"] == "1000", "Linux ends workers before the driver"
    assert told["limit"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
    assert not [file for file in told["files"][3:] if "socket" in file or "pipe" in file]
    assert printed == "said\n"
    again, _ = start(server, programs)
    assert again["parent"] == server.pid
    assert not set(told["drawn"]) & set(again["drawn"]), "two workers draw the same numbers"


def test_environments_of_workers_are_set_up(server, programs):
    server.serve(77)
    context: dict[str, object]
    context = {"command_prefix": [], "env_vars": {"A": "b"}, "override_worker_entrypoint": None}
    plain = json.dumps(context | {"py_executable": sys.executable})
    more = f"--serialized-runtime-env-context={plain}", "--language=PYTHON"
    told, _ = start(server, programs, *more)
    assert (told["parent"], told["environment"]["A"]) == (server.pid, "b")
    for other in (
        {"py_executable": "/bin/python"},
        {"command_prefix": ["nice"]},
        {"env_vars": {"PYTHONPATH": "elsewhere"}},
    ):
        text = json.dumps(json.loads(plain) | other)
        more = f"--serialized-runtime-env-context={text}", "--language=PYTHON"
        told, _ = start(server, programs, *more)
        assert told["parent"] != server.pid, f"{other} needs a process that is started so"
        assert told["environment"]["SET_UP"] == "by Ray's own program"


def test_modules_are_those_that_the_driver_would_import(server, programs, monkeypatch):
    """An installed package must not win over the checkout that a command is run in."""
    (programs / "own.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(programs), *sys.path])
    monkeypatch.setattr(workers, "WITHOUT_RAY", ("own",))
    other = ForkServer()
    other.load(["own"])
    monkeypatch.setattr(sys, "path", sys.path[1:])
    other.serve(77)
    (programs / "default_worker.py").write_text(WORKER.replace("colorsys", "own"))
    told, _ = start(other, programs)
    other.close()
    assert told["has"]


def test_who_asks_and_says_nothing_is_not_waited_for(server, programs):
    server.serve(77)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect("\0" + server._name)
        silent.send(b"\xff\xff")
    told, _ = start(server, programs)
    assert told["parent"] == server.pid


def test_variables_that_the_driver_has_no_longer_are_gone(programs, monkeypatch):
    """Libraries read them when they are imported."""
    (programs / "reads.py").write_text("import os; seen = 'COLOUR' in os.environ")
    (programs / "default_worker.py").write_text(
        WORKER.replace('"colorsys" in sys.modules', 'sys.modules["reads"].seen')
    )
    monkeypatch.setattr(sys, "path", [str(programs), *sys.path])
    monkeypatch.setenv("COLOUR", "blue")
    server = ForkServer()
    monkeypatch.delenv("COLOUR")
    server.load(["reads"])  # needs Ray, for all we know
    server.serve(77)
    told, _ = start(server, programs)
    server.close()
    assert told["has"] is False


def test_a_worker_of_another_ray_is_started_as_ray_has_it(server, programs):
    """The pid of Ray's process is read once, when its library is imported."""
    server.serve(77)
    told, _ = start(server, programs, raylet=78)
    assert told["parent"] != server.pid
    assert not told["has"]


@pytest.mark.parametrize("more", [(), ("--language=PYTHON",)], ids=["plain", "to be set up"])
def test_without_a_server_workers_start_as_ray_has_it(more, server, programs):
    server.close()
    told, printed = start(server, programs, *more)
    assert (told["has"], printed) == (False, "said\n")
    assert ("SET_UP" in told["environment"]) == bool(more)


def test_a_server_ends_with_its_driver_whatever_its_end_and_leaves_workers_alone(programs):
    (programs / "default_worker.py").write_text("import time; time.sleep(60)")
    script = """
import os, subprocess, sys, time
from pipelines.embedded import workers
workers.WITHOUT_RAY = ()
server = workers.ForkServer()
server.serve(77)
command = [sys.executable, sys.argv[1], server._name, sys.argv[2]]
subprocess.run(command, check=True, env=os.environ | {"RAY_RAYLET_PID": "77"})
print(server.pid, flush=True)
time.sleep(60)
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", script, FORKED, str(programs / "default_worker.py")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert driver.stdout is not None
    server = int(driver.stdout.readline())
    [worker] = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    assert wait_until(lambda: not read_tree(server))
    os.kill(int(worker), signal.SIGKILL)  # it was there


def test_what_a_ray_of_other_arguments_gets_is_left_alone(server):
    from ray._private import services

    programs = Path(services.__file__).parent / "workers"
    line = f"python {programs}/setup_worker.py {programs}/default_worker.py --head"
    command = ["raylet", f"--python_worker_command={line}", f"--java_worker_command={line}"]
    _, python, java = server.take_over(command)
    assert python == (
        f"--python_worker_command=python {FORKED} {FORKED} {server._name} "
        f"{programs}/default_worker.py --head"
    )
    assert java == command[2]
    other = ["raylet", "--python_worker_command=python worker.py"]
    assert server.take_over(other) == other
