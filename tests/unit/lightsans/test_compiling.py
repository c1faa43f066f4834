"""The place of compiled kernels."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lightsans import compiling
from tests.commands import ROOT

GROUP = """
import numpy as np
from lightsans.columns import kernels

kernels.group_rows(np.array([1, 0, 1]), 2)
stats = kernels.group_rows.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def hits_and_misses(checkout: Path, home: Path) -> list[int]:
    """Count what a process in this copy of the package found compiled and compiled itself."""
    done = subprocess.run(
        [sys.executable, "-c", GROUP],
        cwd=checkout, env={**os.environ, "HOME": str(home), "PYTHONPATH": str(checkout)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [int(count) for count in done.stdout.split()]


@pytest.mark.programs
def test_directories_that_ray_unpacks_share_what_is_compiled(tmp_path):
    """Each job has its own copy; only a change of a kernel compiles anew."""
    jobs = [tmp_path / "job-1", tmp_path / "job-2"]
    for job in jobs:
        shutil.copytree(ROOT / "lightsans", job / "lightsans")
    assert hits_and_misses(jobs[0], tmp_path) == [0, 1]
    assert hits_and_misses(jobs[1], tmp_path) == [1, 0]
    with (jobs[1] / "lightsans/rules/kernels.py").open("a") as file:
        file.write("# another callee\n")
    assert hits_and_misses(jobs[1], tmp_path) == [0, 1]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Make a home and a directory for temporary files, and forget what was found before."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(compiling._numba, "CACHE_DIR", "")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    compiling.kernel_directory.cache_clear()
    yield tmp_path
    compiling.kernel_directory.cache_clear()


def directory() -> Path:
    found = compiling.kernel_directory()
    assert found is not None
    return found


def test_kernels_are_kept_in_the_user_s_cache(places):
    assert directory().parent == places / "home/.cache"


def test_a_home_that_cannot_be_written_lends_what_it_holds(places, monkeypatch):
    """An image has compiled them, and runs with a read-only file system."""
    kept = directory()
    (kept / "ranking").mkdir()
    (kept / "ranking/kernels.nbi").write_bytes(b"compiled")
    is_writable = compiling._is_writable
    monkeypatch.setattr(compiling, "_is_writable", lambda path: path != kept and is_writable(path))
    compiling.kernel_directory.cache_clear()
    found = directory()
    assert found.parent == places / "tmp"
    assert (found / "ranking/kernels.nbi").read_bytes() == b"compiled"
    assert [path.name for path in found.parent.iterdir()] == [found.name], "no copy is left over"


def test_code_that_others_could_have_put_there_is_not_run(places, monkeypatch):
    name = directory().name
    (places / "home/.cache").rename(places / "home/away")
    (places / "home/.cache").write_text("no directory")
    others = places / f"tmp/{name}-{os.getuid()}"
    others.mkdir()
    others.chmod(0o777)
    compiling.kernel_directory.cache_clear()
    assert compiling.kernel_directory() is None
    assert compiling.compiled()(lambda x: x + 1)(1) == 2, "compiled for this process alone"
