import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightsans.errors import ConfigError, StorageError
from lightsans.scratch import remove_directories
from pipelines.session import directories
from pipelines.session.directories import keep_logs, make_ray_directories


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files with 90 characters."""
    long = tmp_path / ("x" * max(1, 89 - len(str(tmp_path))))
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    yield long
    remove_directories()


def test_a_long_directory_for_temporary_files_leaves_room_for_sockets(temporary):
    made = make_ray_directories()
    session = Path(made.sessions) / "session_2026-11-27_11-25-17_123456_1234567" / "sockets"
    session.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(session / "plasma_store"))
    assert made.scratch.startswith(str(temporary)), "spilled objects need the large disk"
    remove_directories()
    assert not Path(made.sessions).exists()
    assert not list(temporary.iterdir())


def test_a_short_one_takes_everything(temporary, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as short:
        monkeypatch.setenv("TMPDIR", short)
        made = make_ray_directories()
        assert made.sessions == made.scratch
        assert made.sessions.startswith(short)


def test_no_place_is_an_error_that_says_why_for_each(temporary, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *given: False)
    with pytest.raises(ConfigError, match=r"/tmp: it cannot be written to.*set TMPDIR"):
        make_ray_directories()


def test_full_disks_are_an_outage(temporary, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(StorageError, match="no space left"):
        make_ray_directories()


def test_logs_of_failed_commands_are_kept_within_bounds(temporary, monkeypatch):
    assert keep_logs() is None
    made = make_ray_directories()
    logs = Path(made.sessions) / "session_1" / "logs"
    logs.mkdir(parents=True)
    assert keep_logs() is None
    for number in range(40):
        (logs / f"worker-{number}.err").write_bytes(b"a" * directories.KEPT_FILE_BYTES + b"end")
    kept = []
    for number in range(directories.KEPT_COMMANDS + 2):
        monkeypatch.setattr(time, "strftime", lambda form, n=number: f"2026112{n}")
        kept.append(Path(keep_logs() or ""))
    remove_directories()
    there = sorted(kept[-1].parent.iterdir())
    assert there == kept[2:]
    files = list(kept[-1].iterdir())
    assert sum(file.stat().st_size for file in files) == directories.KEPT_BYTES
    assert all(file.read_bytes().endswith(b"end") for file in files)
