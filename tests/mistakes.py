"""Command lines that end as a user's mistake does, run in this process."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from pipelines.commands.app import main


def call(capfd: pytest.CaptureFixture[str], *words: str) -> SimpleNamespace:
    """Run a command line in this process, as a shell would see it."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    shown = capfd.readouterr()
    return SimpleNamespace(status=ended.value.code or 0, error=shown.err, all=shown.out + shown.err)


def require_told(done: SimpleNamespace, words: list[str], *named: str, status: int = 2) -> None:
    """The command ended as a user's mistake does: a message with one of these names in it."""
    text = f"{words}\n{done.all[-3000:]}"
    assert done.status == status, text
    assert "Traceback" not in done.all, text
    assert "unexpectedly" not in done.all, text
    told = "".join(done.error.split())  # help and boxes are wrapped
    assert any("".join(name.split()) in told for name in named), text


RAY_STARTED = 77
"""Status of a command that found nothing wrong before it started Ray."""


def refuse_ray(**arguments: object) -> None:
    """Stand in for `ray.init`: what a user did wrong is found before Ray is started."""
    raise SystemExit(RAY_STARTED)


@contextmanager
def alone(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[None]:
    """No Ray, no network, no retry; an empty directory to work in."""
    monkeypatch.chdir(directory)
    monkeypatch.setattr(ray, "init", refuse_ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    logging.getLogger("lightsans").handlers.clear()
