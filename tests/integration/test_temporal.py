"""A temporal split through the stages."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightsans.config import RunConfig
from lightsans.dataset.loading import load_shards, load_trainable
from lightsans.dataset.sequences import NO_TARGET
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import ConfigError
from lightsans.storage.parts import sequence_parts
from pipelines.evaluate.stage import protocol_dict, protocol_text, run_evaluate
from pipelines.export import run_export
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from pipelines.refit.checks import measure_refit
from pipelines.refit.stage import run_refit
from pipelines.run_pipeline import run_pipeline
from pipelines.score.stage import run_score
from pipelines.train.stage import TrainResult, run_train
from tests.logs_on_disk import write_csv

pytestmark = pytest.mark.usefixtures("ray_cluster")

SHARES = ("data.split=temporal", "data.temporal={valid_fraction: 0.1, test_fraction: 0.1}")


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """200 users who are active all the time and prefer low items; one item of the last days."""
    rng = random.Random(0)
    rows = [
        (f"u{user}", f"i{int(50 * rng.random() ** 2)}", rng.randrange(10**6))
        for user in range(200)
        for _ in range(20)
    ]
    rows += [(f"u{user}", "late", 10**6 + user) for user in range(5)]
    return write_csv(tmp_path_factory.mktemp("temporal") / "log.csv", rows)


@pytest.fixture(scope="module")
def config(log, tiny_config) -> RunConfig:
    cuts = (*SHARES, f"data.input={log}", "train.epochs=1", "train.num_workers=1")
    made: RunConfig = tiny_config(log.parent, *cuts)
    return made


@pytest.fixture(scope="module")
def dataset(ray_cluster, config) -> PreprocessResult:
    return run_preprocess(config)


@pytest.fixture(scope="module")
def model(dataset, config) -> TrainResult:
    return run_train(config, dataset.dataset_id)


def test_shares_cut_every_dataset_alike_and_the_stages_follow(config, dataset, model):
    data = replace(config.data, num_parts=5, read_unit_bytes=20_000)
    other = run_preprocess(replace(config, data=data))
    assert other.manifest.cutoffs == dataset.manifest.cutoffs
    assert other.manifest.fingerprint == dataset.manifest.fingerprint
    rows = dataset.manifest.rows
    assert 0.75 * rows.valid < rows.left["before_cutoff"] < 0.85 * rows.valid

    files = sequence_parts(dataset.location, dataset.manifest)
    parts = [load_trainable(part) for part in files]
    periods = [part.periods for part in parts if part.periods is not None]
    assert len(periods) == len(parts)
    targets = np.concatenate([each.valid_targets for each in periods])
    assert (targets != NO_TARGET).sum() > 100
    for count in (1, 4):
        shards = load_shards(dataset.location, dataset.manifest, list(range(count)), count)
        trained = sum(int(shard.train_lengths.sum()) for shard in shards.values())
        assert trained == sum(int(part.train_lengths.sum()) for part in parts)
        assert trained == rows.left["after_k_core"]

    metrics = run_evaluate(config, dataset.dataset_id, model.model_id).metrics
    assert metrics["model"]["valid"] == pytest.approx(model.metrics.valid)
    assert 0 < metrics["popular"]["test"]["hit@10"] < 1
    assert protocol_text(config).startswith("temporal (the newest 0.1 of the interactions for test")
    assert protocol_dict(config)["split"] == "temporal"


def test_a_refit_learns_every_row_and_the_items_that_came_after_the_cut_offs(
    config, dataset, model
):
    refit = run_refit(config, dataset, model.model_id)
    full, manifest = refit.dataset, refit.dataset.manifest
    assert (manifest.split.name, manifest.base, manifest.cutoffs) == (
        "none",
        dataset.dataset_id,
        None,
    )
    assert manifest.rows.valid == dataset.manifest.rows.valid == manifest.interactions
    known, everything = load_vocabulary(dataset.location), load_vocabulary(full.location)
    assert everything.extends(known)
    late = set(everything.raw_item_ids.to_pylist()) - set(known.raw_item_ids.to_pylist())
    assert late == {"late"}
    learnt = refit.model.manifest
    assert (learnt.refit, learnt.items, learnt.judged) == (
        True,
        everything.num_items,
        refit.judged,
    )
    assert (refit.judged.model_id, refit.judged.dataset_id) == (model.model_id, dataset.dataset_id)
    lists = measure_refit(config, refit).lists
    assert lists is not None
    assert lists.users == manifest.users
    for asked in (dataset.dataset_id, full.dataset_id):
        with pytest.raises(ConfigError, match=r"holds nothing out|has learnt what it would be"):
            run_evaluate(config, asked, refit.model.model_id, map_items=True)
    with pytest.raises(ConfigError, match=r"train\.refit_epochs says for how many epochs"):
        run_train(config, full.dataset_id)


def test_a_refit_goes_on_from_the_judged_model_for_a_few_epochs(config, dataset, model):
    going_on = replace(config, nightly=replace(config.nightly, refit="continue", continue_epochs=3))
    refit = run_refit(going_on, dataset, model.model_id)
    assert refit.dataset.dataset_id == run_refit(config, dataset, model.model_id).dataset.dataset_id
    assert (refit.model.manifest.epochs, refit.judged.method) == (3, "continue")
    assert refit.model.manifest.judged == refit.judged


def test_a_model_that_reads_times_goes_through_all_stages(ray_cluster, config, capfd):
    """Nobody's list is carried over: the night of the request is another one."""
    model = replace(config.model, gaps="request", interest_decay="time", positions="fading")
    timed = replace(config, model=model, train=replace(config.train, target_span=3))
    made = run_pipeline(timed)
    assert made.model.model_id != run_train(config, made.dataset.dataset_id).model_id
    assert made.recommendations.manifest.users == made.dataset.manifest.users
    again = run_score(
        replace(timed, score=replace(timed.score, k=7)),
        made.dataset.dataset_id,
        made.model.model_id,
        since=made.recommendations.run_id,
    )
    assert again.manifest.carried_users == 0
    exported = run_export(timed, made.model.model_id)
    assert exported.manifest.inputs == ("item_ids", "lengths", "timestamps", "now")
