import fcntl
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lightsans import scratch
from lightsans.scratch import make_directory, remove_directories, scratch_directory
from tests.commands import ROOT


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A place for temporary files that no process has used."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._remove_abandoned.cache_clear()
    return tmp_path


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


KILLED = f"""
import os, sys
from lightsans.config import StorageConfig
from lightsans.scratch import make_directory, scratch_directory
from lightsans.storage.location import locate
make_directory("lightsans-ray-")
upload = locate("memory://scratch-test/x", StorageConfig()).open_atomic()
with scratch_directory("lightsans-tune-"), upload as aside:
    aside.write_bytes(b"half of it")
    os.kill(os.getpid(), {int(signal.SIGKILL)})
"""


@pytest.mark.programs
def test_the_next_process_removes_what_a_killed_one_left_and_nothing_of_a_living_one(temporary):
    subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT)
    assert len(names_in(temporary)) == 3
    mine = temporary / "lightsans-of-somebody"
    mine.mkdir()
    living = make_directory()
    assert names_in(temporary) == sorted([mine.name, living.name])
    scratch._remove_abandoned.cache_clear()
    with scratch_directory("lightsans-fetch-") as made:  # whichever command comes next
        assert names_in(Path(made)) == []
        assert living.exists()
    remove_directories()
    assert names_in(temporary) == [mine.name]


def test_scratch_space_is_gone_when_its_block_fails_or_its_process_is_told_to_end(temporary):
    def fail() -> None:
        with scratch_directory("lightsans-tune-") as made:
            Path(made, "file").write_text("x")
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        fail()
    assert names_in(temporary) == []
    with scratch_directory("lightsans-tune-"), scratch_directory() as upload:
        Path(upload, "file").write_text("x")
        remove_directories()
        assert names_in(temporary) == []


def test_a_disk_without_locks_serves_too_and_nothing_of_it_is_taken_for_abandoned(
    temporary, monkeypatch
):
    def refuse(*given: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    first = make_directory()
    scratch._remove_abandoned.cache_clear()
    with scratch_directory():
        assert first.exists()
    remove_directories()
    assert names_in(temporary) == []
