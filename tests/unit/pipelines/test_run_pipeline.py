"""--force refuses before the first stage what a later one would refuse; nothing is started here."""

import pytest

from lightsans.config.file import load_config
from lightsans.errors import ConfigError
from lightsans.storage.location import locate
from lightsans.storage.manifests import is_finished, write_manifest
from pipelines.preprocess.identity import dataset_id
from pipelines.publish import publish_run, read_published
from pipelines.run_pipeline import run_pipeline
from pipelines.train.identity import model_id
from pipelines.train.stage import run_train
from tests.manifests import dataset_manifest, model_manifest, run_manifest


@pytest.fixture
def config(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nann,x,1\n")
    settings = [f"root={tmp_path}/root", f"data.input={tmp_path}/log.csv"]
    return load_config(None, [*settings, "data.columns.rating=null"]).config


@pytest.fixture
def root(config):
    """A published run of the configuration's dataset and model."""
    root = locate(config.root, config.storage)
    dataset = dataset_id(config)
    model = model_id(config, dataset)
    write_manifest(root / "datasets" / dataset, dataset_manifest(dataset))
    write_manifest(root / "models" / model, model_manifest(model, dataset_id=dataset))
    run = root / "recommendations" / "run"
    (run / "part-00000.parquet").write_bytes(b"rows")
    write_manifest(run, run_manifest("run", dataset_id=dataset, model_id=model))
    publish_run(read_published(root), "run")
    return root


def test_a_pipeline_whose_dataset_is_published_is_refused_before_anything_is_removed(root, config):
    with pytest.raises(ConfigError, match="the published run run was made from dataset"):
        run_pipeline(config, force=True)
    assert is_finished(root / "datasets" / dataset_id(config))


def test_a_model_that_is_published_is_not_trained_again(root, config):
    dataset = dataset_id(config)
    with pytest.raises(ConfigError, match="the published run run was made from model"):
        run_train(config, dataset, force=True)
    assert is_finished(root / "models" / model_id(config, dataset))
