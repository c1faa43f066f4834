"""Processes of a run: their processor time, files and memory."""

import subprocess
import sys
import time

import pytest

from pipelines.session.process_tree import ProcessorClock, read_figures, read_tree

WORK = (
    "import sys, time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\nsys.stdin.read()"
)


@pytest.fixture
def busy_child():
    """A child that has worked for 0.2 s and waits, its parent a process that waits too."""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORK!r}])"
    child = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    yield child
    child.communicate()


def test_time_of_a_block_is_that_of_the_process_and_its_descendants(busy_child):
    with ProcessorClock().watching() as clock:
        busy_child.stdout.readline()
    assert clock.seconds is not None
    assert clock.seconds >= 0.15
    assert clock.processes >= 3


def test_time_before_the_block_does_not_count(busy_child):
    busy_child.stdout.readline()
    spent = ProcessorClock(busy_child.pid)
    with spent.watching():
        pass
    assert spent.seconds is not None
    assert spent.seconds < 0.15


def test_a_process_that_ended_keeps_the_time_that_was_seen(busy_child):
    clock = ProcessorClock(busy_child.pid)
    clock.look()
    busy_child.stdout.readline()
    clock.look()
    before = clock.seconds
    busy_child.communicate()
    clock.look()
    assert before is not None
    assert clock.seconds == before
    assert before >= 0.15


def test_figures_count_processes_open_files_and_memory(busy_child, tmp_path):
    busy_child.stdout.readline()
    before = read_figures()
    with (tmp_path / "file").open("w"):
        during = read_figures()
    assert before is not None
    assert during is not None
    assert during.handles == before.handles + 1
    assert during.processes >= 3
    assert 1 << 20 < during.driver_bytes < during.all_bytes


def test_of_a_process_that_has_ended_nothing_is_known():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    deadline = time.monotonic() + 5
    while read_tree(ended.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_figures(ended.pid) is None
    clock = ProcessorClock(ended.pid)
    clock.look()
    assert clock.seconds is None
