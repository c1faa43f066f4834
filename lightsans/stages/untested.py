"""Refusals where nothing is held out, or where a model has learnt what it would be asked."""

from lightsans.errors import ConfigError
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest


def require_held_out(dataset: DatasetManifest, way_out: str) -> None:
    """Refuse a dataset without held-out items where something is to be measured by them.

    Raises:
        ConfigError: It was made with ``data.split: none``.
    """
    if not dataset.split.holds_out:
        raise ConfigError(
            f"dataset {dataset.id} holds nothing out (data.split=none), so no epoch can be chosen "
            f"and nothing be tested: {way_out}"
        )


def require_unlearnt(dataset: DatasetManifest, model: ModelManifest) -> None:
    """Refuse to test on a dataset without held-out items, or a model that has learnt them.

    Raises:
        ConfigError: One of them is the case.
    """
    require_held_out(dataset, "evaluate on the dataset with held-out items")
    judged = model.judged
    learnt = {model.dataset_id, *([judged.dataset_id] if judged else [])}
    if model.refit and dataset.id in learnt:
        other = judged.model_id if judged else "the model that it was refitted from"
        raise ConfigError(
            f"model {model.id} was refitted on all of dataset {dataset.id}: it has learnt what it "
            f"would be asked; evaluate {other}"
        )
