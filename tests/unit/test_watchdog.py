"""No test hangs for ever: a watchdog fails it, and one behind that ends the whole run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HANGING = """
import subprocess, sys, threading
import pytest

def test_that_waits_for_a_thread():
    threading.Event().wait()

def test_that_waits_for_a_process():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])

@pytest.fixture
def slow():
    threading.Event().wait()

def test_whose_fixture_never_ends(slow):
    pass
"""
STUCK = """
import ctypes

def test_that_is_stuck_where_python_hears_no_signal():
    while True:
        ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock in its hands
"""


def run_pytest(directory, text, *options):
    (directory / "test_hanging.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", *options]
    command += [f"--rootdir={directory}", "-p", "no:cacheprovider", "test_hanging.py"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=50)


def test_both_watchdogs_are_on(pytestconfig):
    assert 0 < float(pytestconfig.getini("timeout")) <= 300
    assert float(pytestconfig.getini("faulthandler_timeout")) > 0
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True


def test_a_test_that_hangs_fails_and_the_others_go_on(tmp_path):
    done = run_pytest(tmp_path, HANGING, "-o", "timeout=0.5")
    assert done.returncode == 1, done.stdout
    assert "2 failed, 1 error" in done.stdout
    assert done.stdout.count("Timeout (>0.5s) from pytest-timeout") >= 3


def test_a_test_that_cannot_be_interrupted_ends_the_run(tmp_path):
    done = run_pytest(tmp_path, STUCK, "-o", "faulthandler_timeout=1")
    assert done.returncode == 1, done.stdout
    assert "Timeout (0:00:01)!" in done.stderr
    assert "test_that_is_stuck_where_python_hears_no_signal" in done.stderr
