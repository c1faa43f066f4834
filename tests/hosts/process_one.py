"""Process 1 of a host: makes the host's file systems, says so, then reaps what nobody waits for.

python process_one.py JSON, in namespaces of its own; see `tests.hosts.host`. When this process
ends, the kernel ends all others of the host and takes its mounts and its network away.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

FRESH = ("tmp", "home", "run", "var/tmp", "srv")
"""Directories of a host with nothing of the machine in them."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def make_file_systems(plan: dict[str, Any]) -> None:
    """Mount a root of the host's own over the machine's, and enter it.

    Whatever the host writes lies in a tmpfs of fixed size, its disk; the machine's files below are
    read only.
    """
    base = Path(plan["directory"])
    disk, root = base / "disk", base / "root"
    disk.mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={plan['disk_bytes']},mode=755", "tmpfs", disk)
    overlay(["/"], disk / "system", root)
    for name in FRESH:
        bind(disk / "fresh" / name, root / name)
        (root / name).chmod(0o1777 if "tmp" in name else 0o755)
    overlay([plan["home"]], disk / "home-of-root", root / "root")
    project = root / plan["project"].lstrip("/")
    overlay([plan["clone"]], disk / "project", project)
    environment = plan["environment"]
    overlay([environment], disk / "environment", root / environment.lstrip("/"))
    kernel_file_systems(root, plan["memory_group"])
    (root / "machine").mkdir()
    subprocess.run(["pivot_root", root, root / "machine"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/machine"], check=True)
    os.rmdir("/machine")


def kernel_file_systems(root: Path, memory_group: str | None) -> None:
    """Mount ``/proc``, ``/sys`` with the host's memory group, and ``/dev`` with its own ``shm``."""
    mount("-t", "proc", "proc", root / "proc")
    mount("-t", "sysfs", "sysfs", root / "sys")
    if memory_group is not None:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", root / "sys/fs/cgroup")
        bind(Path(memory_group), root / "sys/fs/cgroup/memory")
    dev = root / "dev"
    mount("-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", dev)
    for name in DEVICES:
        (dev / name).touch()
        mount("--bind", f"/dev/{name}", dev / name)
    for name, target in [("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx")]:
        (dev / name).symlink_to(target)
    for number, name in enumerate(["stdin", "stdout", "stderr"]):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", dev / "pts")
    mount("-t", "tmpfs", "-o", "size=1g,mode=1777", "tmpfs", dev / "shm")
    if Path("/dev/net").is_dir():
        bind(Path("/dev/net"), dev / "net")


def overlay(lower: list[str], own: Path, place: Path) -> None:
    """Mount directories read-only, with changes in one of the host's own."""
    for name in ("upper", "work"):
        (own / name).mkdir(parents=True)
    place.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={':'.join(lower)},upperdir={own / 'upper'},workdir={own / 'work'}"
    mount("-t", "overlay", "-o", options, "overlay", place)


def bind(source: Path, place: Path) -> None:
    """Mount a directory at another place as well; both are made where they are missing."""
    for path in (source, place):
        path.mkdir(parents=True, exist_ok=True)
    mount("--bind", source, place)


def mount(*words: str | Path) -> None:
    """Call ``mount``."""
    subprocess.run(["mount", *words], check=True)


def main() -> None:
    """Set the host up, write ``ready``, and wait for children for ever."""
    plan = json.loads(sys.argv[1])
    make_file_systems(plan)
    Path("/etc/hosts").write_text(plan["names"])
    Path("/etc/hostname").write_text(plan["name"] + "\n")
    subprocess.run(["hostname", plan["name"]], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # so that it interrupts the wait
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.sigwait({signal.SIGCHLD})


if __name__ == "__main__":
    main()
