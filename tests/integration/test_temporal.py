"""A temporal split through the stages."""

import random
from pathlib import Path

import numpy as np
import pytest

from lightsans.dataset.loading import load_shards, load_trainable
from lightsans.dataset.sequences import NO_TARGET
from lightsans.storage.parts import sequence_parts
from pipelines.evaluate.stage import protocol_dict, protocol_text, run_evaluate
from pipelines.preprocess.stage import run_preprocess
from pipelines.train.stage import run_train
from tests.logs_on_disk import write_csv

pytestmark = pytest.mark.usefixtures("ray_cluster")

SHARES = ("data.split=temporal", "data.temporal={valid_fraction: 0.1, test_fraction: 0.1}")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """200 users who are active all the time and prefer low items."""
    rng = random.Random(0)
    rows = [
        (f"u{user}", f"i{int(50 * rng.random() ** 2)}", rng.randrange(10**6))
        for user in range(200)
        for _ in range(20)
    ]
    return write_csv(tmp_path / "log.csv", rows)


def test_shares_cut_every_dataset_alike_and_the_stages_follow(tmp_path, tiny_config, log):
    cuts = (*SHARES, f"data.input={log}", "train.epochs=1", "train.num_workers=1")
    config = tiny_config(tmp_path, *cuts)
    one = run_preprocess(config)
    other = run_preprocess(
        tiny_config(tmp_path, *cuts, "data.num_parts=5", "data.read_unit_bytes=20000")
    )
    assert other.manifest.cutoffs == one.manifest.cutoffs
    assert other.manifest.fingerprint == one.manifest.fingerprint
    rows = one.manifest.rows
    assert 0.75 * rows.valid < rows.left["before_cutoff"] < 0.85 * rows.valid

    parts = [load_trainable(part) for part in sequence_parts(one.location, one.manifest)]
    periods = [part.periods for part in parts if part.periods is not None]
    assert len(periods) == len(parts)
    targets = np.concatenate([each.valid_targets for each in periods])
    assert (targets != NO_TARGET).sum() > 100
    for count in (1, 4):
        shards = load_shards(one.location, one.manifest, list(range(count)), count)
        trained = sum(int(shard.train_lengths.sum()) for shard in shards.values())
        assert trained == sum(int(part.train_lengths.sum()) for part in parts)
        assert trained == rows.left["after_k_core"]

    model = run_train(config, one.dataset_id)
    metrics = run_evaluate(config, one.dataset_id, model.model_id).metrics
    assert metrics["model"]["valid"] == pytest.approx(model.metrics.valid)
    assert 0 < metrics["popular"]["test"]["hit@10"] < 1
    assert protocol_text(config).startswith("temporal (the newest 0.1 of the interactions for test")
    assert protocol_dict(config)["split"] == "temporal"
