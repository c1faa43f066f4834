"""Training on a real Ray: the same curve whatever the workers, and after an interruption."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightsans import LightSANs
from lightsans.config import RunConfig
from lightsans.errors import NotFoundError, TrainingError
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import ModelMetrics
from lightsans.training.progress import EpochRow
from pipelines.preprocess.stage import run_preprocess
from pipelines.train import task_group
from pipelines.train.dry_run import dry_run
from pipelines.train.identity import judged_model, refit_config
from pipelines.train.stage import TrainResult, run_train
from pipelines.train.tracking import log_to_mlflow
from tests.commands import ROOT, wait_until
from tests.integration.conftest import TINY

AVERAGED = "train.ema_decay=0.9"
"""Epochs of runs that are interrupted and compared: there is more to resume than weights."""


def history_of(location: Location) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((location / "history.json").read_bytes())
    return rows


def newest_checkpoint(directory: Path) -> str:
    """Its name; names sort as positions in training do."""
    return max((path.parent.name for path in directory.glob("epoch-*/progress.json")), default="")


def train_workers() -> list[int]:
    """Ids of the processes below this one that train."""
    parents, found = {}, []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = (directory / "stat").read_text().rpartition(") ")[2].split()[1]
            parents[int(directory.name)] = int(parent)
            if b"TrainWorker" in (directory / "cmdline").read_bytes():
                found.append(int(directory.name))
    return [pid for pid in found if os.getpid() in _ancestors(pid, parents)]


def _ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    above = set()
    while pid in parents:
        pid = parents[pid]
        above.add(pid)
    return above


def resumed_after(stderr: str) -> int:
    found = re.search(r"goes on after epoch (\d+)", stderr)
    return int(found[1]) if found else 0


def curve_of(location: Location) -> list[float]:
    return [row["loss"] for row in history_of(location)]


@pytest.fixture(scope="module")
def two_workers(ray_cluster, tiny_config, tmp_path_factory) -> tuple[RunConfig, TrainResult]:
    config = tiny_config(tmp_path_factory.mktemp("two"), AVERAGED, "train.num_workers=2")
    return config, run_train(config, run_preprocess(config).dataset_id)


def test_one_worker_and_two_learn_the_same_curve_and_metrics(two_workers, tiny_config, tmp_path):
    config = tiny_config(tmp_path, AVERAGED, "train.num_workers=1")
    alone = run_train(config, run_preprocess(config).dataset_id)
    _, together = two_workers
    assert alone.model_id == together.model_id
    np.testing.assert_allclose(
        curve_of(alone.location), curve_of(together.location), rtol=1e-4, atol=0
    )
    for name, value in alone.metrics.valid.items():
        assert together.metrics.valid[name] == pytest.approx(value, abs=1e-3), name


def test_the_loss_falls_and_the_best_epoch_is_kept(two_workers):
    _, result = two_workers
    curve = curve_of(result.location)
    assert curve[-1] < curve[0]
    rows = history_of(result.location)
    best = max(rows, key=lambda row: row["valid"]["ndcg@10"])
    assert result.manifest.best_epoch == best["epoch"]
    assert result.metrics.valid == best["valid"]
    assert result.manifest.parameters == sum(
        parameter.numel()
        for parameter in LightSANs.from_pretrained(result.location.uri).parameters()
    )


def test_the_curve_can_be_read_by_tensorboard(two_workers):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, result = two_workers
    events = EventAccumulator((result.location / "tensorboard").path)
    events.Reload()
    written = [event.value for event in events.Scalars("loss")]
    np.testing.assert_allclose(written, curve_of(result.location), rtol=1e-6)


def test_a_trained_model_is_found_again_and_nothing_is_written(two_workers):
    config, first = two_workers
    again = run_train(config, first.manifest.dataset_id)
    assert again.skipped
    assert again.manifest == first.manifest


def test_settings_that_change_the_weights_change_the_id_and_others_do_not(two_workers, tiny_config):
    from pipelines.train.identity import model_id

    config, result = two_workers
    dataset = result.manifest.dataset_id
    assert (
        model_id(tiny_config(config.root, AVERAGED, "train.num_workers=1"), dataset)
        == result.model_id
    )
    assert model_id(tiny_config(config.root, AVERAGED, "score.k=99"), dataset) == result.model_id
    assert model_id(tiny_config(config.root, AVERAGED, "train.seed=1"), dataset) != result.model_id
    assert model_id(config, "another") != result.model_id


def test_a_killed_run_goes_on_from_the_middle_of_an_epoch_with_the_same_curve(
    two_workers, small_log, tmp_path
):
    """The driver and its embedded Ray are killed after epoch 2; the same command finishes, and
    every loss and metric is that of the run that nobody interrupted.
    """
    config, uninterrupted = two_workers
    shutil.copytree(Path(config.root) / "datasets", tmp_path / "datasets")
    command = [sys.executable, "submit.py", "train", "--json"]
    relative = os.path.relpath(tmp_path, ROOT)  # as people write it; workers run elsewhere
    own = ("train.num_workers=2", "train.checkpoint_steps=2", "train.keep_checkpoints=1")
    for setting in (f"root={relative}", f"data.input={small_log}", *TINY, AVERAGED, *own):
        command += ["--set", setting]
    environment = dict(os.environ)
    environment.pop("RAY_ADDRESS", None)
    checkpoints = tmp_path / "models" / uninterrupted.model_id / "checkpoints"
    with subprocess.Popen(command, cwd=ROOT, env=environment) as killed:
        wait_until(lambda: newest_checkpoint(checkpoints) >= "epoch-00002-step")
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert not (checkpoints.parent / "manifest.json").exists()

    finished = subprocess.run(
        command, cwd=ROOT, env=environment, timeout=240, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1])["model_id"] == uninterrupted.model_id
    model = Location(str(checkpoints.parent), config.storage)
    assert curve_of(model) == curve_of(uninterrupted.location)
    valid = [
        [row["valid"] for row in history_of(where)] for where in (model, uninterrupted.location)
    ]
    assert valid[0] == valid[1]
    assert resumed_after(finished.stderr) >= 2


@pytest.mark.parametrize("users_for_tasks", [20_000, 0], ids=["tasks", "ray train"])
def test_a_killed_worker_is_started_again_and_the_curve_stays_the_same(
    two_workers, tiny_config, tmp_path, monkeypatch, users_for_tasks
):
    """Tasks and Ray Train make the same model, too: nobody interrupted that of tasks."""
    monkeypatch.setattr(task_group, "USERS_WORTH_RAY_TRAIN", users_for_tasks)
    config, uninterrupted = two_workers
    shutil.copytree(Path(config.root) / "datasets", tmp_path / "datasets")
    own = tiny_config(tmp_path, AVERAGED, "train.num_workers=2", "train.checkpoint_steps=2")
    checkpoints = tmp_path / "models" / uninterrupted.model_id / "checkpoints"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_train, own, uninterrupted.manifest.dataset_id)
        wait_until(lambda: newest_checkpoint(checkpoints) >= "epoch-00001" or running.done())
        os.kill(train_workers()[-1], signal.SIGKILL)
        result = running.result(timeout=240)
    assert curve_of(result.location) == curve_of(uninterrupted.location)
    assert result.metrics == uninterrupted.metrics


def test_a_model_is_refitted_on_all_data_and_begins_with_another(two_workers, tmp_path):
    """Both at once: the refit takes its epochs from the finished model, the weights too."""
    config, first = two_workers
    dataset = first.manifest.dataset_id
    refit = refit_config(config, dataset)
    refit = replace(refit, train=replace(refit.train, warm_start=first.model_id))
    judged = judged_model(config, first.model_id, "full")
    result = run_train(refit, dataset, judged=judged)
    assert result.manifest.judged == judged
    assert judged.weights_sha256 == first.manifest.weights_sha256
    rows = history_of(result.location)
    assert len(rows) == result.manifest.best_epoch == first.manifest.best_epoch
    assert result.manifest.refit
    assert result.metrics == ModelMetrics(valid={})
    held_back = history_of(first.location)[0]
    assert rows[0]["distinct_targets"] > held_back["distinct_targets"]
    assert rows[0]["loss"] < held_back["loss"]


def test_resuming_what_never_began_is_an_error(two_workers, tiny_config):
    config, first = two_workers
    other = tiny_config(config.root, "train.seed=5")
    with pytest.raises(NotFoundError, match="no checkpoint to resume from"):
        run_train(other, first.manifest.dataset_id, must_resume=True)


def test_a_dry_run_counts_what_training_does(two_workers):
    config, first = two_workers
    figures = dry_run(config, first.manifest.dataset_id)
    row = history_of(first.location)[0]
    assert figures.parameters == first.manifest.parameters
    assert figures.targets_per_epoch == row["targets"]
    assert figures.distinct_targets_per_epoch == row["distinct_targets"]
    assert figures.workers == 2
    assert figures.epochs == config.train.epochs
    assert 0 < figures.step_s < figures.epoch_s < figures.total_s


def test_a_dry_run_of_an_only_step_has_its_time_too(two_workers):
    config, first = two_workers
    whole = replace(config, train=replace(config.train, batch_size=10_000))
    figures = dry_run(whole, first.manifest.dataset_id)
    assert figures.steps_per_epoch == 1
    assert 0 < figures.step_s < figures.total_s


def test_an_epoch_says_where_its_time_went_and_the_curves_are_drawn(two_workers):
    _, result = two_workers
    for row in history_of(result.location):
        assert 0 < row["communication_s"] < row["train_s"]
        assert row["load_s"] + row["compute_s"] + row["communication_s"] == pytest.approx(
            row["train_s"], abs=0.01
        )
        assert row["gradient_norm"] > 0
    assert (result.location / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_runs_are_logged_to_an_mlflow_directory(two_workers, tmp_path):
    from mlflow import MlflowClient  # a second to import

    config, result = two_workers
    uri = f"file://{tmp_path}/mlruns"
    tracked = replace(config, train=replace(config.train, mlflow_uri=uri))
    curve = [EpochRow(**row) for row in history_of(result.location)]
    log_to_mlflow(tracked, curve, result.manifest)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("lightsans")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == result.model_id
    logged = [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert logged == pytest.approx(curve_of(result.location))
    assert run.data.params["model.k_interests"] == "3"


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_setting(
    two_workers, tiny_config, tmp_path
):
    config = tiny_config(tmp_path, "train.num_workers=1", "train.learning_rate=1e30")
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        run_train(config, run_preprocess(config).dataset_id)


def test_a_missing_dataset_is_named_with_what_to_run(ray_cluster, tiny_config, tmp_path):
    with pytest.raises(NotFoundError, match=r"run `submit\.py preprocess` first"):
        run_train(tiny_config(tmp_path), "nothing")
