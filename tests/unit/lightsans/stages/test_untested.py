"""Nothing is tested by what was learnt."""

import pytest

from lightsans.errors import ConfigError
from lightsans.stages.untested import require_held_out, require_unlearnt
from lightsans.storage.manifest_kinds import JudgedModel
from tests.manifests import dataset_manifest, model_manifest


def test_a_dataset_that_holds_nothing_out_tests_no_model():
    require_held_out(dataset_manifest("d"), "go on")
    whole = dataset_manifest("d", data={"split": "none"})
    with pytest.raises(ConfigError, match=r"dataset d holds nothing out .*: go on"):
        require_held_out(whole, "go on")
    with pytest.raises(ConfigError, match="evaluate on the dataset with held-out items"):
        require_unlearnt(whole, model_manifest("m", dataset_id="other"))


def test_a_refit_is_not_asked_what_it_has_learnt():
    dataset = dataset_manifest("d")
    require_unlearnt(dataset, model_manifest("m", dataset_id="d"))
    require_unlearnt(dataset, model_manifest("m", dataset_id="other", refit=True))
    refit = model_manifest("m", dataset_id="d", refit=True)
    with pytest.raises(ConfigError, match=r"model m was refitted on all of dataset d.*from$"):
        require_unlearnt(dataset, refit)


def test_a_refit_on_a_dataset_of_its_own_has_learnt_that_of_the_judged_model():
    judged = JudgedModel(model_id="j", weights_sha256="0", dataset_id="d", method="full")
    refit = model_manifest("m", dataset_id="whole", refit=True, judged=judged)
    with pytest.raises(ConfigError, match=r"evaluate j$"):
        require_unlearnt(dataset_manifest("d"), refit)
