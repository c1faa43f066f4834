"""A Ray cluster whose machines share nothing but an S3 server, and a host outside of it."""

import json
import re
import secrets
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.commands import SMALL_RUN
from tests.hosts.host import Host, Rack, rack
from tests.hosts.processes import COMMAND_S, Running, wait_for
from tests.s3_server import BUCKET, server_command

ENDPOINT = "http://storage:8333"
METRICS_PORT = 9327
DASHBOARD = "http://head:8265"
TOKEN = "/root/.ray/auth_token"
VARIABLES = {
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "AWS_ACCESS_KEY_ID": "lightsans-test",
    "AWS_SECRET_ACCESS_KEY": "lightsans-test-secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
OBJECT_STORE_BYTES = 200_000_000
LOGICAL_MEMORY = 1 << 30

SMALL = (*SMALL_RUN, "train.epochs=3", "train.virtual_shards=6")
"""Settings of a run that takes a minute or two on a cluster of small machines."""


@dataclass
class HostCluster:
    """The hosts, and what is done with them."""

    rack: Rack
    storage: Host
    head: Host
    workers: list[Host]
    outside: Host
    token: str

    # ---- machines --------------------------------------------------------------------------------

    def start_storage(self) -> None:
        """Start the S3 server, whose files live as long as its host."""
        self.storage.must("mkdir", "-p", "/tmp/s3", limit_s=30)
        command = server_command("/tmp/s3", self.storage.address)
        command.append(f"-metricsPort={METRICS_PORT}")
        server = self.storage.popen(*command, limit_s=0)
        answers = wait_for(lambda: self._s3("ready").returncode == 0, 90)
        assert answers, server.text()[-3000:]

    def start_head(self) -> None:
        """Start Ray on the head, where no task runs."""
        self.head.write(TOKEN, self.token)
        self.head.must(
            *("ray", "start", "--head", "--num-cpus=0", "--port=6379", "--dashboard-host=0.0.0.0"),
            *(f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"),
        )
        asked = ["ray", "job", "list", "--address", DASHBOARD]
        assert wait_for(lambda: self.outside.run(*asked).returncode == 0, 90)

    def start_worker(self, host: Host) -> None:
        """Let a host join the cluster."""
        host.write(TOKEN, self.token)
        start = ["ray", "start", "--address=head:6379", f"--num-cpus={host.cpus}"]
        start += [f"--object-store-memory={OBJECT_STORE_BYTES}", f"--memory={LOGICAL_MEMORY}"]
        for _ in range(2):  # it gives up after half a minute, which is short on a busy machine
            if host.run(*start).returncode == 0:
                return
            host.run("ray", "stop", "--force", limit_s=90)
        host.must(*start)

    def restart_head(self, clock_s: int = 0) -> None:
        """Start a new Ray on the head, and let all hosts that are up join it.

        Args:
            clock_s: Seconds that the head's clock is then ahead.
        """
        at_once(lambda host: host.run("ray", "stop", "--force", limit_s=90), self.cluster_hosts)
        self.head.clock_s = clock_s
        self.start_head()
        at_once(self.start_worker, self.workers)
        assert self.has_all()

    @property
    def cluster_hosts(self) -> list[Host]:
        """Hosts on which a Ray runs."""
        return [self.head, *self.workers]

    def has_all(self, limit_s: int = 120, *, idle: bool = False) -> bool:
        """Wait until every worker is in the cluster, and free; false when one does not come."""
        words = [str(1 + len(self.workers)), str(limit_s), "idle" if idle else ""]
        return self.head.run("python", "-c", WHOLE, *words, limit_s=limit_s + 60).returncode == 0

    # ---- storage ---------------------------------------------------------------------------------

    def put(self, key: str, content: str) -> None:
        """Store an object."""
        command = self.outside.words(self.s3_words("put", key), COMMAND_S)
        subprocess.run(command, input=content, text=True, check=True, timeout=COMMAND_S)

    def get(self, key: str) -> str:
        """Text of an object."""
        return self._checked("get", key)

    def objects(self, prefix: str) -> dict[str, list[Any]]:
        """Size and entity tag of every object below a prefix."""
        found: dict[str, list[Any]] = json.loads(self._checked("list", prefix))
        return found

    def rows(self, root: str, run_id: str) -> dict[str, Any]:
        """Number of lists and users of a run, and a digest of the lists."""
        found: dict[str, Any] = json.loads(
            self._checked("rows", f"{root}/recommendations/{run_id}/part-")
        )
        return found

    def requests(self) -> Counter[str]:
        """Requests that storage has answered so far, by kind."""
        address = f"http://storage:{METRICS_PORT}/metrics"
        told = self.outside.must("curl", "--silent", "--max-time", "20", address, limit_s=30)
        made: Counter[str] = Counter()
        for labels, count in re.findall(r"^SeaweedFS_s3_request_total{(.*)} (\S+)$", told, re.M):
            kind = re.search(r'type="(\w+)"', labels)
            made[kind[1] if kind else "other"] += int(float(count))
        return made

    def s3_words(self, *words: str) -> list[str]:
        return ["python", "-m", "tests.hosts.s3_files", ENDPOINT, *words]

    def _s3(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.outside.run(*self.s3_words(*words), limit_s=60)

    def _checked(self, *words: str) -> str:
        return self.outside.must(*self.s3_words(*words), limit_s=120)

    # ---- commands from outside -------------------------------------------------------------------

    def submit(
        self, *words: str, limit_s: float = COMMAND_S, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``submit.py … --cluster`` on the host that is no part of the cluster."""
        command = ["python", "submit.py", *words, "--cluster", DASHBOARD]
        return self.outside.run(*command, limit_s=limit_s, **changes)

    def start_job(self, *words: str, limit_s: float = COMMAND_S) -> Running:
        """Start ``submit.py … --cluster`` there, and go on."""
        command = ["python", "submit.py", *words, "--cluster", DASHBOARD]
        return self.outside.popen(*command, limit_s=limit_s)

    def alive(self) -> int:
        """Number of hosts in the cluster that live, by what the head knows."""
        asked = self.head.run("python", "-c", ALIVE, limit_s=60)
        return alive_in(asked.stdout)

    def is_idle(self) -> bool:
        """Whether all CPUs of the cluster are free."""
        return self.head.run("python", "-c", IDLE, limit_s=60).returncode == 0


ALIVE = """
import ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print("alive:", sum(node["Alive"] for node in ray.nodes()))
"""


def alive_in(text: str) -> int:
    """Number that `ALIVE` printed, among words of Ray's own; 0 where it failed."""
    found = re.search(r"^alive: (\d+)$", text, re.M)
    return int(found[1]) if found else 0


WHOLE = """
import sys, time, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
number, limit_s, idle = int(sys.argv[1]), float(sys.argv[2]), bool(sys.argv[3])
deadline = time.monotonic() + limit_s
while True:
    alive = sum(node["Alive"] for node in ray.nodes())
    cpus = ray.cluster_resources().get("CPU", 0)
    free = ray.available_resources().get("CPU", 0)
    if alive == number and (free == cpus or not idle):
        break
    if time.monotonic() > deadline:
        sys.exit(f"{alive} of {number} hosts, {free} of {cpus} CPUs free")
    time.sleep(0.3)
"""
"""Program that waits for hosts."""
IDLE = """
import ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
assert ray.available_resources().get("CPU", 0) == ray.cluster_resources().get("CPU", 0)
"""


def at_once(do: Callable[[Host], Any], hosts: Sequence[Host]) -> None:
    """Do the same for several hosts, side by side."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(do, hosts))


def settings(root: str, *overrides: str) -> list[str]:
    """Options of a small run below a root of the bucket; its log is ``log.csv`` beside it."""
    pairs = [f"root=s3://{BUCKET}/{root}", f"storage.endpoint_url={ENDPOINT}"]
    pairs += [f"data.input=s3://{BUCKET}/log.csv", "data.format=csv", "data.columns.rating=null"]
    return [word for pair in (*pairs, *SMALL, *overrides) for word in ("--set", pair)]


@contextmanager
def bare_hosts(
    cpus: Sequence[int], *, counts_cpu: bool = False, **of_workers: Any
) -> Iterator[HostCluster]:
    """Hosts of a cluster without a Ray: storage that answers, head, workers, the host outside.

    Args:
        cpus: Logical CPUs of each worker.
        counts_cpu: Whether the processor time of every host is counted.
        **of_workers: Options of the workers' hosts.
    """
    token = secrets.token_hex(32)
    with rack(VARIABLES) as made:
        storage = made.add("storage")
        head = made.add("head", cpus=0)
        workers = [
            made.add(f"worker{n}", cpus=count, **of_workers) for n, count in enumerate(cpus, 1)
        ]
        outside = made.add("outside")
        for host in made.hosts.values():
            host.counts_cpu = counts_cpu
            host.start()
        outside.write(TOKEN, token)
        cluster = HostCluster(made, storage, head, workers, outside, token)
        cluster.start_storage()
        yield cluster


@contextmanager
def host_cluster(cpus: Sequence[int] = (1, 1, 1), **options: Any) -> Iterator[HostCluster]:
    """A cluster for the time of the block; see `bare_hosts`."""
    with bare_hosts(cpus, **options) as cluster:
        cluster.start_head()
        at_once(cluster.start_worker, cluster.workers)
        assert cluster.has_all()
        yield cluster


def keep_ray_logs(host: Host, place: Path) -> None:
    """Copy the ends of Ray's logs of a host, for whoever looks why something failed."""
    program = "cd /tmp/ray/session_latest/logs && tail -c 20000 -v *.err *.out *.log"
    place.write_text(host.run("sh", "-c", program).stdout)
