import subprocess
import sys

import pytest
import ray
from ray._private import services
from ray._private.node import Node

from pipelines.embedded import start
from pipelines.session import ray_session
from pipelines.session.process_tree import read_tree
from tests.commands import wait_until

RAYLET = ["raylet", "--dashboard_agent_command=agent.py", "--metrics-agent-port=0", "--head"]
NEEDLESS = ("start_log_monitor", "start_monitor", "start_api_server")


@pytest.fixture(autouse=True)
def _no_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray starts here that would have its workers forked."""
    monkeypatch.setattr("pipelines.embedded.start.fork_server", lambda: None)


def test_processes_that_an_embedded_ray_does_not_need_are_not_started(monkeypatch):
    """Nobody reads lines of workers or figures, or adds a machine. A later Ray has all of them."""
    before = [getattr(Node, name) for name in NEEDLESS]
    seen: list[object] = []

    def init(**arguments: object) -> None:
        node = object.__new__(Node)  # none of its state is there: what Ray does would fail
        seen.extend([node.start_log_monitor(), node.start_monitor()])
        seen.append(node.start_api_server(include_dashboard=False, raise_on_failure=False))
        for command in ([*RAYLET, "--metrics_export_port=0"], RAYLET):
            services.start_ray_process(command, "raylet", False)

    commands: list[list[str]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(
        services, "start_ray_process", lambda command, *more: commands.append(command)
    )
    start = services.start_ray_process
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_session, "spend_warning_on_arguments", lambda: None)
    ray_session.ensure_ray()
    assert seen == [None, None, None]
    assert [getattr(Node, name) for name in NEEDLESS] == before
    assert services.start_ray_process is start
    [replaced, other] = commands
    assert "agent.py" not in " ".join(replaced)
    ports = ["--metrics_export_port=-1", "--dashboard_agent_listen_port=-1"]
    assert replaced[2:] == ["--metrics-agent-port=-1", "--head", *ports]
    assert other == RAYLET, "a Ray with other arguments keeps all of them"


@pytest.mark.parametrize(
    ("head", "processes", "count"),
    [(True, {}, 1), (True, {"dashboard": []}, 0), (False, {}, 0)],
    ids=["our own", "already there", "a cluster"],
)
def test_the_dashboard_of_our_own_ray_is_started_once_where_it_is_needed(
    head, processes, count, monkeypatch
):
    node = object.__new__(Node)
    node.head, node.all_processes = head, processes
    started: list[dict[str, object]] = []
    monkeypatch.setattr(Node, "start_api_server", lambda node, **options: started.append(options))
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    start.have_dashboard()
    assert started == [{"include_dashboard": False, "raise_on_failure": False}] * count


@pytest.mark.programs
def test_what_stands_in_for_an_agent_ends_with_the_driver_even_if_it_comes_late():
    """A process that was started by one that had ended by then would stay for ever."""
    script = """
import shlex, subprocess, sys
from pipelines.embedded.start import _without_agent
[_, given, *_] = _without_agent([*sys.argv[1:], "--metrics_export_port=0"])
command = shlex.split(given.partition("=")[2])
print(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
"""
    started = subprocess.run(
        [sys.executable, "-c", script, *RAYLET], capture_output=True, text=True, check=True
    )
    assert wait_until(lambda: not read_tree(int(started.stdout)), timeout_s=60)
