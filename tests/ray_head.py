"""A Ray head of our own: a real dashboard with token authentication, on unusual ports."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.commands import ROOT
from tests.servers import free_ports

COMMAND_S = 150.0
"""No command takes longer: a hanging one fails."""


@dataclass(frozen=True)
class Head:
    """A running head, and what a client needs to reach it."""

    url: str
    token: Path
    directory: Path
    """Its own directory, with the log of interactions ``log.csv`` in it."""
    programs: Path
    """Directory of the ``ray`` and ``python`` it runs with."""

    def environment(self, **changes: str) -> dict[str, str]:
        """Variables of a client; nothing of the tests' own Ray is left."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LIGHTSANS_"))}
        path = f"{self.programs}{os.pathsep}{kept['PATH']}"
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}
        return {**kept, "PATH": path, **auth, **changes}

    def run(
        self, *command: str, cwd: Path = ROOT, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command beside the head, out of the checkout unless said otherwise."""
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(**changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )

    def submit_py(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run ``submit.py`` with ``--cluster``."""
        command = (sys.executable, "submit.py", *words, "--cluster", self.url)
        return self.run(*command, cwd=ROOT, **changes)

    def settings(self, root: str = "root", log: str = "log.csv") -> list[str]:
        """Options that name a root and a log below the head's directory."""
        pairs = {"root": self.directory / root, "data.input": self.directory / log}
        pairs["data.num_parts"] = Path("1")
        return [word for name, value in pairs.items() for word in ("--set", f"{name}={value}")]


@contextmanager
def run_head(programs: Path) -> Iterator[Head]:
    """A head for the time of the block; its directory is short, because sockets lie in it.

    Args:
        programs: Directory of the ``ray`` and ``python`` it runs with.
    """
    directory = Path(tempfile.mkdtemp(prefix="rj", dir="/tmp"))
    names = ["port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"]
    names += ["metrics-export-port", "ray-client-server-port"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    (directory / "token").write_text(secrets.token_hex(32))
    rows = [f"person-{n % 7},i{n % 5},4,{n}" for n in range(70)]
    (directory / "log.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]))
    url = f"http://127.0.0.1:{ports['dashboard-port']}"
    started = Head(url, directory / "token", directory, programs)
    command = [str(programs / "ray"), "start", "--head", "--block", "--num-cpus=4"]
    command += ["--object-store-memory=200000000", f"--temp-dir={directory}/r"]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with (directory / "head.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            # It would wait half a minute for Serve, which is not there.
            env=started.environment(RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for_dashboard(started, process)
        yield started
    except BaseException:
        _print_logs(directory)  # they are gone in a moment
        raise
    finally:
        process.terminate()  # the processes of the head end with the one that blocks
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
        shutil.rmtree(directory, ignore_errors=True)


def _print_logs(directory: Path) -> None:
    """Show the ends of what the head and its dashboard said, to whom a test fails."""
    logs = sorted(directory.glob("r/session_latest/logs/dashboard*.*"))
    for log in [directory / "head.log", *logs]:
        print(f"---- {log.name}\n{log.read_text(errors='replace')[-2000:]}")


def _wait_for_dashboard(head: Head, process: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(f"{head.url}/api/jobs/")
    request.add_header("Authorization", f"Bearer {head.token.read_text()}")
    deadline = time.monotonic() + 60
    while True:
        with suppress(OSError), urllib.request.urlopen(request, timeout=5):
            return
        log = (head.directory / "head.log").read_text()
        assert process.poll() is None, log
        assert time.monotonic() < deadline, log
        time.sleep(0.5)
