"""A search on a real Ray: what it finds and keeps, how it goes on, and that test stays unseen."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import ray

from lightsans.config import RunConfig, StorageConfig
from lightsans.config.file import load_config
from lightsans.search.proposals import Status
from lightsans.storage.location import locate
from lightsans.storage.records import to_json
from lightsans.training.progress import EpochRow, Progress
from pipelines.preprocess.stage import run_preprocess
from pipelines.session.cpus import machine_cpus
from pipelines.train.stage import run_train
from pipelines.tune.records import TrialRecord, TrialStore
from pipelines.tune.stage import TuneResult, run_tune
from tests.commands import ROOT
from tests.integration.conftest import TINY
from tests.stage_processes import running, wait_until

METRIC = "ndcg@10"

# Three heads do not divide a width of 16, and the last learning rate breaks a trial.
SPACE = {"learning_rate": {"choice": [0.01, 0.001, 1e30]}, "n_heads": {"choice": [2, 3]}}
SETTINGS = ("tune.engine=random", "tune.grace_epochs=1", "tune.reduction_factor=2")


def records_of(result: TuneResult) -> list[dict[str, Any]]:
    return read_records(Path(result.location.path))


def read_records(directory: Path) -> list[dict[str, Any]]:
    paths = sorted((directory / "trials").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture(scope="module")
def results(ray_cluster, tiny_config, tmp_path_factory) -> tuple[RunConfig, TuneResult, TuneResult]:
    """A search of one trial, and the same one with a larger budget."""
    root = tmp_path_factory.mktemp("tune")
    config = tiny_config(root, f"tune.space={json.dumps(SPACE)}", *SETTINGS)
    dataset_id = run_preprocess(config).dataset_id
    small = tiny_config(root, f"tune.space={json.dumps(SPACE)}", *SETTINGS, "tune.max_trials=1")
    first = run_tune(small, dataset_id)
    first_records = records_of(first)
    second = run_tune(config, dataset_id)
    assert records_of(second)[:1] == first_records, "what was done is not done again"
    return config, first, second


def test_a_larger_budget_goes_on_with_the_same_search(results):
    _, first, second = results
    assert first.search_id == second.search_id
    assert not second.skipped
    assert first.manifest.trials in ({"finished": 1}, {"failed": 1})
    assert sum(second.manifest.trials.values()) == 3  # of six, three are not valid


def test_a_trial_that_cannot_learn_has_an_error_and_no_score(results):
    _, _, result = results
    [failed] = [r for r in records_of(result) if r["values"]["train.learning_rate"] == 1e30]
    assert failed["status"] == "failed"
    assert "lower train.learning_rate" in failed["error"]
    assert failed["history"] == []
    others = [r for r in records_of(result) if r["number"] != failed["number"]]
    assert [record["error"] for record in others] == [None, None]


def test_a_finished_search_is_found_again(results):
    config, _, result = results
    again = run_tune(config, result.manifest.dataset_id)
    assert again.skipped
    assert again.manifest == result.manifest


def test_trials_see_valid_alone_and_test_is_computed_for_the_winner_alone(results):
    config, _, result = results
    best = result.manifest.best
    for path in (Path(result.location.path) / "trials").rglob("*.json"):
        assert "test" not in path.read_text()
    evaluated = {
        directory.name
        for directory in (Path(config.root) / "models").iterdir()
        if "test" in json.loads((directory / "metrics.json").read_text())
    }
    assert best.model_id in evaluated
    assert len(evaluated) <= 2, "the winners of the two budgets"
    assert 0 < result.evaluation.metrics["model"]["test"][METRIC] <= 1


def test_the_leaderboard_and_the_plots_can_be_read(results):
    _, _, result = results
    directory = Path(result.location.path)
    rows = pq.read_table(directory / "leaderboard.parquet").to_pylist()
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert rows[0]["trial"] == result.manifest.best.trial
    assert rows[0][f"valid_{METRIC}"] == result.manifest.best.valid[METRIC]
    assert rows[-1]["status"] == "failed"
    assert rows[-1][f"valid_{METRIC}"] is None
    with (directory / "leaderboard.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == [str(r["trial"]) for r in rows]
    assert (directory / "history.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_configuration_trains_the_best_model_again(results, tmp_path):
    config, _, result = results
    best = load_config(f"{result.location.path}/best.yaml", [f"root={tmp_path}"]).config
    shutil.copytree(Path(config.root) / "datasets", tmp_path / "datasets")
    again = run_train(best, result.manifest.dataset_id)
    assert again.model_id == result.manifest.best.model_id
    assert again.metrics.valid == result.manifest.best.valid


def test_trials_are_remembered_on_s3_too(s3_server):
    storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
    store = TrialStore(locate(f"s3://{s3_server.bucket}/tune/search", storage))
    row = EpochRow(
        epoch=1, loss=1.0, targets=1, distinct_targets=1, train_s=1.0, valid_s=0.1,
        valid={METRIC: 0.2},
    )  # fmt: skip
    statuses: dict[int, Status] = {2: "running", 1: "stopped"}
    for number, status in statuses.items():
        record = TrialRecord(
            number=number, values={"model.k_interests": number}, model_id="x", status=status
        )
        store.save(record)
    checkpoint = store.trial_directory(2) / "checkpoints" / "epoch-00001"
    (checkpoint / "progress.json").write_bytes(Progress([row], 1).to_json().encode())
    store.save_spent(3.25)
    loaded = store.load()
    assert [(r.number, r.status, r.score(METRIC)) for r in loaded] == [
        (1, "stopped", None), (2, "running", 0.2)
    ]  # fmt: skip
    assert store.load_spent() == 3.2
    store.trial_directory(2).delete()
    assert store.load()[1].history == []


# ---- interruptions -------------------------------------------------------------------------------

LONG = (
    "train.epochs=40",
    "train.patience=0",
    "tune.engine=random",
    "tune.scheduler=none",
    "tune.max_concurrent=1",
    f"tune.space={json.dumps({'learning_rate': {'choice': [0.01, 0.001]}})}",
)


def ended(directory: Path) -> list[dict[str, Any]]:
    return [record for record in read_records(directory) if record["status"] == "finished"]


def epochs_of(directory: Path, number: int) -> int:
    names = [
        p.parent.name for p in directory.glob(f"trials/{number:04d}/checkpoints/*/progress.json")
    ]
    return max((int(name.split("-")[1]) for name in names), default=0)


class Interrupted(NamedTuple):
    """A search that ended in three goes, beside one that nobody disturbed."""

    whole: TuneResult
    directory: Path
    statuses: list[int]
    """Signals to the command: at Ctrl-C during the first trial, at ``kill -9`` during the next."""
    ended: list[list[dict[str, Any]]]
    """Trials that had ended at each of them."""
    epochs: int
    """Epochs of the first trial at Ctrl-C."""
    status: int
    said: str
    """End and output of the same command at last."""


@pytest.fixture(scope="module")
def interrupted(ray_cluster, tiny_config, small_log, tmp_path_factory) -> Interrupted:
    root = tmp_path_factory.mktemp("interrupted")
    config = tiny_config(root / "whole", *LONG)
    whole = run_tune(config, run_preprocess(config).dataset_id)
    shutil.copytree(root / "whole" / "datasets", root / "killed" / "datasets")
    directory = root / "killed" / "tune" / whole.search_id
    words = ["tune", "--json"]
    for setting in (f"root={root / 'killed'}", f"data.input={small_log}", *TINY, *LONG):
        words += ["--set", setting]
    environment = {
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "disabled"
    }  # fmt: skip

    def run(when: Callable[[], bool], number: signal.Signals) -> tuple[int, str]:
        """Send a signal when it is time, if the command has not ended before."""
        with running(words, [root / "output"], environment) as [command]:
            if wait_until(when, command):
                command.send(number)
            return command.wait(120), command.said

    statuses = [run(lambda: epochs_of(directory, 1) >= 3, signal.SIGINT)[0]]
    ended_then, epochs = [ended(directory)], epochs_of(directory, 1)

    def is_in_the_next() -> bool:
        return bool(ended(directory)) and epochs_of(directory, 2) >= 3

    statuses.append(run(is_in_the_next, signal.SIGKILL)[0])
    ended_then.append(ended(directory))
    return Interrupted(
        whole, directory, statuses, ended_then, epochs, *run(lambda: False, signal.SIGKILL)
    )


def test_ctrl_c_ends_a_search_with_its_status_and_keeps_the_epochs_of_its_trials(interrupted):
    assert interrupted.statuses == [130, -signal.SIGKILL]
    assert interrupted.ended[0] == []
    assert interrupted.epochs >= 3


def test_the_same_command_goes_on_with_a_search_that_was_killed(interrupted):
    assert interrupted.status == 0, interrupted.said
    assert "the search goes on" in interrupted.said


def test_a_trial_that_had_ended_before_is_not_trained_again(interrupted):
    records = read_records(interrupted.directory)
    assert interrupted.ended[1]
    for record in interrupted.ended[1]:
        assert record in records


def test_a_search_that_was_interrupted_and_killed_ends_like_one_that_was_not(interrupted):
    whole = records_of(interrupted.whole)
    for record, expected in zip(read_records(interrupted.directory), whole, strict=True):
        assert record["values"] == expected["values"]
        assert record["status"] == "finished"
        curves = [[row["loss"] for row in r["history"]] for r in (record, expected)]
        assert curves[0] == pytest.approx(curves[1], rel=1e-6)
    reported = json.loads(interrupted.said.splitlines()[-1])
    assert reported["best"] == to_json(interrupted.whole.manifest.best)


# ---- two CPUs ------------------------------------------------------------------------------------

ON_TWO_CPUS = """
import json, os, sys
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
from lightsans.config.file import load_config
from pipelines.preprocess.stage import run_preprocess
from pipelines.embedded.start import quick_start
from pipelines.tune.stage import run_tune

with quick_start():
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=200 << 20,
    )
found = {}
for workers in ("1", "2"):
    config = load_config(None, [*sys.argv[1:], f"tune.num_workers={workers}"]).config
    if workers == "2":  # else it is the same search
        config = load_config(None, [*sys.argv[1:], "tune.num_workers=2", "tune.seed=1"]).config
    result = run_tune(config, run_preprocess(config).dataset_id)
    groups = ray.util.placement_group_table().values()
    found[workers] = {
        "slots": result.manifest.slots,
        "trials": result.manifest.trials,
        "left": [g["name"] for g in groups if g["state"] != "REMOVED"],
    }
print(json.dumps(found))
"""


def test_two_cpus_are_enough_for_trials_of_one_worker_and_of_two(small_log, tmp_path):
    """Neither waits for a CPU that the other holds, and stopped trials leave nothing behind."""
    space = {"learning_rate": {"choice": [0.02, 0.01, 1e-6]}}
    settings = [
        f"root={tmp_path}",
        f"data.input={small_log}",
        *TINY,
        *SETTINGS,
        f"tune.space={json.dumps(space)}",
        "train.epochs=2",
    ]
    environment = {name: v for name, v in os.environ.items() if name != "RAY_ADDRESS"}
    ran = subprocess.run(
        [sys.executable, "-c", ON_TWO_CPUS, *settings],
        cwd=ROOT, env=environment, timeout=240, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert [found[workers]["slots"] for workers in "12"] == [min(2, machine_cpus()), 1]
    for workers in "12":
        assert sum(found[workers]["trials"].values()) == 3
        assert set(found[workers]["trials"]) <= {"finished", "stopped"}, ran.stderr
        assert found[workers]["left"] == []
