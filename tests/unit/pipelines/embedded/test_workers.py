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


class FakeServer:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.has_ray = False
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
    made[0].has_ray = True
    workers.expect_workers(["more"])
    assert made[0].loaded[-1] == "more"
    assert [workers.fork_server()] == made[1:], "the Ray that the first one served has ended"
    assert made[0].is_closed
    assert made[1].loaded == [*workers.ALWAYS]


def test_elsewhere_than_on_linux_nothing_is_forked(made, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    workers.expect_workers(["torch"])
    assert workers.fork_server() is None
    assert made == []
