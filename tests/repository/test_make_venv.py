"""`make` sets its environment up once, and says when the Python at hand is too old for it."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.commands import ROOT

OLD_PYTHON = f"""#!{sys.executable}
import runpy, sys
if sys.argv[1] == "-c":
    sys.exit(1)  # the Makefile's own look at the version
sys.version_info, sys.version = (3, 8, 10, "final", 0), "3.8.10 (default)"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def checkout(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "tools/make_venv.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(checkout, *arguments, **environment):
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_a_python_that_is_too_old_is_named_with_the_way_out(checkout):
    programs = checkout / "bin"
    programs.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (programs / name).write_text(OLD_PYTHON)
        (programs / name).chmod(0o755)
    done = make(checkout, "check", PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "is 3.8.10" in done.stderr
    assert "make setup PYTHON=/path/to/python3.11" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_environment_is_made_anew_only_after_a_change_of_the_lock(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.installed").touch()
    assert make(checkout, "--question", "setup").returncode == 0
    os.utime(checkout / ".venv/.installed", (0, 0))
    assert make(checkout, "--question", "setup").returncode == 1
