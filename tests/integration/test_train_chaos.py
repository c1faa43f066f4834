"""Training while workers, machines and drivers are killed, and machines come and go."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from ray.cluster_utils import Cluster

from lightsans.storage.checkpoint_store import complete_checkpoints
from lightsans.storage.location import Location
from lightsans.synthetic.directories import write_synthetic_dataset
from tests.commands import ROOT, processes_of, wait_until
from tests.factories import local

FAULTS, KINDS = 10, ("worker", "raylet", "driver")
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}
SETTINGS = (
    "model.max_seq_len=20",
    "model.hidden_size=32",
    "model.inner_size=32",
    "model.n_layers=1",
    "model.k_interests=2",
    "train.epochs=8",
    "train.patience=0",
    "train.max_failures=100",
    "train.checkpoint_steps=20",
    "train.collective_timeout_s=60",
    "resources.max_cpus=2",
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


class Machines:
    """A head without work and two machines of one CPU, each a raylet of its own."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "object_store_memory": 100 << 20}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.workers = [self.cluster.add_node(**NODE) for _ in range(2)]

    def remove(self, index: int) -> None:
        """A machine dies with all its processes."""
        self.cluster.remove_node(self.workers.pop(index), allow_graceful=False)

    def add(self) -> None:
        """Another machine comes."""
        self.workers.append(self.cluster.add_node(**NODE))

    def train_workers(self) -> list[int]:
        """Ids of the processes that train, on either machine."""
        return processes_of(self.workers, b"TrainWorker")


@pytest.fixture
def machines() -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
        started = Machines()
        try:
            yield started
        finally:
            started.cluster.shutdown()


def start_driver(root: str, machines: Machines, log: IO[bytes], *more: str) -> Any:
    settings = [f"root={root}", *SETTINGS, *more]
    arguments = [word for setting in settings for word in ("-s", setting)]
    return subprocess.Popen(
        [sys.executable, "submit.py", "train", "--dataset", "d", *arguments],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": machines.cluster.address},
        stdout=log,
        stderr=log,
    )


@contextmanager
def driver_of(
    root: str, machines: Machines, log: Path, *more: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A driver that is gone afterwards, whatever happens."""
    with log.open("ab") as file:
        process = start_driver(root, machines, file, *more)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def make_dataset(path: Path) -> Location:
    root = local(path)
    write_synthetic_dataset(root / "datasets" / "d", 3_000, 500, history=20, num_parts=4)
    return root


def model_directory(root: Location) -> Location:
    (name,) = (root / "models").children()
    return root / "models" / name


def checkpoints_of(root: Location) -> list[str]:
    names = (root / "models").children()
    return complete_checkpoints(root / "models" / names[0] / "checkpoints") if names else []


def history_of(root: Location) -> list[tuple[float, dict[str, float]]]:
    rows = json.loads((model_directory(root) / "history.json").read_bytes())
    return [(row["loss"], row["valid"]) for row in rows]


def has_newer(root: Location, before: list[str]) -> bool:
    return checkpoints_of(root)[-1:] > before


def inject(kind: str, machines: Machines, driver: Any, rng: random.Random) -> bool:
    """Do it; False where there was nothing to kill yet."""
    if kind == "worker":
        workers = machines.train_workers()
        if not workers:
            return False
        os.kill(rng.choice(workers), signal.SIGKILL)
    elif kind == "raylet":
        machines.remove(rng.randrange(2))
        machines.add()
    else:
        driver.kill()
        driver.wait()
    return True


def test_ten_kills_change_neither_loss_nor_metrics(machines, tmp_path):
    """At the same world size the run ends with the very numbers of the undisturbed one."""
    log = tmp_path / "driver.log"
    undisturbed, disturbed = make_dataset(tmp_path / "a"), make_dataset(tmp_path / "b")
    with driver_of(undisturbed.uri, machines, log) as driver:
        assert driver.wait(900) == 0, log.read_text()[-5000:]
    rng = random.Random(5)
    injected = 0
    while True:
        with driver_of(disturbed.uri, machines, log) as driver:
            while injected < FAULTS:
                before = checkpoints_of(disturbed)[-1:]
                if not wait_until(partial(has_newer, disturbed, before), driver):
                    break
                time.sleep(rng.uniform(0, 0.5))
                kind = KINDS[injected % len(KINDS)]
                if driver.poll() is None and inject(kind, machines, driver, rng):
                    injected += 1
                    print(f"fault {injected}: {kind} after {checkpoints_of(disturbed)[-1]}")
                    if kind == "driver":
                        break
            if driver.wait(900) == 0:
                break
            assert driver.returncode == -signal.SIGKILL, log.read_text()[-5000:]
    assert injected == FAULTS
    assert history_of(disturbed) == history_of(undisturbed)


def test_training_goes_on_with_fewer_workers_while_a_machine_is_missing(machines, tmp_path):
    log = tmp_path / "driver.log"
    root = make_dataset(tmp_path / "root")
    steady = make_dataset(tmp_path / "steady")
    fixed = ("model.hidden_dropout_prob=0", "model.attn_dropout_prob=0")
    with driver_of(steady.uri, machines, log, *fixed) as driver:
        assert driver.wait(900) == 0, log.read_text()[-5000:]
    with driver_of(root.uri, machines, log, "train.num_workers=[1,2]", *fixed) as driver:
        assert wait_until(lambda: len(machines.train_workers()) == 2, driver)
        assert wait_until(lambda: bool(checkpoints_of(root)), driver)
        machines.remove(0)
        before = checkpoints_of(root)[-1]
        assert wait_until(lambda: checkpoints_of(root)[-1] > before, driver)
        assert len(machines.train_workers()) == 1
        assert driver.wait(900) == 0, log.read_text()[-5000:]
    for (loss, valid), (steady_loss, steady_valid) in zip(
        history_of(root), history_of(steady), strict=True
    ):
        assert loss == pytest.approx(steady_loss, rel=1e-3)
        assert valid["hit@10"] == pytest.approx(steady_valid["hit@10"], abs=0.01)


def test_a_notice_that_a_machine_goes_away_is_answered_with_a_checkpoint(machines, tmp_path):
    log = tmp_path / "driver.log"
    root = make_dataset(tmp_path / "root")
    rare = ("train.checkpoint_steps=null", "train.checkpoint_minutes=null", "train.epochs=40")
    with driver_of(root.uri, machines, log, *rare) as driver:
        assert wait_until(lambda: bool(checkpoints_of(root)), driver)
        assert not [name for name in checkpoints_of(root) if "step" in name]
        seen: set[str] = set()

        def is_answered() -> bool:
            seen.update(checkpoints_of(root))
            return any("step" in name for name in seen)

        drained = subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
                *("--address", machines.cluster.address),
                *("--node-id", machines.workers[0].node_id),
                *("--reason", "DRAIN_NODE_REASON_PREEMPTION"),
                *("--reason-message", "spot", "--deadline-remaining-seconds", "30"),
            ],
            capture_output=True,
            text=True,
        )
        assert drained.returncode == 0, drained.stderr
        assert wait_until(is_answered, driver, 60)
        machines.add()
        machines.remove(0)
        assert wait_until(
            lambda: bool(re.search(r"goes on after epoch \d+", log.read_text())), driver
        )
