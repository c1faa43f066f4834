"""JSON results: what a command prints with ``--json``, and every result in the log of a job."""

from typing import Any

from lightsans.config.file import LoadedConfig
from lightsans.storage.manifests import manifest_json
from lightsans.storage.records import to_json


def _result_json(result: Any, *, id_name: str, fields: tuple[str, ...]) -> dict[str, Any]:
    """A result by its id, with fields of its manifest."""
    content = manifest_json(result.manifest)
    return {
        id_name: getattr(result, id_name),
        "path": result.location.uri,
        "skipped": result.skipped,
        **{name: content[name] for name in fields},
    }


def dataset_json(result: Any) -> dict[str, Any]:
    """A `PreprocessResult` for ``--json``."""
    fields = ("users", "trainable_users", "items", "fingerprint", "vocabulary_fingerprint", "rows")
    return _result_json(result, id_name="dataset_id", fields=fields)


def model_json(result: Any) -> dict[str, Any]:
    """A `TrainResult` for ``--json``."""
    found = _result_json(result, id_name="model_id", fields=("epochs", "best_epoch"))
    return {**found, "metrics": to_json(result.metrics)}


def evaluation_json(result: Any, loaded: LoadedConfig) -> dict[str, Any]:
    """An `EvaluateResult` for ``--json``."""
    from pipelines.evaluate.stage import protocol_dict

    return {
        "model_id": result.model_id,
        "dataset_id": result.dataset_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "protocol": protocol_dict(loaded.config, result.made_with),
        **to_json(result.figures),
    }


def search_json(result: Any, loaded: LoadedConfig) -> dict[str, Any]:
    """A `TuneResult` for ``--json``."""
    fields = ("metric", "trials", "epochs", "spent_s", "train_s", "slots", "importance", "best")
    found = _result_json(result, id_name="search_id", fields=fields)
    return {**found, "evaluation": evaluation_json(result.evaluation, loaded)}


def similar_json(result: Any) -> dict[str, Any]:
    """A `SimilarResult` for ``--json``."""
    return _result_json(result, id_name="similar_id", fields=("items", "short_lists"))


def audience_json(result: Any) -> dict[str, Any]:
    """An `AudienceResult` for ``--json``."""
    fields = ("rows", "listed_items", "unknown_items")
    return _result_json(result, id_name="audience_id", fields=fields)


def run_json(result: Any) -> dict[str, Any]:
    """A `ScoreResult` for ``--json``."""
    fields = ("users", "popular_users", "carried_users", "warnings")
    return _result_json(result, id_name="run_id", fields=fields)
