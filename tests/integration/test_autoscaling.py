"""A stage on a cluster that grows for it and shrinks after it, as those of cluster/ do.

The machines are Ray's own fake ones: processes here, which a real autoscaler (v2) starts and ends
through a node provider. What a cloud would add is the time that a machine takes to boot.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lightsans.config import ModelConfig
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from tests.commands import ROOT
from tests.factories import local
from tests.servers import free_ports

TIME_LIMIT_S = 170
"""Limit of everything on the cluster, which takes 30 to 40 seconds on two idle cores."""
HEAD_ID = "f" * 51 + "00000"  # how the provider numbers its nodes

REQUIRED_BUT_EMPTY = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "rsync_exclude",
    "rsync_filter",
)

DRIVER = """
import json, logging, sys, threading, time
import ray
from lightsans.config.file import load_config
from pipelines.score import stage
from pipelines.score.stage import run_score

stage.USERS_WORTH_A_POOL = 0
dataset_id, model_id, *overrides = sys.argv[1:]
ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
def workers():
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())

seen = [workers()]
done = threading.Event()
def watch():
    while not done.wait(0.2):
        seen.append(workers())
watcher = threading.Thread(target=watch)
watcher.start()
result = run_score(load_config(None, overrides).config, dataset_id, model_id)
done.set()
watcher.join()
while seen[-1]:
    time.sleep(0.5)
    seen.append(workers())
print(json.dumps({"workers": seen, "users": result.manifest.users}))
"""


def autoscaling_config(address):
    """Two machines of one CPU at most, none at first; what is idle for three seconds goes."""
    return {
        "cluster_name": "fake",
        "max_workers": 2,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
        },
        "head_node_type": "ray.head.default",  # the provider's name for it
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": 100 << 20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "upscaling_speed": 1.0,
        **{name: [] for name in REQUIRED_BUT_EMPTY},
    }


@contextmanager
def growing_cluster() -> Iterator[dict[str, str]]:
    """A head without CPUs; the environment in which a driver finds it."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        # Short, because sockets lie below it and their paths have a limit.
        address = f"127.0.0.1:{free_ports(1)[0]}"
        config = Path(directory) / "autoscaling.json"
        config.write_text(json.dumps(autoscaling_config(address)))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        of_the_head = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            # What a cloud's provider would set: by these the head knows itself among the nodes.
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        }
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"]
        command += ["--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}"]
        command += ["--num-cpus=0", f"--object-store-memory={100 << 20}", f"--temp-dir={directory}"]
        command += ["--include-dashboard=false", f"--autoscaling-config={config}"]
        # Other clusters of this machine may have the usual ports.
        command += [f"--ray-client-server-port={free_ports(1)[0]}"]
        command += [f"--dashboard-agent-listen-port={free_ports(1)[0]}"]
        log = Path(directory) / "head.log"
        with open(log, "wb") as output:
            head = subprocess.Popen(
                command, env=environment | of_the_head, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_for_port(head, int(address.partition(":")[2]), log)
            yield environment
        finally:
            head.terminate()
            try:
                head.wait(timeout=60)  # eight seconds on idle cores
            except subprocess.TimeoutExpired:
                head.kill()
                head.wait()
            end_processes_of(directory)


def wait_for_port(head, port, log):
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and head.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise AssertionError(f"the head did not start: {log.read_text()[-2000:]}")


def end_processes_of(directory):
    """Whatever a failed test has left; only our processes have this directory in their command."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if directory in path.read_bytes().decode(errors="replace"):
                os.kill(int(path.parent.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(TIME_LIMIT_S + 120)
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to clean up after a failure")
def test_scoring_brings_two_machines_and_leaves_none(tmp_path):
    root = local(tmp_path)
    users, items = 300, 120
    write_synthetic_dataset(root / "datasets" / "d", users, items, history=8, num_parts=3)
    model = ModelConfig(max_seq_len=8, hidden_size=16, inner_size=16, n_layers=1, k_interests=2)
    write_synthetic_model(root / "models" / "m", model, items, "d")

    settings = [f"root={tmp_path}", "score.k=7", "score.num_workers=2", "resources.max_cpus=2"]
    with growing_cluster() as environment:
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, "d", "m", *settings],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    printed = [line for line in done.stdout.splitlines() if line.startswith("{")]
    result = json.loads(printed[-1])  # processes of Ray may have the last word
    assert result["users"] == users
    assert result["workers"][0] == 0
    assert max(result["workers"]) == 2
    assert result["workers"][-1] == 0
