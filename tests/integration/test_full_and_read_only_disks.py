"""Disks that are full or can only be read: real ones, of a fixed size, where a test may mount."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.logs_on_disk import write_csv

ROWS = [(f"u{number % 40}", f"i{number % 17}", 1_600_000_000 + number) for number in range(400)]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a disk of some bytes in memory: ``mount("64k")``; ``mount("1m", "ro")``."""
    mounted: list[Path] = []

    def make(size: str, *options: str) -> Path:
        directory = tmp_path / f"disk{len(mounted)}"
        directory.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options])]
        done = subprocess.run([*words, "tmpfs", str(directory)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"may not mount here: {done.stderr.strip()}")
        mounted.append(directory)
        return directory

    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    yield make
    for directory in mounted:
        subprocess.run(["umount", str(directory)], check=True)


def submit(*words: str, **environment: str) -> tuple[int, list[str]]:
    """Exit status and lines of a command, which starts no Ray."""
    done = subprocess.run(
        [sys.executable, "submit.py", *words],
        cwd=ROOT, env={**os.environ, **environment}, timeout=200, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_a_disk_that_is_full_is_an_outage_told_in_one_line(mount: Callable[..., Path]) -> None:
    disk = mount("64k")
    status, lines = submit("fetch", "generated", "--to", str(disk / "logs"))
    assert (status, len(lines)) == (1, 1), lines
    assert "no space left; free some (or set root, or TMPDIR, to another disk)" in lines[0]
    assert str(disk) in lines[0]
    assert list((disk / "logs").iterdir()) == [], "no part of a file"


@pytest.mark.parametrize("stage", ["preprocess", "nightly"])
def test_a_root_that_can_only_be_read_is_told_before_any_work(
    mount: Callable[..., Path], tmp_path: Path, stage: str
) -> None:
    disk = mount("1m", "ro")
    log = write_csv(tmp_path / "log.csv", ROWS)
    more = ["--as-of", "2020-09-14"] if stage == "nightly" else []
    words = [stage, *more, "-s", f"root={disk}/root", "-s", f"data.input={log}"]
    status, lines = submit(*words, RAY_ADDRESS="127.0.0.1:1")
    assert (status, len(lines)) == (2, 1), lines
    assert f"{disk}/root" in lines[0]


def test_a_full_disk_for_temporary_files_is_told_with_the_way_out(
    mount: Callable[..., Path], tmp_path: Path
) -> None:
    """Ray takes another directory where there is one, so all are looked at."""
    from pipelines.session.directories import _reason_against

    assert _reason_against(str(mount("64k"))) == "no space left on its disk"
    assert _reason_against(str(mount("64m", "ro"))) == "it cannot be written to"
    assert _reason_against(str(mount("64m"))) is None
