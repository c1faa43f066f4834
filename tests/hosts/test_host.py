"""Hosts: their own files, network, clock and processes, how they fail, and nothing stays."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.hosts.host import FAKETIME, PROJECT, Host, rack
from tests.hosts.processes import first_line, wait_for
from tests.hosts.sweep import PREFIX

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def two(hosts_allowed: None) -> Iterator[tuple[Host, Host]]:
    """Two hosts; the second has little memory and disk."""
    with rack({}) as made:
        hosts = (
            made.add("one", counts_cpu=True),
            made.add("two", disk_bytes=64 << 20, memory_bytes=256 << 20),
        )
        for host in hosts:
            host.start()
        yield hosts


def test_hosts_see_their_own_files_processes_and_names_alone(two):
    one, other = two
    for path in ("/tmp/mine", "/root/mine", f"{PROJECT}/mine", "/dev/shm/mine", "/etc/mine"):
        one.write(path, "of one")
        assert one.read(path) == "of one"
        assert other.run("test", "-e", path).returncode == 1
        assert not Path(path).exists()
    assert [host.must("hostname").strip() for host in two] == ["one", "two"]
    sleeping = one.popen("sleep", "41.5")
    assert wait_for(lambda: "sleep 41.5" in one.must("ps", "ax"), 20)
    assert "sleep 41.5" not in other.must("ps", "ax")
    assert len(other.must("ps", "ax").splitlines()) < 6
    sleeping.process.kill()


def test_the_project_is_what_a_clone_has_with_its_environment(two):
    listed = set(two[0].must("ls", "-A", str(PROJECT)).split())
    assert {"submit.py", "lightsans", ".rayignore", ".venv"} <= listed
    assert not {".git", ".mypy_cache"} & listed
    where = "import lightsans, torch; print(lightsans.__file__, torch.__file__)"
    found = two[0].must("python", "-c", where).split()
    assert found[0] == f"{PROJECT}/lightsans/__init__.py"
    assert found[1].startswith(f"{PROJECT}/.venv/")


def test_hosts_reach_each_other_by_name_and_nobody_else(two):
    one, other = two
    server = one.popen("python", "-m", "http.server", "8000", limit_s=100)
    ask = ["curl", "--silent", "--max-time", "3", "--output", "/dev/null", "http://one:8000"]
    assert wait_for(lambda: other.run(*ask).returncode == 0, 20)
    assert "default" not in other.must("ip", "route")
    assert (
        one.address not in subprocess.run(["ip", "address"], capture_output=True, text=True).stdout
    )
    other.cut_off(one)
    assert other.run(*ask).returncode == 28, "packets are lost, nobody is told"
    other.mend()
    assert other.run(*ask).returncode == 0
    one.throttle(20_000)
    one.must("sh", "-c", f"head -c 100000 /dev/zero > {PROJECT}/large")
    began = time.monotonic()
    assert other.run(*ask[:2], "--output", "/dev/null", "http://one:8000/large").returncode == 0
    assert time.monotonic() - began > 1
    one.mend()
    assert server.process.poll() is None


ROUND = """
import socket, time
with socket.create_connection(("one", 8000), 20) as connection:
    began = time.monotonic()
    connection.sendall(b"GET /large HTTP/1.0\\r\\n\\r\\n")
    size = 0
    while piece := connection.recv(65536):
        size += len(piece)
print(size, time.monotonic() - began)
"""


def test_a_cable_may_be_slow_and_lose_packets_and_no_byte_is_wrong(two):
    one, other = two
    one.must("sh", "-c", f"head -c 300000 /dev/zero > {PROJECT}/large")
    server = one.popen("python", "-m", "http.server", "8000", limit_s=100)
    assert wait_for(lambda: other.run("python", "-c", ROUND).returncode == 0, 30)
    quick = float(other.must("python", "-c", ROUND).split()[1])
    for slow in (one, other):
        slow.delay(0.1)
        size, seconds = other.must("python", "-c", ROUND).split()
        assert int(size) > 300_000
        assert float(seconds) > quick + 0.2, "there and back"
        slow.mend()
    other.lose(20)
    size, _ = other.must("python", "-c", ROUND).split()
    assert int(size) > 300_000
    other.mend()
    server.process.kill()


def test_disk_and_memory_of_a_host_end(two):
    _, other = two
    full = other.run("sh", "-c", "head -c 100000000 /dev/zero > /tmp/large")
    assert "No space left on device" in full.stderr
    other.must("rm", "/tmp/large")
    greedy = other.run(sys.executable, "-c", "b'x' * (1 << 30)")
    assert greedy.returncode in (137, -9)
    limit = other.read("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    assert int(limit) == 256 << 20


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs faketime (apt-get install faketime)")
def test_a_clock_may_be_ahead_while_time_passes_as_usual(two):
    one, _ = two
    clocks = "import time; time.sleep(0.1); print(time.time(), time.monotonic())"
    one.clock_s = 600
    ahead, passed = map(float, one.must("python", "-c", clocks).split())
    one.clock_s = 0
    now, later = map(float, one.must("python", "-c", clocks).split())
    assert 300 < ahead - now < 600
    assert 0 < later - passed < 300


def test_a_host_vanishes_with_all_its_processes_and_comes_back_empty(two):
    one, _ = two
    one.write("/tmp/kept", "no")
    running = one.popen("sleep", "100", limit_s=200)
    one.vanish()
    assert running.wait(20) != 0
    assert not one.is_up
    one.start()
    assert one.run("test", "-e", "/tmp/kept").returncode == 1


def test_processor_time_of_a_host_counts_commands_that_ended(two):
    one, _ = two
    before = one.cpu_s()
    busy = "import time\nwhile time.process_time() < 0.6: pass"
    one.must("python", "-c", busy, limit_s=60)
    assert one.cpu_s() - before > 0.5


OWNER = """
import sys, time
from tests.hosts.host import rack
with rack({}) as made:
    host = made.add("lonely", memory_bytes=64 << 20)
    host.start()
    print(made.directory, host.number, made.switch_number, flush=True)
    time.sleep(100)
"""


def test_nothing_stays_of_hosts_whose_maker_is_killed(hosts_allowed):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    directory, *numbers = first_line(owner).split()
    assert Path(directory).name.startswith(f"{PREFIX}{owner.pid}-")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{n}").exists() for n in numbers), 20)
    with rack({}):
        assert not Path(directory).exists()
        assert not list(Path("/sys/fs/cgroup/memory").glob(f"{Path(directory).name}*"))
    mounts = json.dumps(Path("/proc/mounts").read_text())
    assert directory not in mounts
