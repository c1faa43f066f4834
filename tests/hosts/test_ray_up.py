"""`ray up` over SSH: cluster/local.yaml is started, used, updated and torn down; and one grows."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from tests.hosts.cluster import LOGICAL_MEMORY, HostCluster
from tests.hosts.host import PROJECT
from tests.hosts.launcher import (
    alive,
    configuration,
    dashboard,
    keep,
    launch,
    result_of,
    runs_ray,
    serve_ssh,
    ssh_hosts,
    start_pipeline,
)  # fmt: skip
from tests.hosts.processes import wait_for
from tests.hosts.provider import SWITCHES
from tests.nights import write_log

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def bare(hosts_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    """Hosts without a Ray that a user of the host outside reaches through SSH."""
    log = tmp_path_factory.mktemp("log") / "log.csv"
    write_log(log)
    with ssh_hosts(log) as made:
        yield made


@pytest.fixture(scope="module")
def up(bare: HostCluster) -> HostCluster:
    """The rack after `ray up`, with all machines in the cluster."""
    keep(bare, configuration(bare))
    launch(bare, "up")
    assert wait_for(lambda: alive(bare) == 4, 240), launch(bare, "exec", "ray status", check=False)
    return bare


def test_a_rack_is_used_through_a_tunnel(up):
    with dashboard(up):
        assert result_of(start_pipeline(up, "up"))["recommendations"]["users"] > 400


def test_an_update_reaches_every_machine(up):
    hosts = [up.head, *up.workers]
    up.outside.write(f"{PROJECT}/lightsans/updated.py", '"""Brought by an update."""\n')
    launch(up, "up")
    updated = ["test", "-e", f"{PROJECT}/lightsans/updated.py"]
    assert wait_for(lambda: all(host.run(*updated).returncode == 0 for host in hosts), 240)
    assert wait_for(lambda: alive(up) == 4, 240)


def test_a_rack_is_torn_down(up):
    """Ray stops the head alone; workers end by themselves when nobody answers there."""
    launch(up, "down")
    hosts = [up.head, *up.workers]
    assert wait_for(lambda: not any(map(runs_ray, hosts)), 180)


@dataclass
class Feed:
    """Power of the workers' machines: follows the switches that the provider turns."""

    made: HostCluster
    turned: Counter[str] = field(default_factory=Counter)
    most: int = 0
    """Machines that were on at a time."""

    def follow(self) -> None:
        """Do what the switches say: a machine that is on lets the launcher in."""
        for worker in self.made.workers:
            wanted = self.made.head.run("cat", str(SWITCHES / worker.address)).stdout
            if wanted == "on" and not worker.is_up:
                worker.start()
                serve_ssh(self.made, worker)
            elif wanted == "off" and worker.is_up:
                worker.vanish()
            else:
                continue
            self.turned[wanted] += 1
        self.most = max(self.most, self.on())

    def on(self) -> int:
        """Number of machines that are on."""
        return sum(worker.is_up for worker in self.made.workers)

    def reaches(self, number: int, limit_s: float) -> bool:
        """Follow the switches until so many machines are on."""

        def reached() -> bool:
            self.follow()
            return self.on() == number

        return wait_for(reached, limit_s)


def growing(made: HostCluster) -> dict[str, Any]:
    """The same file for machines that are switched on by need."""
    defaults = Path(ray.__file__).parent / "autoscaler" / "local" / "defaults.yaml"
    config: dict[str, Any] = yaml.safe_load(defaults.read_text()) | configuration(made)
    del config["min_workers"]
    worker = {
        "node_config": {},
        "resources": {"CPU": 1, "memory": LOGICAL_MEMORY},
        "min_workers": 0,
        "max_workers": 3,
    }
    # Ray's own provider gives the head this name.
    config |= {
        "cluster_name": "growing",
        "idle_timeout_minutes": 0.25,
        "head_node_type": "local.cluster.node",
        "available_node_types": {
            "local.cluster.node": {"node_config": {}, "resources": {"CPU": 0}, "max_workers": 0},
            "worker": worker,
        },
    }
    config["provider"] |= {"type": "external", "module": "tests.hosts.provider.RackProvider"}
    start = config["head_start_ray_commands"][-1]
    config["head_start_ray_commands"][-1] = f"export PYTHONPATH={PROJECT}; {start}"
    return config


def test_a_rack_grows_from_no_host_to_three_and_back(bare):
    for worker in bare.workers:
        worker.vanish()
    feed = Feed(bare)
    keep(bare, growing(bare))
    launch(bare, "up")
    assert alive(bare) == 1
    with dashboard(bare):
        job = start_pipeline(bare, "grown", "resources.max_cpus=3")
        while job.is_running():
            feed.follow()
            time.sleep(0.5)
        assert result_of(job)["recommendations"]["users"] > 400
        assert "instead of" not in job.text(), "one train worker, and one actor of score, a host"
    assert feed.most == 3
    assert feed.reaches(0, 180), launch(bare, "exec", "ray status", check=False)
    assert wait_for(lambda: alive(bare) == 1, 60)
    assert feed.turned["off"] == feed.turned["on"] >= 3
    launch(bare, "down")
    assert wait_for(lambda: not runs_ray(bare.head), 120)
