"""Finishing a model from a checkpoint."""

import pytest

from lightsans.config import RunConfig
from lightsans.errors import TrainingError
from lightsans.storage.location import Location
from lightsans.storage.manifests import is_finished, write_manifest
from pipelines.train.model_directory import finish_model, write_model_files
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest


@pytest.fixture
def root(tmp_path) -> Location:
    return local(tmp_path)


def test_a_missing_best_checkpoint_is_named_and_nothing_is_finished(root):
    best = root / "checkpoints" / "epoch-00003"
    with pytest.raises(TrainingError, match=r"epoch-00003: the checkpoint .* is missing"):
        write_model_files(RunConfig(), root, dataset_manifest(), root / "models" / "m", best, [])
    assert not is_finished(root / "models" / "m")


def test_a_model_that_somebody_else_has_finished_is_left_alone(root):
    model = root / "models" / "m"
    finished = write_manifest(model, model_manifest())
    made = finish_model(RunConfig(), root, dataset_manifest(), model, root / "nothing", [])
    assert made == finished
