"""Scoring while processes, machines and the driver itself are killed, twenty times in all."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ray.cluster_utils import Cluster

from lightsans.config import ModelConfig
from lightsans.storage.manifest_kinds import RunManifest
from lightsans.storage.manifests import read_manifest
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from tests.commands import ROOT, processes_of
from tests.factories import local

FAULTS, KINDS = 20, ("actor", "node", "driver")
PARTS_BETWEEN_FAULTS, LATEST_FAULT_S = 6, 1.5
"""A fault comes when up to so many more parts are done, and up to so much later."""
MODEL = ModelConfig(
    max_seq_len=20, hidden_size=32, inner_size=32, n_layers=1, k_interests=2, n_heads=2
)
USERS, ITEMS, PARTS = 24_000, 5_000, 24
# A machine that is gone is found to be within seconds; Ray takes half a minute unless told.
HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 << 20}


class Machines:
    """A head without work and two machines that scoring may use; each is a raylet of its own."""

    def __init__(self):
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": 100 << 20,
                "_system_config": HEALTH_CHECKS,
            },
        )
        self.workers = [self.cluster.add_node(**NODE) for _ in range(2)]

    def kill_one(self, rng):
        """A machine dies with all its processes; another comes."""
        gone = self.workers.pop(rng.randrange(2))
        self.cluster.remove_node(gone, allow_graceful=False)
        self.workers.append(self.cluster.add_node(**NODE))

    def scoring_processes(self):
        """Ids of the processes of the pool, on either machine."""
        return processes_of(self.workers, b"PartScorer")


@contextmanager
def machines():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Machines()
        try:
            yield started
        finally:
            started.cluster.shutdown()


def start_driver(root, address, log):
    settings = ["root=" + root, "score.k=20", "score.num_workers=3", "resources.max_cpus=4"]
    arguments = [word for setting in settings for word in ("-s", setting)]
    return subprocess.Popen(
        [sys.executable, "submit.py", "score", "--dataset", "d", "--model", "m", *arguments],
        cwd=ROOT, env={**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"},
        stdout=log, stderr=log,
    )  # fmt: skip


def inject(kind, machines, driver, rng):
    """Do it; False where there was nothing to kill yet."""
    if kind == "actor":
        processes = machines.scoring_processes()
        if not processes:
            return False
        os.kill(rng.choice(processes), signal.SIGKILL)
    elif kind == "node":
        machines.kill_one(rng)
    else:
        driver.kill()
        driver.wait()
    return True


def wait_for_parts(run, count, driver):
    """Return once so many parts are done; False once the driver has ended by itself."""
    while len((run / "_commits").children()) < count:
        if driver.poll() is not None:
            return False
        time.sleep(0.05)
    return True


def read_run(run):
    """Its manifest, and its rows in order."""
    manifest = read_manifest(RunManifest, run)
    assert manifest is not None
    paths = [file.path for part in manifest.parts for file in part.files]
    return manifest, pa.concat_tables([(run / path).read_table() for path in paths])


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_twenty_faults_change_no_row(tmp_path):
    root = local(tmp_path / "root")
    write_synthetic_dataset(root / "datasets" / "d", USERS, ITEMS, history=20, num_parts=PARTS)
    write_synthetic_model(root / "models" / "m", MODEL, ITEMS, "d")
    injected: list[tuple[str, int]] = []
    rng, finished_runs = random.Random(5), 0
    log_path = tmp_path / "driver.log"
    with machines() as cluster, log_path.open("ab") as log:
        address = cluster.cluster.address
        assert start_driver(root.uri, address, log).wait() == 0, log_path.read_text()
        (name,) = [name for name in (root / "recommendations").children() if len(name) == 12]
        run = root / "recommendations" / name
        manifest, expected = read_run(run)
        assert len(set(expected["user_id"].to_pylist())) == expected.num_rows == USERS
        run.delete()
        while True:
            driver = start_driver(root.uri, address, log)
            while len(injected) < FAULTS and driver.poll() is None:
                goal = len((run / "_commits").children()) + rng.randint(0, PARTS_BETWEEN_FAULTS)
                if not wait_for_parts(run, min(goal, PARTS), driver):
                    break
                time.sleep(rng.uniform(0, LATEST_FAULT_S))
                kind = KINDS[len(injected) % len(KINDS)]
                if driver.poll() is None and inject(kind, cluster, driver, rng):
                    injected.append((kind, len((run / "_commits").children())))
                    print(f"fault {len(injected)}: {kind}, {injected[-1][1]} of {PARTS} parts done")
            if driver.wait(1200) != 0:
                assert driver.returncode == -signal.SIGKILL, log_path.read_text()[-5000:]
                continue
            finished_runs += 1
            again, rows = read_run(run)
            assert rows.equals(expected)
            assert again.parts == manifest.parts
            assert not list(Path(run.path).rglob(".*"))
            if len(injected) == FAULTS:
                break
            run.delete()
    assert len(injected) == FAULTS
    hit = sum(0 < parts < PARTS for _, parts in injected)
    print(f"{finished_runs} runs finished; {hit} faults hit between the first and the last part")
    assert hit >= FAULTS // 4, injected
