"""Headline figures of a night, read from what its stages have left."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from lightsans.errors import LightSANsError
from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.evaluation_figures import MODEL
from lightsans.reports.run_figures import ReportedFigures
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import read_manifest
from lightsans.storage.records import from_json
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.operations.attempts import Attempt, Figures, night_of_report


def own_report(root: Location, attempt: Attempt) -> Mapping[str, Any] | None:
    """The report that an attempt's gate wrote; None where it wrote none, but an earlier one did."""
    reports = root / "reports"
    found = []
    for name in reports.children():
        if night_of_report(name) == attempt.date:
            with suppress(OSError, LightSANsError):
                found.append((reports / name).read_json())
    # Times of reports are whole seconds.
    begun = datetime.fromisoformat(attempt.started_at).replace(microsecond=0)
    newest = max(found, key=lambda report: str(report.get("created_at")), default={})
    try:
        return newest if datetime.fromisoformat(str(newest["created_at"])) >= begun else None
    except (KeyError, ValueError, TypeError):
        return None


def evaluations_of(
    root: Location, attempt: Attempt
) -> tuple[dict[str, EvaluationManifest], dict[str, EvaluationManifest]]:
    """Evaluations of the night's own model, and of others, by name.

    Which came first says nothing: a night that trains because the published model has become worse
    has evaluated that one before.
    """
    names = attempt.ids_of("evaluation")
    read = {name: read_manifest(EvaluationManifest, root / "reports" / name) for name in names}
    found = {name: manifest for name, manifest in read.items() if manifest is not None}
    reported = (attempt.report or {}).get("model_id")
    models = {attempt.model_id, reported, *attempt.ids_of("model")}
    own = {name: manifest for name, manifest in found.items() if manifest.model in models}
    return own, {name: manifest for name, manifest in found.items() if name not in own}


def complete_figures(root: Location, attempt: Attempt) -> Attempt:
    """The attempt with the figures that are known at its end."""
    figures = Figures()
    dataset_id, run_id = attempt.id_of("dataset"), attempt.id_of("run")
    if dataset_id is not None:
        dataset = read_manifest(DatasetManifest, root / "datasets" / dataset_id)
        if dataset is not None:
            figures = replace(
                figures,
                users=dataset.users,
                items=dataset.items,
                interactions=dataset.interactions,
                rows_read=dataset.rows.read,
                rows_rejected=sum(dataset.rows.rejected.values()),
            )
    attempt = replace(attempt, report=own_report(root, attempt))
    own, others = (list(found.values()) for found in evaluations_of(root, attempt))
    if own:
        figures = replace(
            figures,
            metrics=metrics_on_test(own[0], MODEL),
            baselines={
                name: metrics_on_test(own[0], name)
                for name in own[0].figures.metrics
                if name != MODEL
            },
        )
    if others:
        figures = replace(figures, published_metrics=metrics_on_test(others[0], MODEL))
    if run_id is not None:
        run = read_manifest(RunManifest, root / "recommendations" / run_id)
        if run is not None:
            report = run_report(root, run_id)
            shown = None if report is None else report.figures
            figures = replace(figures, scored_users=run.users, run=shown)
    # The last ones that a night made may be those of its refit.
    told = attempt.report or {}
    return replace(
        attempt,
        dataset_id=attempt.dataset_id or told.get("dataset_id") or dataset_id,
        model_id=attempt.model_id or told.get("model_id") or attempt.id_of("model"),
        run_id=attempt.run_id or run_id,
        figures=figures,
    )


def run_report(root: Location, run_id: str) -> ReportedFigures | None:
    """The report of a recommendation run; None where it has none that can be read."""
    file = root / "recommendations" / run_id / "report.json"
    try:
        return from_json(ReportedFigures, file.read_json(), str(file))
    except (OSError, LightSANsError):
        return None


def metrics_on_test(evaluation: EvaluationManifest, scorer: str) -> dict[str, Estimate]:
    """Test metrics of a scorer with intervals; those without an interval are left out."""
    values = evaluation.figures.metrics.get(scorer, {}).get("test", {})
    intervals = evaluation.figures.intervals.get(scorer, {}).get("test", {})
    return {
        name: Estimate(value, *intervals[name])
        for name, value in values.items()
        if name in intervals
    }
