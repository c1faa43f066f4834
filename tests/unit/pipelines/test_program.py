"""Signals in the first second, when nothing is imported yet."""

import json
import os
import signal
import subprocess
import sys

import pytest

from pipelines.early import ending_at_once
from tests.commands import ROOT, wait_until

SLOW = """
import pathlib, time
pathlib.Path(__file__).with_name("begun").touch()
time.sleep(60)
"""


@pytest.mark.programs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_signal_while_everything_is_imported_ends_in_one_line(tmp_path, number, form):
    (tmp_path / "typer.py").write_text(SLOW)
    # In the background, and under nohup, signals would be ignored from birth.
    code = (
        "import runpy, signal, sys\n"
        "sys.argv = ['submit.py', 'models']\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "runpy.run_path('submit.py', run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "LIGHTSANS_LOG": form}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert wait_until((tmp_path / "begun").exists, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    [line] = said.splitlines()
    message = json.loads(line)["message"] if form == "json" else line
    assert message.endswith("the same command goes on from here")


def test_signals_that_are_ignored_stay_so_and_handlers_come_back():
    before = [signal.signal(signal.SIGHUP, signal.SIG_IGN)]
    before.append(signal.getsignal(signal.SIGTERM))
    try:
        with ending_at_once():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is before[1]
    finally:
        signal.signal(signal.SIGHUP, before[0])


@pytest.mark.programs
def test_names_and_arguments_are_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "größe 张" / "a.csv"
    path.parent.mkdir()
    path.write_text("user_id,item_id,timestamp\n张三,i,1600000000\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "submit.py", "inspect", str(path), "--json"],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["columns"][0]["examples"] == ["张三"]
    assert str(path) in found["yaml"]


END = """
import atexit, sys, types
app = types.ModuleType("pipelines.commands.app")
app.main = lambda: (atexit.register(print, "in the end"), sys.exit(%s))
sys.modules["pipelines.commands.app"] = app
from pipelines.program import main
class Kept:
    def __del__(self):
        print("taken apart")
kept = Kept()
main()
"""


@pytest.mark.programs
@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ("3", 3, "in the end"),
        ("None", 0, "in the end"),
        ("'a message'", 1, "in the end\ntaken apart"),
    ],
)
def test_the_process_ends_when_what_is_registered_has_run(said, status, expected):
    """A quarter of a second of every command would go into taking modules apart."""
    done = subprocess.run(
        [sys.executable, "-c", END % said], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (status, expected), done.stderr
