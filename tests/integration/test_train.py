"""Training on a real Ray: the same curve whatever the workers, and after an interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightsans import LightSANs
from lightsans.config import RunConfig
from lightsans.errors import NotFoundError, TrainingError
from lightsans.storage import Location
from pipelines.preprocess import run_preprocess
from pipelines.train import TrainResult, run_train
from tests.integration.conftest import TINY

REPOSITORY = Path(__file__).parents[2]


def history_of(location: Location) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((location / "history.json").read_bytes())
    return rows


def text_of(directory: Path, prefix: str) -> str:
    """The content of the file whose name begins so, once there is one."""
    return "".join(path.read_text() for path in directory.glob(f"{prefix}*"))


def wait_until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def resumed_after(stderr: str) -> int:
    found = re.search(r"goes on after epoch (\d+)", stderr)
    return int(found[1]) if found else 0


def curve_of(location: Location) -> list[float]:
    return [row["loss"] for row in history_of(location)]


@pytest.fixture(scope="module")
def two_workers(ray_cluster, tiny_config, tmp_path_factory) -> tuple[RunConfig, TrainResult]:
    config = tiny_config(tmp_path_factory.mktemp("two"), "train.num_workers=2")
    return config, run_train(config, run_preprocess(config).dataset_id)


def test_one_worker_and_two_learn_the_same_curve_and_metrics(two_workers, tiny_config, tmp_path):
    config = tiny_config(tmp_path, "train.num_workers=1")
    alone = run_train(config, run_preprocess(config).dataset_id)
    _, together = two_workers
    assert alone.model_id == together.model_id
    np.testing.assert_allclose(
        curve_of(alone.location), curve_of(together.location), rtol=1e-4, atol=0
    )
    for name, value in alone.metrics["valid"].items():
        assert together.metrics["valid"][name] == pytest.approx(value, abs=1e-3), name


def test_the_loss_falls_and_the_best_epoch_is_kept(two_workers):
    _, result = two_workers
    curve = curve_of(result.location)
    assert curve[-1] < curve[0]
    rows = history_of(result.location)
    best = max(rows, key=lambda row: row["valid"]["ndcg@10"])
    assert result.manifest["best_epoch"] == best["epoch"]
    assert result.metrics["valid"] == best["valid"]
    assert result.manifest["parameters"] == sum(
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
    again = run_train(config, first.manifest["dataset_id"])
    assert again.skipped
    assert again.manifest == first.manifest


def test_settings_that_change_the_weights_change_the_id_and_others_do_not(two_workers, tiny_config):
    from pipelines.train import model_id

    config, result = two_workers
    dataset = result.manifest["dataset_id"]
    assert model_id(tiny_config(config.root, "train.num_workers=1"), dataset) == result.model_id
    assert model_id(tiny_config(config.root, "score.k=99"), dataset) == result.model_id
    assert model_id(tiny_config(config.root, "train.seed=1"), dataset) != result.model_id
    assert model_id(config, "another") != result.model_id


def test_a_killed_run_goes_on_from_its_last_epoch_with_the_same_curve(
    two_workers, small_log, tmp_path
):
    """The driver and its embedded Ray are killed after epoch 2; the same command finishes."""
    config, uninterrupted = two_workers
    shutil.copytree(Path(config.root) / "datasets", tmp_path / "datasets")
    command = [sys.executable, "submit.py", "train", "--json"]
    relative = os.path.relpath(tmp_path, REPOSITORY)  # as people write it; workers run elsewhere
    for setting in (f"root={relative}", f"data.input={small_log}", *TINY, "train.num_workers=2"):
        command += ["--set", setting]
    # Epochs of this size end faster than Ray Train usually looks for news.
    environment = {**os.environ, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1"}
    environment.pop("RAY_ADDRESS", None)
    checkpoints = tmp_path / "models" / uninterrupted.model_id / "checkpoints"
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment) as killed:
        wait_until(lambda: "epoch-00002" in text_of(checkpoints, "checkpoint_manager_snapshot"))
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert not (checkpoints.parent / "manifest.json").exists()

    finished = subprocess.run(
        command, cwd=REPOSITORY, env=environment, timeout=240, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1])["model_id"] == uninterrupted.model_id
    model = Location(str(checkpoints.parent), config.storage)
    np.testing.assert_allclose(curve_of(model), curve_of(uninterrupted.location), rtol=1e-5, atol=0)
    assert resumed_after(finished.stderr) >= 2


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_setting(
    two_workers, tiny_config, tmp_path
):
    config = tiny_config(tmp_path, "train.num_workers=1", "train.learning_rate=1e30")
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        run_train(config, run_preprocess(config).dataset_id)


def test_a_missing_dataset_is_named_with_what_to_run(ray_cluster, tiny_config, tmp_path):
    with pytest.raises(NotFoundError, match=r"run `submit\.py preprocess` first"):
        run_train(tiny_config(tmp_path), "nothing")
