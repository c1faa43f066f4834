"""Jobs on a head of our own: a real dashboard with token authentication, on unusual ports."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.ray_head import COMMAND_S, Head, run_head

BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.timeout(COMMAND_S + 60), pytest.mark.slow]

RUNNING = re.compile(r"job (lightsans-\S+) submitted")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """One head for all tests of this file."""
    with run_head(BIN) as started:
        yield started


def test_the_pipeline_runs_through_rays_own_command_line_and_its_log_names_no_user(head):
    """``ray job submit --working-dir . -- python submit.py pipeline --config …``, as it stands."""
    submit = ["ray", "job", "submit", "--address", head.url, "--working-dir", "."]
    pipeline = ["python", "submit.py", "pipeline", "--config", "pipelines/configs/debug.yaml"]
    small = ["--set", "data.format=csv", "--set", "train.num_workers=1", "--set", "train.epochs=1"]
    small += ["--set", "score.num_workers=1"]
    small += ["--set", "score.remove_seen=false"]  # here everybody has seen everything
    done = head.run(*submit, "--", *pipeline, *head.settings(), *small, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    [result] = [json.loads(x) for x in done.stdout.splitlines() if x.startswith('{"dataset"')]
    assert (result["dataset"]["users"], result["dataset"]["items"]) == (7, 5)
    assert result["recommendations"]["users"] == 7
    assert Path(result["recommendations"]["path"], "manifest.json").exists()
    assert "person-" not in done.stdout + done.stderr


PROBE = """
import pathlib, lightsans, ray
ray.init()
def where():
    import lightsans, pipelines
    here = [pathlib.Path(m.__file__).parents[1].name for m in (lightsans, pipelines)]
    return here
class Actor:
    def where(self): return where()
task, actor = ray.remote(where).remote(), ray.remote(Actor).remote().where.remote()
print("found", [pathlib.Path(lightsans.__file__).parents[1].name], *ray.get([task, actor]))
"""


def test_driver_tasks_and_actors_import_the_uploaded_code_and_not_an_installed_one(head):
    submit = ["ray", "job", "submit", "--address", head.url, "--working-dir", "."]
    done = head.run(*submit, "--", "python", "-c", PROBE)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("found")]
    places = re.findall(r"'([^']+)'", line)
    assert len(places) == 5
    assert {place[:9] for place in places} == {"_ray_pkg_"}


def test_a_stage_submits_itself_and_its_result_and_every_line_arrive_through_broken_streams(head):
    with breaking_streams(head) as (url, breaks):
        words = ["preprocess", *head.settings("root2"), "--json", "--cluster", url]
        done = head.run(sys.executable, "submit.py", *words)
    assert done.returncode == 0, done.stderr
    [result] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (result["users"], result["items"]) == (7, 5)
    assert breaks
    lines = done.stderr.splitlines()
    told = RUNNING.match(lines[0])
    assert told, lines
    assert sum("Running entrypoint for job" in line for line in lines) == 1
    assert sum("7 users (7 trainable)" in line for line in lines) == 1
    assert lines[-1] == f"job {told[1]} succeeded"


def test_the_exit_status_of_the_job_comes_back(head):
    done = head.submit_py("preprocess", *head.settings(log="absent.csv"))
    assert done.returncode == 2
    assert "absent.csv: no such file" in done.stdout
    assert "failed with exit status 2" in done.stderr.splitlines()[-1]


def test_a_wrong_setting_fails_here_before_anything_is_uploaded(head):
    done = head.submit_py("preprocess", *head.settings(), "--set", "data.max_reject_fraction=2")
    assert done.returncode == 2
    assert "data.max_reject_fraction" in done.stderr
    assert "submitted" not in done.stderr


def test_an_interpreter_that_is_not_there_names_the_option(head):
    words = ["preprocess", *head.settings(), "--cluster-python", "/nowhere/python"]
    done = head.submit_py(*words)
    assert done.returncode == 2
    assert "--cluster-python /path/to/python" in done.stderr


ENDLESS = ["pipeline", "--set", "train.epochs=1000000", "--set", "train.patience=0"]


HEARS_INTERRUPTS = [
    sys.executable,
    "-c",
    "import os, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    "os.execv(sys.argv[1], sys.argv[1:])",
]
"""Before a command: a process of the background is born deaf to Ctrl-C, and so are its children.

Not a ``preexec_fn``, which forks this process with the threads of Ray's gRPC in it: the test
cluster then may never disconnect.
"""


def test_interrupted_without_a_terminal_the_job_goes_on_until_it_is_stopped(head):
    command = [*HEARS_INTERRUPTS, sys.executable, "submit.py", *ENDLESS]
    command += head.settings("endless")
    process = subprocess.Popen(
        [*command, "--cluster", head.url],
        cwd=ROOT,
        env=head.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_at_the_end(process):
        assert process.stdout
        assert process.stderr
        assert "Running entrypoint" in read_until(process.stdout.fileno(), "Running entrypoint")
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(timeout=COMMAND_S) == 130
    found = re.search(r"`python (submit\.py stop (\S+)) --cluster", told)
    assert found, told
    assert head.submit_py("stop", found[2]).stdout == f"job {found[2]}: stopped\n"


def test_interrupted_at_a_terminal_it_asks_and_stops_the_job(head):
    controller, terminal = pty.openpty()
    command = [*HEARS_INTERRUPTS, sys.executable, "submit.py", *ENDLESS]
    command += head.settings("endless")
    process = subprocess.Popen(
        [*command, "--cluster", head.url],
        cwd=ROOT,
        env=head.environment(TERM="dumb"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    with killed_at_the_end(process):
        told = read_until(controller, "Running entrypoint")
        process.send_signal(signal.SIGINT)
        told += read_until(controller, "[y/N]")
        os.write(controller, b"y\n")
        told += read_until(controller, ": stopped")
        assert process.wait(timeout=COMMAND_S) == 130
    os.close(controller)
    job_id = RUNNING.search(told)
    assert job_id
    assert f"job {job_id[1]}: stopped" in told


def test_a_job_left_alone_is_found_again_with_its_log_and_result(head):
    words = ["preprocess", *head.settings(), "--json", "--log-format", "json"]
    job_id = json.loads(head.submit_py(*words, "--no-wait").stdout)["job_id"]
    followed = head.submit_py("logs", job_id, "--follow", "--json", LIGHTSANS_LOG="json")
    found = json.loads(followed.stdout)
    assert (found["job_id"], found["status"], found["exit_status"]) == (job_id, "SUCCEEDED", 0)
    assert found["result"]["users"] == 7
    assert [json.loads(line)["level"] for line in followed.stderr.splitlines()]
    listed = json.loads(head.submit_py("jobs", "--json").stdout)["jobs"]
    assert [job["status"] for job in listed if job["job_id"] == job_id] == ["SUCCEEDED"]

    raw = head.submit_py("logs", job_id).stdout.splitlines()
    rays = re.compile(r"\[?20\d\d-|Running entrypoint for job|\(\w+ pid=")
    ours = [json.loads(line) for line in raw if not rays.match(line)]
    said = [line for line in ours if line.get("stage") == "preprocess"]
    assert said
    expected = {("info", found["result"]["dataset_id"], job_id)}
    assert {(line["level"], line["dataset_id"], line["job_id"]) for line in said} == expected


def test_an_unknown_job_is_an_error_that_says_where_to_look(head):
    done = head.submit_py("stop", "lightsans-train-none")
    assert done.returncode == 2
    assert "no job lightsans-train-none" in done.stderr


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, r"HTTP 401.*RAY_AUTH_MODE is disabled.*RAY_AUTH_TOKEN_PA"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, r"HTTP 403.*another cluster.*ray get-auth-token"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, r"/nowhere\. To mend it, export RAY_AUTH_MODE=token"),
    ],
)
def test_a_token_that_is_missing_or_wrong_explains_itself(head, changes, expected):
    done = head.submit_py("preprocess", *head.settings(), **changes)
    assert done.returncode == 2
    assert re.search(expected, done.stderr.splitlines()[-1]), done.stderr
    assert head.token.read_text() not in done.stderr


# ---- helpers -------------------------------------------------------------------------------------


@contextmanager
def killed_at_the_end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Iterator[None]:
    watchdog = threading.Timer(COMMAND_S, process.kill)
    watchdog.start()
    with process:
        try:
            yield
        finally:
            watchdog.cancel()
            process.kill()


def read_until(descriptor: int, words: str) -> str:
    """Text that can be read up to these words, or up to the end."""
    text = ""
    while words not in text:
        try:
            piece = os.read(descriptor, 4096)
        except OSError:  # a pseudo-terminal without a process
            break
        if not piece:
            break
        text += piece.decode()
    return text


@contextmanager
def breaking_streams(head: Head) -> Iterator[tuple[str, list[float]]]:
    """A proxy before the dashboard that cuts each stream of a log after a second and a half."""
    breaks: list[float] = []
    server = socket.create_server(("127.0.0.1", 0))
    upstream = ("127.0.0.1", int(head.url.rpartition(":")[2]))

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # the other direction was cut
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(upstream) as dashboard:
            first = client.recv(65536)
            dashboard.sendall(first)
            directions = [(client, dashboard), (dashboard, client)]
            threads = [threading.Thread(target=pump, args=pair, daemon=True) for pair in directions]
            for thread in threads:
                thread.start()
            if b"/logs/tail" in first.split(b"\r\n")[0]:
                time.sleep(1.5)
                breaks.append(time.monotonic())
                for side in (client, dashboard):
                    with suppress(OSError):  # over already
                        side.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(timeout=COMMAND_S)

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", breaks
