import json

import pytest

from lightsans.errors import InputError
from lightsans.storage.records import from_json, to_json
from pipelines.tune.messages import EpochReport, LastResult, TrialConfig, TrialFailure
from tests.searches import row


def test_a_trial_and_its_epochs_survive_ray_tune_which_adds_fields_of_its_own():
    config = TrialConfig(number=7, model_id="m", run={"root": "x"})
    assert TrialConfig.of(json.loads(json.dumps(to_json(config)))) == config
    report = EpochReport(epoch=2, score=0.5, row=row(2, 0.4), finished=True)
    result = {**report.to_result(), "training_iteration": 2, "pid": 1}
    assert result["done"]
    assert from_json(EpochReport, result, "Ray Tune") == report
    assert LastResult.of(result) == LastResult(finished=True)


def test_the_end_of_a_trial_is_known_by_its_last_result():
    failed = TrialFailure(error="out of memory").to_result()
    assert failed["done"]
    assert LastResult.of(failed) == LastResult(error="out of memory")
    assert LastResult.of({}) == LastResult()
    outage = TrialFailure(error="no answer", fault="StorageError").to_result()
    assert LastResult.of(outage) == LastResult(error="no answer", fault="StorageError")


def test_a_wrong_message_names_its_field():
    with pytest.raises(InputError, match="Ray Tune: number is missing"):
        TrialConfig.of({"model_id": "m"})
