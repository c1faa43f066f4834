"""Every fault during every stage: the same results, or a clear end and a rerun that makes them.

Cells of the table that are recorded are not run again: ``make test-hosts-faults`` goes on where it
stopped, and ``python -m tests.hosts.cells`` writes the table into cluster/README.md.

A cell runs one stage's command alone. What it reads was made once, by commands that nothing befell,
and is copied to a root of its own by the store.
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
from tests.hosts.cluster import ENDPOINT, HostCluster, host_cluster, settings
from tests.hosts.faults import FAULTS, settled, with_clock
from tests.hosts.processes import Running, wait_for
from tests.nights import FIRST, write_log

pytestmark = [pytest.mark.hosts, pytest.mark.chaos, pytest.mark.timeout(2700)]

LOG = Path(os.environ.get("FAULTS_LOG", RECORDS))
LIMIT_S = 600
"""Time after which a command hangs."""
ON_THREE = ("train.num_workers=3", "score.num_workers=3", "data.num_parts=12")
SEARCH = ("tune.max_trials=3", "tune.engine=random", "tune.scheduler=none")
SPACE = "tune.space={learning_rate: {loguniform: [0.003, 0.03]}}"


def epochs(number: int) -> tuple[str, str]:
    """Settings of a training that long, however good its epochs."""
    return f"train.epochs={number}", f"train.patience={number}"


@dataclass(frozen=True)
class Stage:
    """Command of a stage: what it reads, and when it is at work."""

    words: tuple[str, ...]
    begin: str
    """A part of the name of the file after which the fault begins."""
    reads: tuple[str, ...] = ()
    """Stages whose results it reads."""
    settings: tuple[str, ...] = epochs(40)


STAGES = {
    "preprocess": Stage(("preprocess",), "locks/dataset-"),
    "score": Stage(("score",), "locks/run-", ("preprocess", "train")),
    "train": Stage(("train",), "checkpoints/epoch-", ("preprocess",)),
    "nightly": Stage(
        ("nightly", "--as-of", FIRST),
        "checkpoints/epoch-",
        # Few epochs: fewer workers sum in another order, which later ones would show in the lists.
        settings=("nightly.beat_baselines=[]", *epochs(4)),
    ),
    "evaluate": Stage(("evaluate",), "locks/evaluation-", ("preprocess", "train")),
    "tune": Stage(("tune",), "checkpoints/epoch-", ("preprocess",), (SPACE, *SEARCH, *epochs(20))),
}
SLOW_STEPS = {("train", "100 ms, 1 % loss"): epochs(8), ("tune", "100 ms, 1 % loss"): epochs(4)}
"""Settings where every step of a training takes seconds."""
PLACES = {"preprocess": "datasets/", "train": "models/"}
"""Where results lie that others read."""
PAIRS = [(stage, fault) for stage in STAGES for fault in FAULTS]


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


def words_of(stage: str, root: str, fault: str) -> list[str]:
    """Command line of a stage below a root."""
    own, fewer = STAGES[stage], SLOW_STEPS.get((stage, fault), ())
    return [*own.words, *settings(root, *ON_THREE, *own.settings, *fewer), "--json"]


def outcome(cluster: HostCluster, stage: str, root: str) -> tuple[Any, float]:
    """The part of a stage's result that no fault may change, and the time of day of its end."""
    command = ["python", "-m", "tests.hosts.outcomes", ENDPOINT, stage, root]
    found = json.loads(cluster.outside.must(*command, limit_s=120))
    return found["result"], found["ended"]


def prepare(cluster: HostCluster, calm: dict[str, Undisturbed], stage: str, root: str) -> None:
    """Copy what a stage reads below a root."""
    for read in STAGES[stage].reads:
        undisturbed(cluster, calm, read)
        words = cluster.s3_words("copy", f"calm-{read}", root, PLACES[read])
        cluster.outside.must(*words, limit_s=120)


def undisturbed(
    cluster: HostCluster, calm: dict[str, Undisturbed], stage: str, fault: str = ""
) -> Undisturbed:
    """Run a stage's command without a fault, once; with the settings that it has for one."""
    root = f"calm-few-{stage}" if (stage, fault) in SLOW_STEPS else f"calm-{stage}"
    if root not in calm:
        prepare(cluster, calm, stage, root)
        before, began = cluster.requests().total(), time.monotonic()
        done = cluster.submit(*words_of(stage, root, fault), limit_s=LIMIT_S)
        assert done.returncode == 0, done.stderr[-5000:]
        seconds = time.monotonic() - began
        requests = cluster.requests().total() - before
        calm[root] = Undisturbed(outcome(cluster, stage, root)[0], seconds, requests)
    return calm[root]


@pytest.mark.parametrize(("stage", "fault"), PAIRS)
def test_a_fault_costs_time_and_nothing_else(faulty, calm, stage, fault):
    if any((cell.fault, cell.stage) == (fault, stage) for cell in read_cells(LOG)):
        pytest.skip("it is in the table")
    with_clock(faulty, fault)
    assert settled(faulty), "the cluster is not whole after an earlier cell"
    expected = undisturbed(faulty, calm, stage, fault)
    root = f"{stage}-{[*FAULTS].index(fault)}-{time.time():.0f}"
    prepare(faulty, calm, stage, root)
    words = words_of(stage, root, fault)
    before, began = faulty.requests().total(), time.monotonic()
    with contextlib.ExitStack() as stack:
        watch = start_watch(faulty, stage, root)
        job = faulty.start_job(*words, limit_s=LIMIT_S)
        looks = looks_until(watch, job)
        struck = stack.enter_context(FAULTS[fault](faulty, lambda: not job.is_running()))
        status = job.wait()
    again = None
    if status:
        assert settled(faulty), "the cluster is not whole again"
        rerun = faulty.submit(*words, limit_s=LIMIT_S)
        again = rerun.returncode
        assert again == 0, job.text()[-3000:] + rerun.stderr[-5000:]
    seconds = time.monotonic() - began
    requests = faulty.requests().total() - before - expected.requests - looks
    assert settled(faulty), "the cluster is not whole again"
    found, ended = outcome(faulty, stage, root)
    cell = Cell(
        stage=stage,
        fault=fault,
        status=status,
        again=again,
        same_rows=found == expected.result,
        lost_min=round((seconds - expected.seconds) / 60, 1) + 0.0,  # no -0.0
        requests=requests,
        said=last_words(job.text()),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=commit(),
        left_s=round(ended - struck, 1),
    )
    assert cell.is_good, f"{cell}\n{found}\n{expected.result}\n{job.text()[-5000:]}"
    assert ended > struck, f"the stage had ended before: {cell}"
    add_cell(LOG, cell)


def start_watch(cluster: HostCluster, stage: str, root: str) -> Running:
    """Watch for a stage to be at work, on the host outside."""
    words = cluster.s3_words("watch", f"{root}/", STAGES[stage].begin, str(LIMIT_S))
    watch = cluster.outside.popen(*words, limit_s=LIMIT_S)
    assert wait_for(lambda: "ready" in watch.text(), 60), watch.text()
    return watch


def looks_until(watch: Running, job: Running) -> int:
    """Wait until the stage is at work; the number of requests that took."""
    assert wait_for(lambda: not watch.is_running(), LIMIT_S, job.is_running, every_s=0.05), (
        job.text()[-5000:]
    )
    return int(watch.text().split()[-1])


def last_words(text: str) -> str:
    """Last line of an output that is no result."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1][:300] if lines else ""


def commit() -> str:
    """Short name of the last commit that changed the product."""
    asked = ["git", "log", "-1", "--format=%h", "--", "lightsans", "pipelines", "submit.py"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip()
