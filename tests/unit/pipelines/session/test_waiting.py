"""Lines about what is waited for, beside the work."""

import threading

import pytest

from pipelines.session import waiting

NAME = "waiting for a bus"


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(waiting, "POLL_S", 0.01)
    monkeypatch.setattr(waiting, "TELL_EVERY_S", 0.0)


def wait_for_the_end():
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(20)
            assert not thread.is_alive()


def test_it_is_told_until_the_waiting_is_over_and_by_one_at_a_time(at_once, capsys):
    looks = iter([True] * 3 + [False])
    gate = threading.Event()

    def lasts():
        gate.wait(20)
        return next(looks)

    for _ in range(2):
        waiting.tell_while(lasts, lambda seconds: f"no bus in {seconds:.0f} s", NAME)
    assert sum(thread.name == NAME for thread in threading.enumerate()) == 1
    gate.set()
    wait_for_the_end()
    assert capsys.readouterr().err.count("no bus in 0 s") == 3


def test_nothing_is_told_in_the_first_minute(monkeypatch, capsys):
    monkeypatch.setattr(waiting, "POLL_S", 0.0)
    looks = iter([True] * 5 + [False])
    waiting.tell_while(lambda: next(looks), lambda seconds: "no bus", NAME)
    wait_for_the_end()
    assert not capsys.readouterr().err
