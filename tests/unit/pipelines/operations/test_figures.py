"""Figures of a night are those of its own model, whatever its stages looked at before."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lightsans.reports.evaluation_figures import EvaluationFigures
from lightsans.storage.manifests import write_manifest
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.operations.attempts import begin_attempt
from pipelines.operations.figures import complete_figures, evaluations_of
from pipelines.session.stage_times import StageTime
from tests.factories import local

METRIC = "ndcg@10"
OLD = StageTime("evaluate", "evaluation", "evaluate-old")
TRAINED = StageTime("train", "model", "new")
NEW = StageTime("evaluate", "evaluation", "evaluate-new")
REFITTED = StageTime("train", "model", "refit")


@pytest.fixture
def root(tmp_path):
    """Evaluations of the model that is published, and of a new one."""
    root = local(tmp_path)
    for model, value in (("old", 0.1), ("new", 0.2)):
        figures = EvaluationFigures(
            metrics={"model": {"test": {METRIC: value}}},
            intervals={"model": {"test": {METRIC: (value, value)}}},
        )
        made = EvaluationManifest(dataset="d", model=model, protocol={}, map=False, figures=figures)
        write_manifest(root / f"reports/evaluate-{model}", made)
    return root


def night(*stages, **fields):
    begun = begin_attempt("2026-11-05", datetime(2026, 11, 5, tzinfo=UTC))
    return replace(begun, stages=stages, **fields)


def test_a_model_that_was_found_worse_before_another_was_trained_is_the_published_one(root):
    done = complete_figures(root, night(OLD, TRAINED, NEW, OLD, REFITTED, model_id="new"))
    found = done.figures
    assert found.metrics is not None
    assert found.published_metrics is not None
    assert (found.metrics[METRIC].value, found.published_metrics[METRIC].value) == (0.2, 0.1)
    own, others = evaluations_of(root, done)
    assert ([*own], [*others]) == (["evaluate-new"], ["evaluate-old"])


def test_a_model_that_is_kept_is_the_nights_own(root):
    kept = complete_figures(root, night(OLD, model_id="old")).figures
    assert kept.metrics is not None
    assert kept.metrics[METRIC].value == 0.1
    assert kept.published_metrics is None


def test_a_night_that_ended_before_its_model_was_evaluated_has_no_metrics_of_it(root):
    failed = complete_figures(root, night(OLD, TRAINED)).figures
    assert failed.metrics is None
    assert failed.published_metrics is not None
    assert failed.published_metrics[METRIC].value == 0.1


def test_a_night_that_was_refused_for_its_refit_names_the_judged_model_and_its_dataset(root):
    made = night(NEW, TRAINED, StageTime("preprocess", "dataset", "full"), REFITTED)
    told = {"created_at": made.started_at, "dataset_id": "d", "model_id": "new"}
    (root / "reports/nightly-2026-11-05.json").write_json(told)
    refused = complete_figures(root, made)
    assert (refused.dataset_id, refused.model_id) == ("d", "new")
