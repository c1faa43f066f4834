"""A dataset, a model and a run of an earlier version are found again, not made anew.

``tests/golden/recorded_root`` was written from the log and the settings in it (datasets: format 3);
beside its evaluation in format 2 stands one of before.
The id of a dataset holds the address and the time of its log, so the log is put where it was then.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from lightsans.config import StorageConfig
from lightsans.config.file import load_config
from lightsans.storage.location import locate
from lightsans.storage.manifests import require_manifest
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.run_pipeline import run_pipeline
from tests.recorded import DATASET, MODEL, RECORDED, RUN

LOG = Path("/tmp/lightsans-recorded/log.csv")
MODIFIED_NS = 1_700_000_000_000_000_000


@pytest.fixture
def recorded_log():
    LOG.parent.mkdir(exist_ok=True)
    shutil.copy(RECORDED / "log.csv", LOG)
    os.utime(LOG, ns=(MODIFIED_NS, MODIFIED_NS))
    yield LOG
    shutil.rmtree(LOG.parent)


def test_results_of_an_earlier_version_are_found_by_the_same_command(recorded_log, tmp_path):
    shutil.copytree(RECORDED, tmp_path / "root")
    loaded = load_config(str(RECORDED / "run.yaml"), [f"root={tmp_path / 'root'}"])
    result = run_pipeline(loaded.config)
    stages = (result.dataset, result.model, result.evaluation, result.recommendations)
    assert all(stage.skipped for stage in stages)
    assert result.dataset.dataset_id == DATASET
    assert result.model.model_id == MODEL
    assert result.recommendations.run_id == RUN
    manifest = json.loads((RECORDED / f"models/{MODEL}/manifest.json").read_text())
    assert manifest["dataset_id"] == DATASET


def test_an_evaluation_without_statistics_stays_readable():
    report = locate(str(RECORDED / "reports" / "evaluate-b9029b496c26"), StorageConfig())
    manifest = require_manifest(EvaluationManifest, report, "")
    assert (manifest.format_version, manifest.ranks, manifest.figures.intervals) == (1, (), {})
    assert manifest.figures.metrics["model"]["test"]["hit@10"] == 0.4
