"""The model that a night could keep is that of the newest run of an earlier date."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import NightlyConfig, NightlyTrainConfig, RunConfig, to_dict
from lightsans.config.file import dump_yaml
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.storage.manifest_kinds import JudgedModel
from lightsans.storage.manifests import write_manifest
from pipelines.nightly.candidate import count_items, find_candidate
from pipelines.publish import publish_run, read_published, roll_back
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest

FIRST = datetime(2025, 11, 5, tzinfo=UTC)
JUDGED = JudgedModel(model_id="judged", weights_sha256="cd", dataset_id="cut", method="full")
TONIGHT = dataset_manifest("tonight")


@pytest.fixture
def root(tmp_path):
    """Runs of three nights in a row, all of one refit, which was made on the first."""
    root = local(tmp_path)
    for night in range(3):
        date = (FIRST + timedelta(days=night)).isoformat()
        name = "cut" if night == 0 else f"data-{night}"
        data = {**to_dict(RunConfig().data), "as_of": date}
        write_manifest(root / "datasets" / name, dataset_manifest(name, data=data))
        run = run_manifest(
            f"run-{night}", dataset_id=name, model_id="refit", weights_sha256="ab", judged=JUDGED
        )
        write_manifest(root / "recommendations" / run.id, run)
        publish_run(read_published(root), run.id, "nightly")
    made = model_manifest("refit", weights_sha256="ab", refit=True, judged=JUDGED)
    write_manifest(root / "models" / "refit", made)
    tested = model_manifest("judged", weights_sha256="cd", dataset_id="cut")
    write_manifest(root / "models" / "judged", tested)
    (root / "models" / "judged" / "config.yaml").write_bytes(dump_yaml(RunConfig()).encode())
    return root


def find(root, nights, dataset=TONIGHT):
    return find_candidate(root, read_published(root), FIRST + timedelta(days=nights), dataset)


def test_it_is_the_published_one_and_as_old_as_the_model_not_as_the_run(root):
    found, _ = find(root, 3)
    assert found is not None
    assert (found.run_id, found.model.name, found.judged.name) == ("run-2", "refit", "judged")
    assert (found.refit, found.trained) == ("full", FIRST)


def test_the_same_night_again_and_a_backfill_find_the_one_before_them(root):
    assert [getattr(find(root, nights)[0], "run_id", None) for nights in (2, 1)] == [
        "run-1",
        "run-0",
    ]
    assert find(root, 0) == (None, "nothing of an earlier date is published")


def test_what_was_rolled_back_is_not_kept(root):
    roll_back(read_published(root))
    found, _ = find(root, 3)
    assert found is not None
    assert found.run_id == "run-1"


def test_what_was_removed_trained_again_or_of_other_ids_is_not_kept(root):
    other = replace(TONIGHT, item_id_type="int64")
    assert find(root, 3, other)[1] == "item ids were of type string and are of type int64 now"
    write_manifest(root / "models" / "refit", model_manifest("refit", weights_sha256="ef"))
    assert find(root, 3)[1] == "the model of run run-2 was removed, or trained again since"
    (root / "recommendations" / "run-2").delete()
    assert find(root, 3)[1].startswith("run run-2 of 2025-11-07")


def test_reasons_that_cost_nothing_are_found_without_any_data(root):
    found, _ = find(root, 3)  # of which there are manifests alone
    assert found is not None

    def why(days, **settings):
        train = NightlyTrainConfig(every_nights=days)
        config = replace(RunConfig(), nightly=NightlyConfig(train=train, **settings))
        return found.why_train(config, FIRST + timedelta(days=3))

    assert "has learnt the log up to" in why(3)
    assert why(4) is None
    assert why(4, refit="none") == "nightly.refit was full and is none"
    relaxed = NightlyTrainConfig(every_nights=4, if_vocabulary_grows=None)
    config = replace(RunConfig(), nightly=NightlyConfig(train=relaxed))
    assert found.why_new_items(config, root / "datasets" / "tonight") is None


def test_a_warm_start_begins_with_the_judged_model(root):
    found, _ = find(root, 3)
    assert found is not None
    dataset = root / "datasets" / "tonight"
    config, reason = found.begin_with(RunConfig(), dataset)
    assert (config.train.warm_start, reason) == ("judged", None)
    wide = replace(RunConfig(), model=replace(RunConfig().model, hidden_size=128))
    assert found.begin_with(wide, dataset) == (wide, "model.hidden_size was 64 and is 128")


def test_with_other_item_features_a_night_trains_and_from_scratch(root, monkeypatch):
    found, asked = find(root, 3)[0], []

    def why(model, dataset):
        asked.append((model.name, dataset.name))
        return "vectors had 2 numbers and have 3"

    monkeypatch.setattr("pipelines.nightly.candidate.why_other_features", why)
    assert found is not None
    config, dataset = RunConfig(), root / "datasets" / "tonight"
    assert found.begin_with(config, dataset) == (config, "vectors had 2 numbers and have 3")
    assert found.why_new_items(config, dataset) == "vectors had 2 numbers and have 3"
    assert asked == [("judged", "tonight"), ("refit", "tonight")]


def test_new_items_are_those_that_live_and_that_the_model_does_not_know(tmp_path):
    dataset, model = local(tmp_path / "d"), local(tmp_path / "m")
    counts = np.array([3, 2, 1, 0])
    Vocabulary(pa.array(["a", "b", "c", "gone"]), counts).save(dataset / "items.parquet")
    Vocabulary(pa.array(["b", "z"]), np.array([1, 1])).save(model / "items.parquet")
    assert count_items(dataset, model) == (2, 2)
