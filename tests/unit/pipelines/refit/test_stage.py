"""Ids of a refit are known without making it; a run that tests needs something held out."""

from dataclasses import replace

import pytest

from lightsans.config import RunConfig, TemporalConfig
from lightsans.config.file import load_config
from lightsans.errors import ConfigError
from lightsans.storage.location import locate
from lightsans.storage.manifests import write_manifest
from pipelines.preprocess.identity import dataset_id
from pipelines.refit.stage import refit_ids, require_test
from pipelines.run_pipeline import run_pipeline
from pipelines.train.identity import model_id
from tests.manifests import model_manifest


@pytest.fixture
def config(tmp_path) -> RunConfig:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nann,x,1\n")
    settings = [f"root={tmp_path}/root", f"data.input={tmp_path}/log.csv"]
    return load_config(None, [*settings, "data.columns.rating=null"]).config


def judged_of(config: RunConfig, dataset: str) -> None:
    """Let the configuration's model be finished, with its best epoch the fourth."""
    models = locate(config.root, config.storage) / "models"
    name = model_id(config, dataset)
    write_manifest(models / name, model_manifest(name, best_epoch=4, weights_sha256="ab"))


def test_under_leave_one_out_the_same_dataset_is_trained_on_for_the_chosen_epochs(config):
    dataset = dataset_id(config)
    judged_of(config, dataset)
    refit = replace(config, train=replace(config.train, refit_epochs=4))
    assert refit_ids(config, dataset) == (dataset, model_id(refit, dataset))


def test_continuing_is_another_model_than_starting_anew(config):
    dataset = dataset_id(config)
    judged_of(config, dataset)
    going_on = replace(config, nightly=replace(config.nightly, refit="continue"))
    assert refit_ids(going_on, dataset) != refit_ids(config, dataset)
    longer = replace(going_on, nightly=replace(going_on.nightly, continue_epochs=3))
    assert refit_ids(longer, dataset) != refit_ids(going_on, dataset)


def test_nothing_can_be_tested_where_nothing_is_held_out(config):
    require_test(config)
    whole = replace(config, data=replace(config.data, split="none"))
    assert dataset_id(whole) != dataset_id(config)
    for run in (require_test, run_pipeline):
        with pytest.raises(ConfigError, match=r"data\.split=none holds nothing out"):
            run(whole)


def test_cut_offs_make_no_sense_without_a_temporal_split():
    cuts = TemporalConfig(valid_fraction=0.1, test_fraction=0.1)
    with pytest.raises(ConfigError, match=r"data\.temporal has no effect with data\.split=none"):
        replace(RunConfig().data, split="none", temporal=cuts)
