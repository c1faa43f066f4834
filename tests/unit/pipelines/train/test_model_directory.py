"""Finishing a model from a checkpoint."""

import pytest

from lightsans.config import RunConfig
from lightsans.errors import TrainingError
from lightsans.storage.location import Location
from lightsans.storage.manifests import read_manifest, write_manifest
from pipelines.train.model_directory import finish_model, write_model_files
from tests.factories import local


@pytest.fixture
def root(tmp_path) -> Location:
    return local(tmp_path)


def test_a_missing_best_checkpoint_is_named_and_nothing_is_finished(root):
    best = root / "checkpoints" / "epoch-00003"
    with pytest.raises(TrainingError, match=r"epoch-00003: the checkpoint .* is missing"):
        write_model_files(RunConfig(), root, {}, root / "models" / "m", best, [])
    assert read_manifest(root / "models" / "m") is None


def test_a_model_that_somebody_else_has_finished_is_left_alone(root):
    model = root / "models" / "m"
    finished = write_manifest(model, {"kind": "model"})
    assert finish_model(RunConfig(), root, {}, model, root / "nothing", []) == finished
