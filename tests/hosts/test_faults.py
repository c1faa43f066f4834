"""Every fault during every stage: the same lists, or a clear end and a rerun that makes them.

Cells of the table that are recorded are not run again: ``make test-hosts-faults`` goes on where it
stopped, and ``python -m tests.hosts.cells`` writes the table into cluster/README.md.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT
from tests.hosts.cells import RECORDS, Cell, add_cell, read_cells
from tests.hosts.cluster import HostCluster, host_cluster, settings
from tests.hosts.faults import BEFORE, FAULTS, settled
from tests.hosts.processes import Running, wait_for
from tests.nights import FIRST, write_log

pytestmark = [pytest.mark.hosts, pytest.mark.chaos, pytest.mark.timeout(2700)]

LOG = Path(os.environ.get("FAULTS_LOG", RECORDS))
LIMIT_S = 900
"""Time after which a command hangs."""
SMALL = ("train.num_workers=2", "score.num_workers=3", "train.epochs=6", "train.patience=6")
NIGHT = ("nightly.beat_baselines=[]", "train.epochs=6", "train.num_workers=2")
SPACE = "tune.space={learning_rate: {loguniform: [0.003, 0.03]}}"
COMMANDS = {
    "preprocess": (["pipeline", *SMALL], "locks/dataset-"),
    "train": (["pipeline", *SMALL], "checkpoints/"),
    "evaluate": (["pipeline", *SMALL], "locks/evaluation-"),
    "score": (["pipeline", *SMALL], "locks/run-"),
    "tune": (["tune", *SMALL, SPACE, "tune.max_trials=4", "tune.engine=random"], "checkpoints/"),
    "nightly": (["nightly", *NIGHT], "checkpoints/"),
}
"""Command of a stage, and a part of the name of the file after which the fault begins."""


@dataclass
class Undisturbed:
    """Result and cost of a command that nothing befalls."""

    result: Any
    seconds: float
    requests: int


@pytest.fixture(scope="module")
def faulty(hosts_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    """A cluster for all cells; its workers' memory and disks are small."""
    log = tmp_path_factory.mktemp("log") / "log.csv"
    write_log(log)
    with host_cluster((1, 1, 1), memory_bytes=4 << 30, disk_bytes=1 << 30) as made:
        made.put("log.csv", log.read_text())
        yield made


@pytest.fixture(scope="module")
def calm() -> dict[str, Undisturbed]:
    """Commands that were undisturbed, each made when it is asked for."""
    return {}


def words_of(stage: str, root: str) -> list[str]:
    """Command line of a stage below a root."""
    command, *overrides = COMMANDS[stage][0]
    date = ["--as-of", FIRST] if command == "nightly" else []
    return [command, *date, *settings(root, *overrides), "--json"]


def lists_of(cluster: HostCluster, stage: str, root: str) -> Any:
    """The part of a result that no fault may change: lists of a run, or values of a search."""
    if stage == "tune":
        trials = [name for name in cluster.objects(f"{root}/tune/") if "/trials/" in name]
        records = [json.loads(cluster.get(name)) for name in sorted(trials)]
        return [(record["values"], record["status"]) for record in records]
    [run] = {
        name.split("/")[2]
        for name in cluster.objects(f"{root}/recommendations/")
        if name.endswith("/manifest.json")
    }
    return cluster.rows(root, run)


def undisturbed(cluster: HostCluster, calm: dict[str, Undisturbed], stage: str) -> Undisturbed:
    """Run a stage's command without a fault, once."""
    key = COMMANDS[stage][0][0]
    if key not in calm:
        root = f"calm-{key}"
        before, began = cluster.requests().total(), time.monotonic()
        done = cluster.submit(*words_of(stage, root), limit_s=LIMIT_S)
        assert done.returncode == 0, done.stderr[-5000:]
        seconds = time.monotonic() - began
        requests = cluster.requests().total() - before
        calm[key] = Undisturbed(lists_of(cluster, stage, root), seconds, requests)
    return calm[key]


@pytest.mark.parametrize("stage", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_time_and_nothing_else(faulty, calm, fault, stage):
    if any((cell.fault, cell.stage) == (fault, stage) for cell in read_cells(LOG)):
        pytest.skip("it is in the table")
    expected = undisturbed(faulty, calm, stage)
    root = f"{fault} {stage}".replace(" ", "-").replace(",", "").replace("%", "").replace("/", "")
    words = words_of(stage, root)
    before, began = faulty.requests().total(), time.monotonic()
    with contextlib.ExitStack() as stack:
        if fault in BEFORE:
            stack.enter_context(FAULTS[fault](faulty))
        job = faulty.start_job(*words, limit_s=LIMIT_S)
        looks = wait_for_begin(faulty, stage, root, job)
        if fault not in BEFORE:
            stack.enter_context(FAULTS[fault](faulty))
        status = job.wait()
    assert settled(faulty), "the cluster is not whole again"
    again = None
    if status:
        rerun = faulty.submit(*words, limit_s=LIMIT_S)
        again = rerun.returncode
        assert again == 0, job.text()[-3000:] + rerun.stderr[-5000:]
    seconds = time.monotonic() - began
    found = lists_of(faulty, stage, root)
    cell = Cell(
        stage=stage,
        fault=fault,
        status=status,
        again=again,
        same_rows=found == expected.result,
        lost_min=round((seconds - expected.seconds) / 60, 1),
        requests=faulty.requests().total() - before - expected.requests - looks,
        said=last_words(job.text()),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=commit(),
    )
    assert cell.is_good, f"{cell}\n{job.text()[-5000:]}"
    add_cell(LOG, cell)


def wait_for_begin(cluster: HostCluster, stage: str, root: str, job: Running) -> int:
    """Wait until a stage is at work; the number of requests that took."""
    looks = 0

    def has_begun() -> bool:
        nonlocal looks
        looks += 1
        return COMMANDS[stage][1] in str([*cluster.objects(f"{root}/")])

    assert wait_for(has_begun, LIMIT_S, job.is_running, every_s=1), job.text()[-5000:]
    return looks


def last_words(text: str) -> str:
    """Last line of an output that is no result."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1][:300] if lines else ""


def commit() -> str:
    """Short name of the last commit that changed the product."""
    asked = ["git", "log", "-1", "--format=%h", "--", "lightsans", "pipelines", "submit.py"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip()
