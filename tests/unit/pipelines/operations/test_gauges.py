"""Figures of nights for Prometheus, read back by its own parser."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lightsans.config import NightlyConfig, RunConfig
from lightsans.ranking.bootstrap import Estimate
from lightsans.storage.manifests import write_manifest
from pipelines.operations.attempts import Figures, begin_attempt, ended, write_attempt
from pipelines.operations.gauges import GAUGES, exposition, night_samples, write_metrics_file
from pipelines.publish import publish_run, read_published
from pipelines.session.stage_times import StageTime
from tests.factories import local
from tests.manifests import dataset_manifest, run_manifest

MOMENT = datetime(2026, 11, 5, tzinfo=UTC)
FIGURES = Figures(
    metrics={"ndcg@10": Estimate(0.2, 0.1, 0.3)},
    published_metrics={"ndcg@10": Estimate(0.1, 0.0, 0.2)},
    baselines={"popular": {"ndcg@10": Estimate(0.05, float("nan"), 0.1)}},
    users=7,
    items=3,
    rows_read=100,
    rows_rejected=2,
    run={"coverage": 0.5, "overlap": None},
)
STAGES = (
    StageTime("evaluate", "evaluation", "a", seconds=1.5, peak_bytes=5),
    StageTime("evaluate", "evaluation", "b", seconds=2.0, peak_bytes=3),
)


@pytest.fixture
def root(tmp_path):
    return local(tmp_path / 'ro"ot\\x')


def finished(outcome="published", status=0):
    begun = replace(begin_attempt("2026-11-05", MOMENT), figures=FIGURES, stages=STAGES)
    return ended(begun, outcome, "", status)


def read(text):
    """Values by name and labels, the root aside."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "root"}
            found[sample.name, *sorted(labels.values())] = sample.value
    return found


def test_what_a_night_found_is_in_the_file(root):
    data = {**dataset_manifest().data, "as_of": "2026-11-05"}
    write_manifest(root / "datasets/d", dataset_manifest(data=data))
    write_manifest(root / "recommendations/r", run_manifest("r"))
    publish_run(read_published(root), "r")
    attempt = finished()
    found = read(exposition(night_samples(root, attempt)))
    assert found["lightsans_night_outcome", "published"] == 1
    assert found["lightsans_night_outcome", "failed"] == 0
    assert found[("lightsans_night_exit_status",)] == 0
    assert found[("lightsans_night_as_of_timestamp_seconds",)] == MOMENT.timestamp()
    assert found[("lightsans_published_as_of_timestamp_seconds",)] == MOMENT.timestamp()
    ends = found[("lightsans_night_end_timestamp_seconds",)]
    assert found[("lightsans_night_success_timestamp_seconds",)] == ends
    assert found["lightsans_night_stage_seconds", "evaluate"] == 3.5
    assert found["lightsans_night_stage_peak_bytes", "evaluate"] == 5
    assert found["lightsans_night_test_metric", "low", "model", "ndcg@10"] == 0.1
    assert found["lightsans_night_test_metric", "ndcg@10", "popular", "value"] == 0.05
    assert ("lightsans_night_test_metric", "low", "ndcg@10", "popular") not in found  # no number
    assert found["lightsans_run_figure", "coverage"] == 0.5
    assert found["lightsans_root_bytes", "recommendations"] > 0
    assert found[("lightsans_night_rows_rejected",)] == 2
    names = {name for name, *_ in found}
    assert names == set(GAUGES)


def test_the_root_is_a_label_whatever_its_name_holds(root):
    text = exposition(night_samples(root, finished()))
    for family in text_string_to_metric_families(text):
        assert {sample.labels["root"] for sample in family.samples} == {root.uri}


def test_a_failed_night_keeps_the_time_of_the_last_success(root):
    good = finished()
    write_attempt(root, good)
    found = read(exposition(night_samples(root, finished("failed", 1))))
    assert found["lightsans_night_outcome", "failed"] == 1
    assert good.ended_at is not None
    success = datetime.fromisoformat(good.ended_at).timestamp()
    assert found[("lightsans_night_success_timestamp_seconds",)] == success


def test_the_file_is_replaced_whole_and_only_where_it_is_asked_for(root, tmp_path):
    target = tmp_path / "textfiles" / "lightsans.prom"
    config = RunConfig(root=root.uri, nightly=NightlyConfig(metrics_file=str(target)))
    for status in (1, 0):
        write_metrics_file(config, night_samples(root, finished(status=status)))
        assert read(target.read_text())[("lightsans_night_exit_status",)] == status
    assert [path.name for path in target.parent.iterdir()] == ["lightsans.prom"]
    write_metrics_file(RunConfig(root=root.uri), [])
