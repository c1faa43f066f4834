"""Hosts that share nothing but a network and the processors: namespaces of one Linux machine.

A host has a network, an address, processes, ``/proc``, ``/tmp``, ``/root``, ``/dev/shm``, a disk of
fixed size, a name and a clock of its own. The project is a clean clone with its environment, and
what the host changes in it only that host sees. The bridge between hosts lies in a network
namespace too: the machine's own network is left alone, and the addresses mean nothing outside.

A host is the processes below its process 1: it vanishes when that is killed, as a machine does
whose power fails. All are killed by the kernel when the process that made them ends, however.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hosts.clone import TRUE_SLEEP, make_clone, make_home
from tests.hosts.processes import COMMAND_S, Running, child_of, first_line
from tests.hosts.sweep import PREFIX, sweep

PROGRAMS = ("unshare", "nsenter", "setpriv", "pivot_root", "ip", "nft", "tc", "timeout", "cc")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
ENVIRONMENT = Path(sys.prefix).resolve()
PROJECT = ENVIRONMENT.parent
"""Where hosts have the project: beside its environment, whose scripts name their interpreter."""
NETWORK = "10.77.0"
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
CPU_GROUPS = Path("/sys/fs/cgroup/cpuacct")


def reason_against() -> str | None:
    """Reason why this machine cannot be several hosts, if there is one."""
    if sys.platform != "linux":
        return "hosts are namespaces of Linux"
    if os.geteuid() != 0:
        return "hosts need root: they are namespaces with mounts and a bridge"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"hosts need {', '.join(missing)} (apt-get install gcc iproute2 nftables util-linux)"
    if not MEMORY_GROUPS.is_dir() or not CPU_GROUPS.is_dir():
        return f"hosts need the control groups {MEMORY_GROUPS} and {CPU_GROUPS} (version 1)"
    probe = ["unshare", "--net", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"]
    done = subprocess.run(probe, capture_output=True, text=True)
    return f"hosts need namespaces: {done.stderr.strip()}" if done.returncode else None


@dataclass
class Host:
    """One host."""

    name: str
    address: str
    rack: "Rack"
    disk_bytes: int = 2 << 30
    memory_bytes: int | None = None
    clock_s: int = 0
    """Seconds that its clock is ahead of the machine's."""
    cpus: int = 1
    """Logical CPUs that a Ray on it offers."""
    counts_cpu: bool = False
    """Whether `cpu_s` is asked for."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment of every command."""
    process: subprocess.Popen[str] | None = None
    slow_cable: subprocess.Popen[str] | None = None
    number: int = 0
    """Id of its process 1, as the machine sees it."""

    @property
    def is_up(self) -> bool:
        """Whether its process 1 runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Switch it on, with an empty disk."""
        plan = self.rack.plan(self)
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--ipc"]
        command += ["--uts", "--pid", "--fork", "--kill-child"]
        command += [sys.executable, "-I", "-S", str(Path(__file__).parent / "process_one.py")]
        self.process = subprocess.Popen(
            [*command, json.dumps(plan)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = first_line(self.process)
        if said != "ready\n":
            raise RuntimeError(f"host {self.name} did not start: status {self.process.wait(30)}")
        self.number = child_of(self.process.pid)
        self.rack.connect(self)

    def vanish(self) -> None:
        """Kill all its processes at once; what was on its disk is gone."""
        if self.slow_cable is not None:
            self.slow_cable.kill()
            self.slow_cable.wait()
            self.slow_cable = None
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.number, signal.SIGKILL)
            self.process.wait(30)
        self.rack.disconnect(self)

    # ---- commands --------------------------------------------------------------------------------

    def words(
        self, command: Sequence[str], limit_s: float, cwd: str = "", **changes: str
    ) -> list[str]:
        """Command of the machine that runs a command on the host, with a time limit there."""
        variables = {**self.rack.variables, **self.variables, **changes}
        if self.clock_s:
            variables["LD_PRELOAD"] = f"{TRUE_SLEEP}:{FAKETIME}"
            variables["FAKETIME"] = f"{self.clock_s:+d}s"
            variables["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
        inside = ["timeout", "--kill-after=5", str(limit_s), *command]
        if not limit_s:
            inside = list(command)
        pairs = [f"{name}={value}" for name, value in variables.items()]
        enter = ["nsenter", "-t", str(self.number), "-m", "-n", "-i", "-u", "-p"]
        # `nsenter --wd` would mean the machine's directory of this name.
        enter += ["--", "env", f"--chdir={cwd or PROJECT}", "-i", *pairs, *inside]
        join = [f"echo $$ > {group}/cgroup.procs; " for group in self.rack.groups(self)]
        return ["sh", "-c", f'{"".join(join)}exec "$@"', "sh", *enter] if join else enter

    def run(
        self, *command: str, limit_s: float = COMMAND_S, cwd: str = "", **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end; its output as text."""
        return subprocess.run(
            self.words(command, limit_s, cwd, **changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s + 30,
        )

    def must(self, *command: str, limit_s: float = COMMAND_S, **changes: str) -> str:
        """Run a command that may not fail; its standard output."""
        done = self.run(*command, limit_s=limit_s, **changes)
        said = f"{self.name}: {shlex.join(command)}: {done.returncode}"
        assert done.returncode == 0, f"{said}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def popen(self, *command: str, limit_s: float = COMMAND_S, **options: Any) -> "Running":
        """Start a command on the host whose output goes to a file of this machine."""
        path = self.rack.directory / f"{len(self.rack.started)}-{self.name}.log"
        changes = options.pop("changes", {})
        with path.open("w") as log:
            process = subprocess.Popen(
                self.words(command, limit_s, **changes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.rack.started.append(process)
        return Running(process, path, limit_s)

    def write(self, path: str, content: str) -> None:
        """Write a file on the host."""
        command = self.words(["sh", "-c", f"mkdir -p $(dirname {path}); cat > {path}"], 30)
        subprocess.run(command, input=content, text=True, check=True, timeout=60)

    def read(self, path: str) -> str:
        """Text of a file of the host."""
        return self.must("cat", path, limit_s=30)

    def cpu_s(self) -> float:
        """Processor seconds of all commands so far and of what they started, ended or not."""
        return int((self.rack.cpu_group(self) / "cpuacct.usage").read_text()) / 1e9

    # ---- faults ----------------------------------------------------------------------------------

    def cut_off(self, *others: "Host") -> None:
        """Lose every packet from and to other hosts, or to all, without a word to either side."""
        named = f"{{ {', '.join(other.address for other in others)} }}"
        rules = ["add table inet cut"]
        for hook, side in (("input", "saddr"), ("output", "daddr")):
            rules.append(f"add chain inet cut {hook} {{ type filter hook {hook} priority 0; }}")
            which = f"ip {side} {named}" if others else f'{hook[0]}ifname "eth0"'
            rules.append(f"add rule inet cut {hook} {which} drop")
        self._nft("\n".join(rules))

    def lose(self, percent: int) -> None:
        """Lose so many of a hundred packets that arrive."""
        self._nft(
            "add table inet cut\n"
            "add chain inet cut input { type filter hook input priority 0; }\n"
            f'add rule inet cut input iifname "eth0" numgen random mod 100 < {percent} drop'
        )

    def delay(self, seconds: float) -> None:
        """Let every packet from and to this host arrive later, until `mend`."""
        self.must(sys.executable, f"{PROJECT}/tests/hosts/relay.py", "finish", "eth0", limit_s=30)
        self.slow_cable = self.rack.slow_down(self, seconds)

    def mend(self) -> None:
        """End `cut_off`, `lose`, `delay` and `throttle`."""
        if self.slow_cable is not None:
            self.slow_cable.kill()
            self.slow_cable.wait()
            self.slow_cable = None
            self.rack.plug_in(self)
        self.run("nft", "delete", "table", "inet", "cut", limit_s=30)
        self.run("tc", "qdisc", "del", "dev", "eth0", "root", limit_s=30)

    def throttle(self, bytes_per_s: int) -> None:
        """Send no faster than this from now on."""
        shape = f"tbf rate {bytes_per_s * 8}bit burst 64kb latency 400ms".split()
        self.must("tc", "qdisc", "add", "dev", "eth0", "root", *shape, limit_s=30)

    def _nft(self, rules: str) -> None:
        command = self.words(["nft", "-f", "-"], 30)
        subprocess.run(command, input=rules + "\n", text=True, check=True, timeout=60)


class Rack:
    """Hosts on one bridge; `rack` makes one."""

    def __init__(self, directory: Path, variables: Mapping[str, str]) -> None:
        self.directory = directory
        self.hosts: dict[str, Host] = {}
        self.started: list[subprocess.Popen[bytes]] = []
        self.switch: subprocess.Popen[str] | None = None
        self.switch_number = 0
        path = f"{PROJECT / ENVIRONMENT.name}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        self.variables = {"PATH": f"{path}:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        self.variables |= {"USER": "root", "SHELL": "/bin/bash", **variables}

    def add(self, name: str, **options: Any) -> Host:
        """Plan a host; all are planned before one starts, so that they know each other's names."""
        host = Host(name, f"{NETWORK}.{len(self.hosts) + 2}", self, **options)
        self.hosts[name] = host
        return host

    def open(self) -> None:
        """Start the bridge."""
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--fork"]
        command += ["--kill-child", sys.executable, "-I", "-S", "-c"]
        command += ["import time\nprint('ready', flush=True)\nwhile True: time.sleep(3600)"]
        command += [f"switch of {self.directory}"]
        self.switch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert first_line(self.switch) == "ready\n"
        self.switch_number = child_of(self.switch.pid)
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def close(self) -> None:
        """Switch everything off."""
        for host in self.hosts.values():
            if host.process is not None:
                host.vanish()
        if self.switch is not None:
            self.switch.kill()
            self.switch.wait()
        for process in self.started:
            process.kill()
            process.wait()
        for host in self.hosts.values():
            for group in self.groups(host):
                with suppress(OSError):
                    group.rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)

    def plan(self, host: Host) -> dict[str, Any]:
        """Plan that process 1 of a host is given."""
        for path in self.groups(host):
            path.mkdir(exist_ok=True)
        group = None
        if host.memory_bytes is not None:
            group = str(self.memory_group(host))
            Path(group, "memory.limit_in_bytes").write_text(str(host.memory_bytes))
        directory = self.directory / "hosts" / host.name
        names = [f"127.0.0.1 localhost {host.name}-itself"]
        names += [f"{other.address} {other.name}" for other in self.hosts.values()]
        return {
            "name": host.name,
            "directory": str(directory),
            "disk_bytes": host.disk_bytes,
            "home": str(self.directory / "home"),
            "project": str(PROJECT),
            "clone": str(self.directory / "clone"),
            "environment": str(ENVIRONMENT),
            "memory_group": group,
            "names": "\n".join([*names, ""]),
        }

    def connect(self, host: Host) -> None:
        """Give a host that has started its address on the bridge."""
        port = f"to-{host.name}"
        ends = ["link", "add", port, "type", "veth", "peer", "name", "eth0"]
        self._ip(*ends, "netns", str(host.number))
        self.plug_in(host)
        host.must("ip", "address", "add", f"{host.address}/24", "dev", "eth0", limit_s=30, cwd="/")
        host.must("ip", "link", "set", "eth0", "up", limit_s=30, cwd="/")

    def plug_in(self, host: Host) -> None:
        """Connect a host's cable to the bridge."""
        self._ip("link", "set", f"to-{host.name}", "master", "bridge", "up")

    def slow_down(self, host: Host, seconds: float) -> subprocess.Popen[str]:
        """Put a program between a host's cable and the bridge, that passes frames on later."""
        port, tap = f"to-{host.name}", f"slow-{host.name}"
        enter = ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(self.switch_number), "-n"]
        command = [sys.executable, str(Path(__file__).parent / "relay.py"), port, tap, str(seconds)]
        process = subprocess.Popen([*enter, *command], stdout=subprocess.PIPE, text=True)
        assert first_line(process) == "ready\n"
        self._ip("link", "set", port, "nomaster")
        self._ip("link", "set", tap, "master", "bridge", "up")
        return process

    def disconnect(self, host: Host) -> None:
        """Take away what is left of a host's cable."""
        with suppress(subprocess.CalledProcessError):  # gone with the host
            self._ip("link", "del", f"to-{host.name}")

    def memory_group(self, host: Host) -> Path:
        """Control group that limits a host's memory."""
        return MEMORY_GROUPS / f"{self.directory.name}-{host.name}"

    def cpu_group(self, host: Host) -> Path:
        """Control group that counts a host's processor time."""
        return CPU_GROUPS / f"{self.directory.name}-{host.name}"

    def groups(self, host: Host) -> list[Path]:
        """Control groups that a host's commands join."""
        memory = [self.memory_group(host)] if host.memory_bytes is not None else []
        return memory + ([self.cpu_group(host)] if host.counts_cpu else [])

    def _ip(self, *words: str) -> None:
        enter = ["nsenter", "-t", str(self.switch_number), "-n", "ip", *words]
        subprocess.run(enter, check=True, capture_output=True, timeout=30)


@contextmanager
def rack(variables: Mapping[str, str]) -> Iterator[Rack]:
    """A rack without hosts; the block's end switches all of them off.

    Args:
        variables: Environment of every command on every host.
    """
    sweep()
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
    made = Rack(directory, variables)
    try:
        make_clone(directory / "clone")
        make_home(directory / "home")
        made.open()
        yield made
    finally:
        made.close()
