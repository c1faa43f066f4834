"""Faults of machines, networks and storage, as long as a block lasts."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

from tests.hosts.cluster import HostCluster, at_once
from tests.hosts.host import Host
from tests.hosts.processes import wait_for

Ended = Callable[[], bool]
"""Whether the command has ended: then what is left of a fault's time costs nothing to skip."""
Fault = Callable[[HostCluster, Ended], AbstractContextManager[float]]
"""A fault: begun when a stage is at work, ended (where it ends at all before) after the command.
Its value is the time of day at which it had begun."""

NODE = """
import sys, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
nodes = [n for n in ray.nodes() if n["Alive"] and n["NodeManagerAddress"] == sys.argv[1]]
print(nodes[0]["NodeID"])
"""
PARTITION_S, OUTAGE_S, AWAY_S, NOTICE_S, GIVEN_UP_S = 90, 60, 40, 30, 60
SLOW_BYTES_PER_S = 1_000_000
AHEAD_S = 600


def rejoin(cluster: HostCluster) -> None:
    """Let every worker that has lost its Ray join again, as an operator's tools do."""
    for worker in cluster.workers:
        if not worker.is_up:
            worker.start()  # by this thread: a host ends with the thread that started it
    at_once(partial(_rejoin, cluster), cluster.workers)


def runs_ray(worker: Host) -> bool:
    """Whether a Ray runs on a worker, be it one that the head has given up."""
    return worker.run("pgrep", "-x", "raylet", limit_s=30).returncode == 0


def _rejoin(cluster: HostCluster, worker: Host) -> None:
    if runs_ray(worker):
        return
    worker.run("ray", "stop", "--force", limit_s=90)
    with suppress(AssertionError):  # said by `HostCluster.has_all` later
        cluster.start_worker(worker)


@contextmanager
def worker_vanishes(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """A worker's power fails; forty seconds later it is back, empty."""
    cluster.workers[0].vanish()
    struck = time.time()
    wait_for(ended, AWAY_S)
    rejoin(cluster)
    yield struck


@contextmanager
def partition(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """Head and one worker do not hear each other for 90 seconds."""
    worker = cluster.workers[0]
    worker.cut_off(cluster.head)
    struck = time.time()
    wait_for(ended, PARTITION_S)
    worker.mend()
    # Ray ends on a machine that it has given up, once it hears of it.
    wait_for(lambda: ended() or not runs_ray(worker), GIVEN_UP_S, every_s=1)
    rejoin(cluster)
    yield struck


@contextmanager
def storage_unreachable(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """Nothing reaches storage for a minute."""
    cluster.storage.cut_off()
    struck = time.time()
    wait_for(ended, OUTAGE_S)
    cluster.storage.mend()
    yield struck


@contextmanager
def storage_slow(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """Storage sends no more than a megabyte a second."""
    cluster.storage.throttle(SLOW_BYTES_PER_S)
    try:
        yield time.time()
    finally:
        cluster.storage.mend()


@contextmanager
def bad_network(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """Packets of a worker take 100 ms longer each way, and every hundredth is lost."""
    worker = cluster.workers[0]
    worker.delay(0.1)
    worker.lose(1)
    try:
        yield time.time()
    finally:
        worker.mend()


@contextmanager
def disk_full(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """A worker's disk has no byte left."""
    worker = cluster.workers[0]
    worker.run("sh", "-c", "cat /dev/zero > /tmp/filler", limit_s=60)
    try:
        yield time.time()
    finally:
        worker.must("rm", "-f", "/tmp/filler", limit_s=60)


GREEDY = """
import sys, time
kept = bytearray(int(sys.argv[1]))
print("full", flush=True)
time.sleep(120)
"""


@contextmanager
def memory_exhausted(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """A neighbour on a worker's machine takes nearly all of its memory until the command's end."""
    worker = cluster.workers[0]
    assert worker.memory_bytes is not None
    wanted = worker.memory_bytes - (600 << 20)
    neighbour = worker.popen("python", "-c", GREEDY, str(wanted), limit_s=150)
    try:
        wait_for(lambda: "full" in neighbour.text(), 60, neighbour.is_running)  # or was killed
        yield time.time()
    finally:
        worker.run("pkill", "-f", "kept = bytearray", limit_s=30)


@contextmanager
def drained(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """A worker is taken away with thirty seconds' notice, and comes back empty."""
    worker = cluster.workers[0]
    number = cluster.head.must("python", "-c", NODE, worker.address, limit_s=60).split()[-1]
    words = ["ray", "drain-node", "--address", "head:6379", "--node-id", number, "--reason"]
    words += ["DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    cluster.head.must(*words, "--deadline-remaining-seconds", str(NOTICE_S), limit_s=60)
    struck = time.time()
    wait_for(ended, NOTICE_S)
    worker.vanish()
    rejoin(cluster)
    yield struck


@contextmanager
def head_killed(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """The head's power fails; an operator starts the cluster anew."""
    cluster.head.vanish()
    struck = time.time()
    wait_for(ended, 5)
    cluster.head.start()
    with suppress(AssertionError):  # a worker that does not join at once does so below, or later
        cluster.restart_head()
    rejoin(cluster)
    yield struck


@contextmanager
def clock_ahead(cluster: HostCluster, ended: Ended) -> Iterator[float]:
    """The head's clock, and with it the driver's, is ten minutes ahead; see `with_clock`."""
    yield time.time()


FAULTS: dict[str, Fault] = {
    "worker vanishes": worker_vanishes,
    "storage unreachable, 60 s": storage_unreachable,
    "head killed": head_killed,
    "disk full": disk_full,
    "drained": drained,
    "storage 1 MB/s": storage_slow,
    "100 ms, 1 % loss": bad_network,
    "memory exhausted": memory_exhausted,
    "partition, 90 s": partition,
    "clock 10 min ahead": clock_ahead,
}


def with_clock(cluster: HostCluster, fault: str) -> None:
    """Start the cluster with the head's clock as a fault needs it, if it is not so yet."""
    clock_s = AHEAD_S if FAULTS[fault] is clock_ahead else 0
    if cluster.head.clock_s != clock_s:
        cluster.restart_head(clock_s)
    told = float(cluster.head.must("python", "-c", "import time; print(time.time())", limit_s=60))
    assert abs(told - time.time() - clock_s) < AHEAD_S / 2, (
        "needs faketime: the clock is the true one"
    )


def settled(cluster: HostCluster) -> bool:
    """Whether every host is in the cluster again and free, once it had time to come."""
    for host in cluster.rack.hosts.values():
        host.mend()
    for _ in range(6):
        rejoin(cluster)
        if cluster.has_all(20, idle=True):
            return True
    return False
