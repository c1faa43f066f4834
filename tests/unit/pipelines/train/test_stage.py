"""Finding the best checkpoint again, without Ray: workers are replaced by their checkpoints."""

from functools import partial

import pytest

from lightsans.config import RunConfig, StorageConfig
from lightsans.errors import LeaseError, TrainingError
from lightsans.storage.checkpoint_store import (
    Checkpoint,
    CheckpointStore,
    checkpoint_name,
    complete_checkpoints,
    find_checkpoint,
)
from lightsans.storage.location import Location
from pipelines.train import stage
from tests.unit.lightsans.storage.test_checkpoint_store import files, write

EPOCHS, BEST = 6, 3


@pytest.fixture
def directory(tmp_path) -> Location:
    return Location(str(tmp_path / "model"), StorageConfig())


@pytest.fixture
def starts(monkeypatch) -> list[int]:
    """Epochs that were done whenever the workers started; they train six, the third is best."""
    starts: list[int] = []

    def run_workers(
        config: RunConfig, dataset: Location, directory: Location, owner: str
    ) -> Checkpoint:
        checkpoints = directory / "checkpoints"
        done = complete_checkpoints(checkpoints)
        starts.append(int(done[-1].removeprefix("epoch-")) if done else 0)
        store = CheckpointStore(checkpoints, owner=owner)
        for epoch in range(starts[-1] + 1, EPOCHS + 1):
            write(store, epoch, best=min(epoch, BEST))
        newest = find_checkpoint(checkpoints / checkpoint_name(EPOCHS))
        assert newest is not None
        return Checkpoint(newest.location, newest.progress | {"history": []})

    monkeypatch.setattr(stage, "_run_workers", run_workers)
    return starts


def fit(directory: Location) -> Location:
    best, _ = stage._fit(RunConfig(), directory, directory)
    return best


def test_a_run_whose_best_checkpoint_is_missing_goes_back_and_says_so(directory, starts, capsys):
    """What two runs of an earlier version left: best 3, which is gone; before, a bare
    FileNotFoundError in every attempt."""
    store = CheckpointStore(directory / "checkpoints", keep=9)
    for epoch, best in ((1, 1), (5, BEST), (6, BEST)):
        write(store, epoch, best)
    assert fit(directory).name == "epoch-00003"
    assert starts == [1]
    assert "epoch-00003, the best so far, is missing; training goes on from epoch-00001" in (
        capsys.readouterr().err
    )


def test_without_any_usable_checkpoint_training_starts_anew(directory, starts, capsys):
    store = CheckpointStore(directory / "checkpoints", keep=9)
    write(store, EPOCHS, BEST)
    assert fit(directory).name == "epoch-00003"
    assert starts == [0]
    assert "is missing; training starts anew" in capsys.readouterr().err


def test_a_best_checkpoint_that_vanishes_every_time_ends_the_run(directory, starts, monkeypatch):
    run_workers = stage._run_workers

    def run_and_lose(*arguments):
        newest = run_workers(*arguments)
        (directory / "checkpoints" / checkpoint_name(BEST)).delete()
        return newest

    monkeypatch.setattr(stage, "_run_workers", run_and_lose)
    with pytest.raises(TrainingError, match=r"epoch-00003: .* removed during training, 3 times"):
        fit(directory)
    assert starts == [0, 0, 0]


def test_the_run_that_started_last_may_write(directory, starts):
    checkpoints = directory / "checkpoints"
    fit(directory)
    store = CheckpointStore(checkpoints, owner="of an earlier run")
    store.write("epoch-00007", partial(files, BEST))
    with pytest.raises(LeaseError, match="another run has taken over"):
        store.wait()
