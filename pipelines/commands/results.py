"""JSON results: what a command prints with ``--json``, and every result in the log of a job."""

from typing import Any

from lightsans.config.file import LoadedConfig
from lightsans.storage.manifests import manifest_json


def dataset_json(result: Any) -> dict[str, Any]:
    """A `PreprocessResult` for ``--json``."""
    names = ("users", "trainable_users", "items", "fingerprint", "vocabulary_fingerprint", "rows")
    content = manifest_json(result.manifest)
    counts = {name: content[name] for name in names}
    return {
        "dataset_id": result.dataset_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        **counts,
    }


def model_json(result: Any) -> dict[str, Any]:
    """A `TrainResult` for ``--json``."""
    return {
        "model_id": result.model_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "epochs": result.manifest.epochs,
        "best_epoch": result.manifest.best_epoch,
        "metrics": result.metrics,
    }


def evaluation_json(result: Any, loaded: LoadedConfig) -> dict[str, Any]:
    """An `EvaluateResult` for ``--json``."""
    from pipelines.evaluate.stage import protocol_dict

    return {
        "model_id": result.model_id,
        "dataset_id": result.dataset_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "protocol": protocol_dict(loaded.config),
        "metrics": result.metrics,
        **result.statistics,
    }


def search_json(result: Any, loaded: LoadedConfig) -> dict[str, Any]:
    """A `TuneResult` for ``--json``."""
    names = ("metric", "trials", "epochs", "spent_s", "train_s", "slots", "importance", "best")
    content = manifest_json(result.manifest)
    return {
        "search_id": result.search_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        **{name: content[name] for name in names},
        "evaluation": evaluation_json(result.evaluation, loaded),
    }


def similar_json(result: Any) -> dict[str, Any]:
    """A `SimilarResult` for ``--json``."""
    return {
        "similar_id": result.similar_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "items": result.manifest.items,
        "short_lists": result.manifest.short_lists,
    }


def audience_json(result: Any) -> dict[str, Any]:
    """An `AudienceResult` for ``--json``."""
    return {
        "audience_id": result.audience_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "rows": result.manifest.rows,
        "listed_items": result.manifest.listed_items,
        "unknown_items": result.manifest.unknown_items,
    }


def run_json(result: Any) -> dict[str, Any]:
    """A `ScoreResult` for ``--json``."""
    return {
        "run_id": result.run_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "users": result.manifest.users,
        "popular_users": result.manifest.popular_users,
        "carried_users": result.manifest.carried_users,
        "warnings": result.manifest.warnings,
    }
