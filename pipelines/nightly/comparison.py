"""Checks that the new run can be compared with the published one: like with like, or not at all.

A comparison that cannot be made is left out with its reason, which the report and a warning give.
"""

from lightsans.config import RunConfig
from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.evaluation_figures import MODEL, estimate_drop
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    ModelManifest,
    RunManifest,
    changed_id_types,
)
from lightsans.storage.manifests import read_manifest
from lightsans.storage.model_files import is_made_of, weights_hash
from pipelines.evaluate.stage import EvaluateResult, read_pairs
from pipelines.nightly.gate import Quality


def dataset_users(run: RunManifest) -> int:
    """Users of the dataset that a run scored, also of those outside its segment."""
    # Runs of before say how many were written and how many left out.
    return run.users + run.other_users if run.dataset_users is None else run.dataset_users


def comparable_scored_users(run: RunManifest, published: RunManifest) -> int | None:
    """Scored users of the published run; None if only one of the two scored a segment."""
    one, other = run.settings.get("segment"), published.settings.get("segment")
    return published.users if (one is None) == (other is None) else None


def why_models_differ(
    published: RunManifest, model: Location, dataset: DatasetManifest
) -> str | None:
    """Reason why the published model cannot be judged on tonight's test items; None when it can.

    Args:
        published: Manifest of the published run.
        model: The model that it is judged by, which is there: see `pipelines.publish`.
        dataset: Manifest of tonight's dataset.
    """
    types = changed_id_types(published, dataset)
    if "item" in types:
        return types["item"]
    trained = read_manifest(ModelManifest, model)
    if trained is not None and trained.refit:
        return (
            f"model {model.name} is a refit: it has learnt the newest interaction of every user, "
            "and would be tested on it where there is no newer one"
        )
    if published.judged is not None:
        is_same = published.judged.weights_sha256 == weights_hash(model)
    else:
        is_same = is_made_of(published, model)
    if not is_same:
        return f"model {model.name} was trained again since: its lists are of other weights"
    return None


def measure_quality(
    config: RunConfig, tonight: EvaluateResult, published: EvaluateResult | None
) -> Quality:
    """Take the figures that the gate decides by.

    Args:
        config: ``nightly.metric`` is what is compared.
        tonight: The night's model on the night's dataset.
        published: The published model on the same; None when there is nothing to compare. The two
            are paired user by user: both ranked the same targets of the same users.
    """
    metric = config.nightly.metric
    figures = tonight.figures
    metrics = figures.metrics[MODEL]["test"]
    return Quality(
        metrics=metrics,
        intervals=figures.intervals[MODEL]["test"],
        leads={
            name: values["test"][metric]
            for name, values in figures.differences.items()
            if values["test"]
        },
        drop=None if published is None or not metrics else _drop(config, tonight, published),
    )


def _drop(config: RunConfig, tonight: EvaluateResult, published: EvaluateResult) -> Estimate:
    ours, theirs = read_pairs(tonight.location), read_pairs(published.location)
    return estimate_drop(ours, theirs, config.nightly.metric, tuple(config.evaluate.ks))
