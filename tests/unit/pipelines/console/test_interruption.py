"""Interruptions through real processes, which do what keeps Python from hearing a signal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT, wait_until

IN_C_CODE = """
import ctypes
lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
while True:
    libc.pthread_mutex_lock(lock)
"""
SWALLOWING = """
import time
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""
ENDING_SLOWLY = """
import time
try:
    time.sleep(60)
finally:
    time.sleep(60)
"""
FALLING_APART = """
import time
class Reference:
    def __del__(self):
        raise AttributeError("the other one is gone")
reference = Reference()
time.sleep(60)
"""


def start(work: str, within_s: float, directory: Path) -> "subprocess.Popen[str]":
    code = (
        "import ctypes, pathlib, signal, sys, time\n"  # what the work imports takes a while
        "from pipelines.commands.app import plain_errors\n"
        "from pipelines.console import interruption\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # tests may run under nohup
        f"interruption.END_WITHIN_S = {within_s}\n"
        "interruption.install()\n"
        f"ended = pathlib.Path({str(directory)!r})\n"
        "interruption.call_at_end((ended / 'all').touch)\n"
        "with plain_errors(sys.exit):\n"
        "    (ended / 'begun').touch()\n" + work.replace("\n", "\n    ")
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert wait_until((directory / "begun").exists, process)
    return process


def last_words(process: "subprocess.Popen[str]") -> str:
    try:
        _, shown = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    [line] = shown.splitlines()
    return str(line)


@pytest.mark.programs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("work", [IN_C_CODE, SWALLOWING, ENDING_SLOWLY])
def test_a_command_that_does_not_end_by_itself_is_ended_with_one_line(work, number, tmp_path):
    process = start(work, 0.2, tmp_path)
    process.send_signal(number)
    line = last_words(process)
    assert process.returncode == 128 + number
    assert line.endswith("the same command goes on from here")
    assert (tmp_path / "all").exists()


@pytest.mark.programs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_objects_that_miss_each_other_at_the_end_say_nothing_after_its_line(number, tmp_path):
    process = start(FALLING_APART, 60, tmp_path)
    process.send_signal(number)
    assert last_words(process).endswith("the same command goes on from here")
    assert process.returncode == 128 + number


@pytest.mark.programs
def test_the_second_signal_ends_a_command_at_once(tmp_path):
    process = start(SWALLOWING, 1e6, tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    last_words(process)
    assert process.returncode in (130, 143)  # the system does not keep their order


@pytest.mark.programs
def test_what_fails_because_of_a_signal_is_told_as_the_interruption(tmp_path):
    work = """
import time
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise RuntimeError("a worker is gone")
"""
    process = start(work, 60, tmp_path)
    process.send_signal(signal.SIGINT)
    assert last_words(process) == "interrupted; the same command goes on from here"
    assert process.returncode == 130
