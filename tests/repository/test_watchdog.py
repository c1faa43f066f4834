"""No test hangs for ever: a watchdog fails it, and one behind that ends the whole run."""

import os
import subprocess
import sys

from tests import conftest, watchdog
from tests.commands import ROOT

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
import time

def test_that_hears_nothing():
    while True:
        try:
            time.sleep(60)
        except BaseException:  # as Ray does while it waits
            pass
"""
CONFTEST = """
from tests import watchdog
from tests.watchdog import pytest_runtest_protocol

watchdog.GRACE_S = 0.5
"""


def run_pytest(directory, text):
    (directory / "test_hanging.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", f"{ROOT}/pyproject.toml"]
    command += ["-o", "timeout=0.5", f"--rootdir={directory}", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, "test_hanging.py"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_both_watchdogs_are_on(pytestconfig):
    assert 0 < float(pytestconfig.getini("timeout")) <= 300
    assert conftest.pytest_runtest_protocol is watchdog.pytest_runtest_protocol


def test_a_test_that_hangs_fails_and_the_others_go_on(tmp_path):
    done = run_pytest(tmp_path, HANGING)
    assert done.returncode == 1, done.stdout
    assert "2 failed, 1 error" in done.stdout
    assert done.stdout.count("Timeout (>0.5s) from pytest-timeout") >= 3


def test_a_test_that_cannot_be_interrupted_ends_the_run(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    done = run_pytest(tmp_path, STUCK)
    assert done.returncode == 1, done.stdout
    assert "Timeout (0:00:01)!" in done.stderr
    assert "test_that_hears_nothing" in done.stderr
