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


def evaluations_of(root: Location, attempt: Attempt) -> dict[str, EvaluationManifest]:
    """Evaluations of the attempt by name, in the order in which they were made."""
    names = attempt.ids_of("evaluation")
    found = {name: read_manifest(EvaluationManifest, root / "reports" / name) for name in names}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


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
    evaluations = list(evaluations_of(root, attempt).values())
    if evaluations:
        tonight = evaluations[0]
        figures = replace(
            figures,
            metrics=metrics_on_test(tonight, MODEL),
            baselines={
                name: metrics_on_test(tonight, name)
                for name in tonight.figures.metrics
                if name != MODEL
            },
        )
    others = [each for each in evaluations[1:] if each.model != evaluations[0].model]
    if others:
        figures = replace(figures, published_metrics=metrics_on_test(others[0], MODEL))
    if run_id is not None:
        run = read_manifest(RunManifest, root / "recommendations" / run_id)
        if run is not None:
            report = run_report(root, run_id)
            shown = None if report is None else report.figures
            figures = replace(figures, scored_users=run.users, run=shown)
    return replace(
        attempt,
        dataset_id=attempt.dataset_id or dataset_id,
        model_id=attempt.model_id or attempt.id_of("model"),
        run_id=attempt.run_id or run_id,
        figures=figures,
        report=own_report(root, attempt),
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
