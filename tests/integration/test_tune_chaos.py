"""Processes and machines of a search are killed; it ends with the same trials all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT
from tests.integration.conftest import TINY

SETTINGS = (
    "train.epochs=60",
    "train.patience=0",
    "train.max_failures=6",
    "tune.engine=random",
    "tune.scheduler=none",
    f"tune.space={json.dumps({'learning_rate': {'choice': [0.01, 0.005, 0.001, 0.0005]}})}",
)

COMMON = """
import json, os, random, signal, sys, threading, time
from pathlib import Path
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
from ray.cluster_utils import Cluster
from lightsans.config.file import load_config
from pipelines.preprocess.stage import run_preprocess
from pipelines.tune.stage import run_tune

config = load_config(None, sys.argv[1:]).config
trials = Path(config.root) / "tune"

def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)

def epochs(number):
    found = trials.glob(f"*/trials/{number:04d}/checkpoints/*/progress.json")
    return max((int(path.parent.name.split("-")[1]) for path in found), default=0)

def trial_processes():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes()
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"ResourceTrainable" in name or b"TrialTrainable" in name:
            if parent in raylets():
                found.append(int(path.parent.name))
    return sorted(found)

def raylets():
    return {n.all_processes["raylet"][0].process.pid for n in cluster.list_all_nodes()}

def search():
    result = run_tune(config, run_preprocess(config).dataset_id)
    found.append({"trials": result.manifest.trials, "best": to_json(result.manifest.best)})

def report(**more):
    print(json.dumps({**found[0], **more}))
    ray.shutdown()  # at exit the machines would go first, and the driver with status 1 after them
    cluster.shutdown()

found = []
killed = []
"""

KILL_TRIALS = """
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
ray.init(address=cluster.address, log_to_driver=False)

def kill():
    for number in (1, 2, 3):
        wait_until(lambda: epochs(number) >= 2 or found)
        pids = trial_processes()
        if pids and not found:
            os.kill(random.Random(number).choice(pids), signal.SIGKILL)
            killed.append(number)

thread = threading.Thread(target=kill)
thread.start()
search()
thread.join()
report(killed=len(killed))
"""

KILL_NODE = """
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)

def kill():
    wait_until(lambda: min(epochs(1), epochs(2)) >= 2)
    cluster.remove_node(other, allow_graceful=False)
    killed.append(1)
    cluster.add_node(num_cpus=1)

thread = threading.Thread(target=kill)
thread.start()
search()
thread.join()
report(killed=len(killed))
"""

UNDISTURBED = """
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
ray.init(address=cluster.address, log_to_driver=False)
search()
report()
"""


def run_script(script: str, root: Path, log: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Report of a search in a process of its own, and its records."""
    settings = [f"root={root}", f"data.input={log}", *TINY, *SETTINGS]
    environment = {name: v for name, v in os.environ.items() if name != "RAY_ADDRESS"}
    ran = subprocess.run(
        [sys.executable, "-c", COMMON + script, *settings],
        cwd=ROOT, env=environment, timeout=600, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    records = [json.loads(p.read_text()) for p in sorted(root.glob("tune/*/trials/*.json"))]
    return json.loads(ran.stdout.splitlines()[-1]), records


@pytest.fixture(scope="module")
def undisturbed(small_log, tmp_path_factory):
    return run_script(UNDISTURBED, tmp_path_factory.mktemp("undisturbed"), small_log)


@pytest.mark.chaos
@pytest.mark.timeout(1300)
@pytest.mark.parametrize(("script", "kills"), [(KILL_TRIALS, 3), (KILL_NODE, 1)])
def test_killed_trials_go_on_from_their_checkpoints(
    script, kills, undisturbed, small_log, tmp_path
):
    found, records = run_script(script, tmp_path, small_log)
    expected, expected_records = undisturbed
    assert found["killed"] == kills
    assert found["trials"] == {"finished": 4}
    assert found["best"] == expected["best"]
    for record, other in zip(records, expected_records, strict=True):
        curves = [[row["loss"] for row in r["history"]] for r in (record, other)]
        assert curves[0] == pytest.approx(curves[1], rel=1e-6)
