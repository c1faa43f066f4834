"""Who trains a model, and from which checkpoint; without Ray, its workers are acted."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import LeaseError, TrainingError
from lightsans.storage.checkpoint_store import (
    PROGRESS,
    Checkpoint,
    CheckpointStore,
    Files,
    checkpoint_name,
    complete_checkpoints,
    find_checkpoint,
)
from lightsans.storage.location import Location, locate
from lightsans.storage.manifests import is_finished, write_manifest
from lightsans.storage.model_files import WEIGHTS, weights_hash, weights_to_bytes
from lightsans.storage.parts import ITEMS
from lightsans.training.progress import EpochRow, Progress
from pipelines.session.lease import Owner
from pipelines.session.stage import set_wait
from pipelines.train import stage
from pipelines.train.identity import model_id
from pipelines.train.stage import TrainResult, run_train
from tests.manifests import dataset_manifest
from tests.models import small_model

DATASET = "0123"
EPOCHS, BEST = 6, 3
MODEL = small_model(4)


def checkpoint_files(epoch: int, best: int) -> Files:
    rows = [
        EpochRow(
            epoch=number,
            loss=1.0,
            targets=9,
            distinct_targets=9,
            train_s=1.0,
            valid_s=0.0,
            valid={"ndcg@10": 0.5},
        )
        for number in range(1, epoch + 1)
    ]
    progress = Progress(rows, best_epoch=best).to_json().encode()
    return {WEIGHTS: weights_to_bytes(MODEL), PROGRESS: progress}


def write(store: CheckpointStore, epoch: int, best: int) -> None:
    store.write(checkpoint_name(epoch), lambda: checkpoint_files(epoch, best))
    store.wait()


class Workers:
    """Act as the workers of a run of six epochs, of which the third is the best."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        """Epochs that were done whenever they started."""
        self.before_epoch: Callable[[int], None] = lambda epoch: None
        self.at_end: Callable[[], None] = lambda: None

    def run(
        self, config: RunConfig, dataset: Location, directory: Location, owner: Owner
    ) -> Checkpoint:
        checkpoints = directory / "checkpoints"
        done = complete_checkpoints(checkpoints)
        self.starts.append(int(done[-1].removeprefix("epoch-")) if done else 0)
        store = CheckpointStore(checkpoints, 2, owner.token or "", owner.require)
        for epoch in range(self.starts[-1] + 1, EPOCHS + 1):
            self.before_epoch(epoch)
            write(store, epoch, best=min(epoch, BEST))
        newest = find_checkpoint(checkpoints / checkpoint_name(EPOCHS))
        assert newest is not None
        self.at_end()
        return newest


@pytest.fixture
def workers(monkeypatch) -> Workers:
    workers = Workers()
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.05)
    monkeypatch.setattr(stage, "ensure_ray", lambda: None)
    monkeypatch.setattr(stage, "preflight", lambda _, config: config)
    monkeypatch.setattr(stage, "_run_workers", workers.run)
    return workers


@pytest.fixture
def config(tmp_path) -> RunConfig:
    """A run whose root holds a finished dataset."""
    config = RunConfig(root=str(tmp_path))
    dataset = locate(config.root, config.storage) / "datasets" / DATASET
    items = pa.array(["a", "b", "c", "d"])
    vocabulary = Vocabulary(items, np.ones(4, np.int64))
    vocabulary.save(dataset / ITEMS)
    fingerprint = vocabulary.fingerprint
    write_manifest(dataset, dataset_manifest(items=4, vocabulary_fingerprint=fingerprint))
    return config


@pytest.fixture
def directory(config) -> Location:
    return locate(config.root, config.storage) / "models" / model_id(config, DATASET)


def run(config: RunConfig, *, force: bool = False) -> TrainResult:
    return run_train(config, DATASET, force=force)


def test_a_model_is_made_of_its_best_epoch_and_found_again(config, workers):
    result = run(config)
    assert (result.skipped, result.manifest.best_epoch) == (False, BEST)
    assert result.manifest.weights_sha256 == weights_hash(result.location)
    assert (result.location / "curves.png").exists()
    assert run(config).manifest == result.manifest
    assert workers.starts == [0]


def test_force_trains_anew(config, workers):
    run(config)
    assert not run(config, force=True).skipped
    assert workers.starts == [0, 0]


def test_of_two_runs_at_once_one_trains_and_the_other_waits_and_finds(config, workers):
    both_are_here = threading.Event()
    workers.before_epoch = lambda epoch: both_are_here.wait(10) and None
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run, config) for _ in range(2)]
        both_are_here.set()
        results = [run.result(60) for run in running]
    assert sorted(result.skipped for result in results) == [False, True]
    assert workers.starts == [0]


def test_a_run_that_may_not_wait_names_who_trains(config, workers):
    errors: list[str] = []

    def try_again(epoch: int) -> None:
        if epoch == 1:
            set_wait(0)
            with pytest.raises(LeaseError) as caught:
                run(config)
            set_wait(None)
            errors.append(str(caught.value))

    workers.before_epoch = try_again
    run(config)
    assert "held by train of model" in errors[0]


def test_workers_of_a_run_that_was_taken_over_write_no_more(config, workers, directory):
    """As when the driver stood still for longer than its lease, and its workers lived on."""
    lease = locate(config.root, config.storage) / "locks" / f"model-{directory.name}.json"

    def take_over(epoch: int) -> None:
        if epoch == 3:
            lease.write_json(lease.read_json() | {"token": "of another"})

    workers.before_epoch = take_over
    with pytest.raises(LeaseError, match="the lease was lost"):
        run(config)
    assert complete_checkpoints(directory / "checkpoints") == ["epoch-00001", "epoch-00002"]
    assert not is_finished(directory)


def test_a_run_whose_best_checkpoint_is_missing_goes_back_and_says_so(
    config, workers, directory, capfd
):
    """Checkpoints of two runs of an earlier version: best 3 is gone. Every attempt failed."""
    store = CheckpointStore(directory / "checkpoints", keep=9)
    for epoch, best in ((1, 1), (5, BEST), (6, BEST)):
        write(store, epoch, best)
    assert run(config).manifest.best_epoch == BEST
    assert workers.starts == [1]
    assert "epoch-00003, the best so far, is missing; training goes on from epoch-00001" in (
        capfd.readouterr().err
    )


def test_without_any_usable_checkpoint_training_starts_anew(config, workers, directory, capfd):
    write(CheckpointStore(directory / "checkpoints"), EPOCHS, BEST)
    run(config)
    assert workers.starts == [0]
    assert "is missing; training starts anew" in capfd.readouterr().err


def test_a_best_checkpoint_that_vanishes_every_time_ends_the_run(config, workers, directory):
    workers.at_end = (directory / "checkpoints" / checkpoint_name(BEST)).delete
    with pytest.raises(TrainingError, match=r"epoch-00003: .* removed during training, 3 times"):
        run(config)
    assert workers.starts == [0, 0, 0]
