"""Faults of machines, networks and storage, as long as a block lasts."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from tests.hosts.cluster import HostCluster
from tests.hosts.processes import wait_for

Fault = Callable[[HostCluster], AbstractContextManager[None]]
"""A fault: begun when a stage is at work, ended (where it ends at all before) after the command."""

NODE = """
import sys, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
nodes = [n for n in ray.nodes() if n["Alive"] and n["NodeManagerAddress"] == sys.argv[1]]
print(nodes[0]["NodeID"])
"""
PARTITION_S, OUTAGE_S = 90, 60
SLOW_BYTES_PER_S = 1_000_000


def rejoin(cluster: HostCluster) -> None:
    """Let every worker that is up and has lost its Ray join again, as an operator's tools do."""
    for worker in cluster.workers:
        if not worker.is_up:
            worker.start()
        if worker.run("pgrep", "-x", "raylet", limit_s=30).returncode:
            with suppress(AssertionError):  # said by `HostCluster.has_all` later
                worker.run("ray", "stop", "--force", limit_s=90)
                cluster.start_worker(worker)


@contextmanager
def worker_vanishes(cluster: HostCluster) -> Iterator[None]:
    """A worker's power fails; twenty seconds later it is back, empty."""
    cluster.workers[0].vanish()
    time.sleep(20)
    rejoin(cluster)
    yield


@contextmanager
def partition(cluster: HostCluster) -> Iterator[None]:
    """Head and one worker do not hear each other for 90 seconds."""
    worker = cluster.workers[0]
    worker.cut_off(cluster.head)
    time.sleep(PARTITION_S)
    worker.mend()
    time.sleep(15)  # Ray ends on a machine that it has given up
    rejoin(cluster)
    yield


@contextmanager
def storage_unreachable(cluster: HostCluster) -> Iterator[None]:
    """Nothing reaches storage for a minute."""
    cluster.storage.cut_off()
    time.sleep(OUTAGE_S)
    cluster.storage.mend()
    yield


@contextmanager
def storage_slow(cluster: HostCluster) -> Iterator[None]:
    """Storage sends no more than a megabyte a second."""
    cluster.storage.throttle(SLOW_BYTES_PER_S)
    yield
    cluster.storage.mend()


@contextmanager
def bad_network(cluster: HostCluster) -> Iterator[None]:
    """Packets of a worker take 100 ms longer each way, and every hundredth is lost."""
    worker = cluster.workers[0]
    worker.delay(0.1)
    worker.lose(1)
    yield
    worker.mend()


@contextmanager
def disk_full(cluster: HostCluster) -> Iterator[None]:
    """A worker's disk has no byte left."""
    worker = cluster.workers[0]
    worker.run("sh", "-c", "cat /dev/zero > /tmp/filler", limit_s=60)
    yield
    worker.must("rm", "-f", "/tmp/filler", limit_s=60)
    rejoin(cluster)


@contextmanager
def memory_exhausted(cluster: HostCluster) -> Iterator[None]:
    """A neighbour on a worker's machine takes nearly all of its memory."""
    worker = cluster.workers[0]
    assert worker.memory_bytes is not None
    greedy = f"kept = bytearray({worker.memory_bytes} - (600 << 20)); import time; time.sleep(45)"
    neighbour = worker.popen("python", "-c", greedy, limit_s=60)
    neighbour.process.wait(120)
    yield
    rejoin(cluster)


@contextmanager
def drained(cluster: HostCluster) -> Iterator[None]:
    """A worker is taken away with thirty seconds' notice, and comes back empty."""
    worker = cluster.workers[0]
    number = cluster.head.must("python", "-c", NODE, worker.address, limit_s=60).split()[-1]
    words = ["ray", "drain-node", "--address", "head:6379", "--node-id", number, "--reason"]
    words += ["DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    cluster.head.must(*words, "--deadline-remaining-seconds", "30", limit_s=60)
    time.sleep(30)
    worker.vanish()
    rejoin(cluster)
    yield


@contextmanager
def head_killed(cluster: HostCluster) -> Iterator[None]:
    """The head's power fails; an operator starts the cluster anew."""
    cluster.head.vanish()
    time.sleep(5)
    cluster.head.start()
    cluster.restart_head()
    yield


@contextmanager
def clock_ahead(cluster: HostCluster) -> Iterator[None]:
    """The head's clock, and with it the driver's, is ten minutes ahead; set before the command."""
    cluster.head.clock_s = 600
    cluster.restart_head()
    yield
    cluster.head.clock_s = 0
    cluster.restart_head()


FAULTS: dict[str, Fault] = {
    "worker vanishes": worker_vanishes,
    "partition, 90 s": partition,
    "storage unreachable, 60 s": storage_unreachable,
    "head killed": head_killed,
    "clock 10 min ahead": clock_ahead,
    "disk full": disk_full,
    "drained": drained,
    "storage 1 MB/s": storage_slow,
    "100 ms, 1 % loss": bad_network,
    "memory exhausted": memory_exhausted,
}
BEFORE = {"clock 10 min ahead"}
"""Faults that are there when the command starts."""


def settled(cluster: HostCluster) -> bool:
    """Whether every host is in the cluster again, once it had time to come."""
    for host in cluster.rack.hosts.values():
        host.mend()
    rejoin(cluster)
    return cluster.has_all() and wait_for(cluster.is_idle, 60)
