import os
import signal
from typing import Any

import pytest
import ray
from ray._private.node import Node

from lightsans.errors import LightSANsError
from pipelines.session import ray_session

NICENESS = "RAY_worker_niceness"  # the case is Ray's


def test_an_embedded_ray_keeps_our_end_on_sigterm_and_gives_workers_their_share(monkeypatch):
    """Ray exits with 15, and starts workers with the niceness 15."""
    seen: dict[str, Any] = {}

    def init(**arguments: object) -> None:
        seen.update(arguments, niceness=os.environ.get(NICENESS))
        signal.signal(signal.SIGTERM, lambda number, frame: None)

    def ours(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, ours)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv(NICENESS, raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_session, "spend_warning_on_arguments", lambda: None)
    try:
        ray_session.ensure_ray()
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (seen["address"], seen["niceness"]) == ("local", "0")


def test_processes_that_an_embedded_ray_does_not_need_are_not_started(monkeypatch):
    """Nobody reads lines of workers, or adds a machine. A Ray that is started later has both."""
    before = (Node.start_log_monitor, Node.start_monitor)
    seen: list[object] = []

    def init(**arguments: object) -> None:
        node = object.__new__(Node)  # none of its state is there: what Ray does would fail
        seen.extend([node.start_log_monitor(), node.start_monitor()])

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_session, "spend_warning_on_arguments", lambda: None)
    ray_session.ensure_ray()
    assert seen == [None, None]
    assert (Node.start_log_monitor, Node.start_monitor) == before


@pytest.mark.parametrize("given", ["5", "15"])
def test_a_niceness_that_somebody_chose_stays(given, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(NICENESS, given)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **arguments: None)
    monkeypatch.setattr(ray_session, "spend_warning_on_arguments", lambda: None)
    ray_session.ensure_ray()
    assert os.environ[NICENESS] == given


def test_a_ray_that_does_not_start_in_time_is_a_line(monkeypatch):
    def init(**arguments: object) -> None:
        raise Exception("The current node timed out during startup.\nMore.")  # as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(LightSANsError) as caught:
        ray_session.ensure_ray()
    assert type(caught.value) is LightSANsError, "exit status 1"
    assert "did not start: The current node timed out during startup. Its" in str(caught.value)
    assert "More" not in str(caught.value)
