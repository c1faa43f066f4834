import os
import signal
from typing import Any

import pytest
import ray

from lightsans.errors import LightSANsError
from pipelines.session import ray_session

NICENESS = "RAY_worker_niceness"  # the case is Ray's


@pytest.fixture(autouse=True)
def _no_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray starts here that would have its workers forked."""
    monkeypatch.setattr("pipelines.embedded.start.fork_server", lambda: None)


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
    monkeypatch.setattr(ray_session, "machine_cpus", lambda: 7)
    monkeypatch.setattr(ray_session, "spend_warning_on_arguments", lambda: None)
    try:
        ray_session.ensure_ray()
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (seen["address"], seen["niceness"], seen["num_cpus"]) == ("local", "0", 7)


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
