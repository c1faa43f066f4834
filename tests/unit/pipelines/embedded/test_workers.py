import importlib
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from pipelines.embedded import workers


@pytest.mark.programs
@pytest.mark.parametrize("modules", [workers.ALWAYS, workers.MODELS], ids=["always", "models"])
def test_all_modules_are_there_and_those_said_to_need_no_ray_import_none(modules):
    """Nobody would say so otherwise: what fails is left to the worker that needs it."""
    for name in modules:
        importlib.import_module(name)
    script = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    script += "; assert 'ray' not in sys.modules"
    without = [name for name in modules if name in workers.WITHOUT_RAY]
    subprocess.run([sys.executable, "-c", script, *without], check=True)


@pytest.mark.programs
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_what_is_forked_after_all_imports_draws_ids_of_its_own():
    """Ray seeds its generator when the first id is drawn, as by an import of ``ray.data``."""
    script = """
import importlib, os, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
import ray._raylet
for _ in range(3):
    if os.fork() == 0:
        print(ray._raylet.UniqueID.from_random().hex(), flush=True)
        os._exit(0)
    os.wait()
"""
    command = [sys.executable, "-c", script, *workers.ALWAYS, *workers.MODELS]
    drawn = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert len(set(drawn)) == 3


class FakeServer:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.serves = False
        self.is_closed = False

    def load(self, modules: Iterable[str]) -> None:
        self.loaded += modules

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Servers that were started."""
    made: list[Any] = []

    def make() -> FakeServer:
        server = FakeServer()
        made.append(server)
        return server

    monkeypatch.setattr(workers, "ForkServer", make)
    monkeypatch.setattr(workers, "_server", None)
    monkeypatch.setattr(sys, "platform", "linux")
    return made


def test_one_server_imports_all_that_is_expected_and_serves_one_ray(made):
    workers.expect_workers(["torch"])
    workers.expect_workers(["ray.train"])
    assert [workers.fork_server()] == made
    assert made[0].loaded == ["torch", *workers.ALWAYS, "ray.train"]
    made[0].serves = True
    workers.expect_workers(["more"])
    assert made[0].loaded[-1] == "more"
    assert [workers.fork_server()] == made[1:], "the Ray that the first one served has ended"
    assert made[0].is_closed
    assert made[1].loaded == [*workers.ALWAYS]


def test_where_no_server_can_start_ray_has_its_own_workers(made, monkeypatch):
    def refuse() -> None:
        raise PermissionError("no such sockets here")

    monkeypatch.setattr(workers, "ForkServer", refuse)
    workers.expect_workers(["torch"])
    assert workers.fork_server() is None


def test_elsewhere_than_on_linux_nothing_is_forked(made, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    workers.expect_workers(["torch"])
    assert workers.fork_server() is None
    assert made == []
