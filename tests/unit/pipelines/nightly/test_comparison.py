"""Like is compared with like: users, models and ids."""

from dataclasses import replace

import pytest

from lightsans.config import NightlyConfig
from lightsans.storage.manifest_kinds import JudgedModel
from lightsans.storage.manifests import write_manifest
from pipelines.nightly.comparison import (
    comparable_scored_users,
    dataset_users,
    why_models_differ,
)
from pipelines.nightly.gate import check_data, check_scored
from pipelines.publish import judged_model_id
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest

TYPES = {"user_id_type": "int64", "item_id_type": "string"}
PUBLISHED = run_manifest(**TYPES, weights_sha256="ab")
DATASET = dataset_manifest(**TYPES)


def failed(checks):
    return [check.name for check in checks if not check.passed]


def test_users_of_datasets_are_compared_also_where_a_run_scored_a_segment():
    """A segment of a thousand users in a million: 600 users tonight are a collapse."""
    segment = run_manifest(users=1_000, other_users=999_000)
    assert dataset_users(segment) == 1_000_000
    assert dataset_users(replace(segment, dataset_users=1_234)) == 1_234
    assert failed(check_data(NightlyConfig(), 600, dataset_users(segment)))
    assert not failed(check_data(NightlyConfig(), 600_000, dataset_users(segment)))


def test_scored_users_are_compared_with_scored_users():
    whole = run_manifest(users=1_000, settings={"segment": None})
    part = run_manifest(users=400, settings={"segment": ["users.csv", 1]})
    assert comparable_scored_users(whole, whole) == 1_000
    later = replace(part, settings={"segment": ["users.csv", 2]})
    assert comparable_scored_users(later, part) == 400
    assert comparable_scored_users(whole, part) is None
    assert comparable_scored_users(part, whole) is None
    assert failed(check_scored(NightlyConfig(), 499, 1_000)) == [
        "scored users, against 1000 in the published run,"
    ]
    assert not failed(check_scored(NightlyConfig(), 500, 1_000))
    assert check_scored(NightlyConfig(), 1, None) == []
    assert check_scored(NightlyConfig(max_user_drop=None), 1, 1_000) == []


@pytest.fixture
def model(tmp_path):
    directory = local(tmp_path) / "models" / "m"
    write_manifest(directory, model_manifest(weights_sha256="ab"))
    return directory


def test_a_model_that_was_held_out_is_compared(model):
    assert why_models_differ(PUBLISHED, model, DATASET) is None
    # A changed type of user ids is no matter of the model.
    assert why_models_differ(PUBLISHED, model, replace(DATASET, user_id_type="string")) is None


def test_a_refit_other_items_and_other_weights_are_not_compared(model):
    reason = why_models_differ(PUBLISHED, model, replace(DATASET, item_id_type="int64"))
    assert reason == "item ids were of type string and are of type int64 now"
    assert "trained again" in str(
        why_models_differ(replace(PUBLISHED, weights_sha256="cd"), model, DATASET)
    )
    write_manifest(model, model_manifest(weights_sha256="ab", refit=True))
    assert "model m is a refit" in str(why_models_differ(PUBLISHED, model, DATASET))


def test_a_refit_is_compared_by_the_model_that_was_judged_in_its_place(model):
    judged = JudgedModel(model_id="m", weights_sha256="ab", dataset_id="cut", method="full")
    published = replace(PUBLISHED, model_id="refit", weights_sha256="ef", judged=judged)
    assert judged_model_id(published) == judged_model_id(PUBLISHED) == "m"
    assert why_models_differ(published, model, DATASET) is None
    again = replace(published, judged=replace(judged, weights_sha256="cd"))
    assert "trained again" in str(why_models_differ(again, model, DATASET))
