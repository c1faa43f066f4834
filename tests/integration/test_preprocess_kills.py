"""Preprocessing while the driver, workers and machines are killed: the same dataset, less work."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from lightsans.config import DataConfig, RunConfig
from pipelines.preprocess.identity import dataset_id
from pipelines.preprocess.stage import run_preprocess
from tests.commands import ROOT

PARTS, FAULTS, KINDS = 16, 9, ("worker", "node", "driver")
NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 200 << 20}
LEAST: dict[str, Any] = {"min_rating": 2.0, "min_user_interactions": 3, "min_item_interactions": 3}


def write_log(path, num_rows):
    """Rows of users and items that square numbers pick: some are met often, most are not."""

    rng = np.random.default_rng(0)
    users, items = (rng.integers(0, top, num_rows) ** 2 // top for top in (num_rows // 8, 2000))
    names = {"user_id": [f"user-{n}" for n in users], "item_id": [f"item-{n}" for n in items]}
    numbers = {"rating": rng.integers(1, 6, num_rows), "timestamp": np.arange(num_rows) // 3}
    pq.write_table(pa.table(names | numbers), path, row_group_size=num_rows // 12)
    return path


def config_of(root, log):
    data = DataConfig(input=(str(log),), num_parts=PARTS, read_unit_bytes=100_000, **LEAST)
    return RunConfig(root=str(root), data=data)


def start_driver(root, log, address, output):
    data = {"input": log, "num_parts": PARTS, "read_unit_bytes": 100_000, **LEAST}
    settings = [f"root={root}", *(f"data.{name}={value}" for name, value in data.items())]
    arguments = [word for setting in settings for word in ("-s", setting)]
    return subprocess.Popen(
        [sys.executable, "submit.py", "preprocess", *arguments],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"},
        stdout=output,
        stderr=output,
    )


def finished(directory):
    """Notes of finished pieces of work."""
    return [path for path in (directory / "_work").glob("*.json") if "unit" not in path.name]


def wait_for_notes(directory, count, driver):
    """Return once so much is done; False where the driver ended by itself."""
    while len(finished(directory)) < count:
        if driver.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def test_a_driver_that_dies_leaves_work_that_the_next_one_goes_on_with(tmp_path, ray_cluster):
    log = write_log(tmp_path / "log.parquet", 120_000)
    config = config_of(tmp_path / "root", log)
    directory = tmp_path / "root" / "datasets" / dataset_id(config)
    address = ray.get_runtime_context().gcs_address
    with (tmp_path / "driver.log").open("w") as output:
        driver = start_driver(tmp_path / "root", log, address, output)
        was_at_work = wait_for_notes(directory, 2, driver)
        driver.kill()
        driver.wait()
    assert was_at_work, (tmp_path / "driver.log").read_text()
    assert not (directory / "manifest.json").exists()
    notes = [path.stem for path in finished(directory) if path.stem.startswith("part-")]
    parts = [directory / "interactions" / f"{note}.parquet" for note in notes]
    before = [part.stat().st_mtime_ns for part in parts]
    assert len(parts) >= 2
    result = run_preprocess(config)
    assert [part.stat().st_mtime_ns for part in parts] == before
    whole = run_preprocess(config_of(tmp_path / "whole", log))
    assert result.manifest.fingerprint == whole.manifest.fingerprint
    assert result.manifest.rows == whole.manifest.rows


def test_two_drivers_of_one_dataset_take_turns(tmp_path, ray_cluster):
    """The second waits for the first and finds what it made; killed, the first is replaced."""
    log = write_log(tmp_path / "log.parquet", 120_000)
    config = config_of(tmp_path / "root", log)
    directory = tmp_path / "root" / "datasets" / dataset_id(config)
    address = ray.get_runtime_context().gcs_address
    with (tmp_path / "driver.log").open("w") as output:
        drivers = [start_driver(tmp_path / "root", log, address, output) for _ in range(3)]
        locks = tmp_path / "root" / "locks"
        lease = locks / f"dataset-{directory.name}.json"
        while not lease.exists():
            time.sleep(0.02)
        holder = json.loads(lease.read_text())["pid"]
        [first] = [driver for driver in drivers if driver.pid == holder]
        assert wait_for_notes(directory, 1, first)
        first.kill()
        first.wait()  # else its process id would still be there
        statuses = sorted(driver.wait(300) for driver in drivers)
    said = (tmp_path / "driver.log").read_text()
    assert statuses == [-signal.SIGKILL, 0, 0], said
    assert "waiting for preprocess of dataset" in said
    assert said.count("is up to date") == 1
    whole = run_preprocess(config_of(tmp_path / "whole", log))
    result = run_preprocess(config)
    assert result.skipped
    assert result.manifest.fingerprint == whole.manifest.fingerprint
    assert result.manifest.rows == whole.manifest.rows


def task_processes(cluster):
    """Ids of the processes that have a task, on any machine of a cluster on this one."""
    raylets = {str(node.all_processes["raylet"][0].process.pid) for node in cluster.worker_nodes}
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = (directory / "stat").read_text().rpartition(") ")[2].split()[1]
            title = (directory / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        # With one of its agents a raylet ends too: that would be a machine that nobody replaces.
        is_other = any(word in title for word in (b"IDLE", b"Agent"))
        if parent in raylets and title.startswith(b"ray::") and not is_other:
            found.append(int(directory.name))
    return found


def inject(kind, cluster, driver, rng):
    """Kill one; False where there was nothing to kill."""
    if kind == "driver":
        driver.kill()
        driver.wait()
        return True
    if kind == "node":
        cluster.remove_node(rng.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
        cluster.add_node(**NODE)
        return True
    processes = task_processes(cluster)
    if processes:
        os.kill(rng.choice(processes), signal.SIGKILL)
    return bool(processes)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_nine_faults_change_no_row(tmp_path, monkeypatch):
    """Three workers, three machines, three drivers, whenever some more of the work is done."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    log = write_log(tmp_path / "log.parquet", 600_000)
    config, rng = config_of(tmp_path / "root", log), random.Random(0)
    directory = tmp_path / "root" / "datasets" / dataset_id(config)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        left = list(KINDS * (FAULTS // len(KINDS)))
        with (tmp_path / "driver.log").open("w") as output:
            driver = start_driver(tmp_path / "root", log, cluster.address, output)
            while left:
                goal = len(finished(directory)) + rng.randrange(3)
                if not wait_for_notes(directory, goal, driver):
                    assert driver.returncode == 0, (tmp_path / "driver.log").read_text()
                    (directory / "manifest.json").unlink()  # all done before all faults came
                    (directory / "interactions.json").unlink()
                elif inject(left[0], cluster, driver, rng):
                    left.pop(0)
                if driver.poll() is not None:
                    driver = start_driver(tmp_path / "root", log, cluster.address, output)
            assert driver.wait(600) == 0, (tmp_path / "driver.log").read_text()
        result = run_preprocess(config)
        assert result.skipped
    finally:
        cluster.shutdown()
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        whole = run_preprocess(config_of(tmp_path / "whole", log))
    assert result.manifest.fingerprint == whole.manifest.fingerprint
    assert result.manifest.rows == whole.manifest.rows
