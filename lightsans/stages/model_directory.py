"""The files of a finished model, all but its checkpoints, pictures and manifest."""

import torch

from lightsans.config import RunConfig
from lightsans.config.file import dump_yaml
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.model.network import LightSANs
from lightsans.stages.item_features import add_up
from lightsans.storage import model_files as files
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest, ModelMetrics
from lightsans.storage.parts import ITEMS
from lightsans.storage.records import to_json
from lightsans.training.progress import EpochRow


def write_model(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: DatasetManifest,
    directory: Location,
    weights: bytes,
    best: EpochRow,
    history: list[EpochRow],
    name: str,
) -> ModelManifest:
    """Write the files of a model; the content of its manifest.

    Args:
        config: The run.
        dataset: The dataset it was trained on.
        dataset_manifest: The dataset's manifest.
        directory: Directory of the model.
        weights: Content of ``model.safetensors`` after the best epoch.
        best: The best epoch.
        history: The learning curve, a row for each epoch.
        name: Where the weights come from, for messages.
    """
    saved, parts_hash = files.saved_model(weights, name), None
    if saved.feature_coding is None:
        model = LightSANs.from_saved(saved)
    else:
        # Whoever reads the model is given item vectors that are added up; the parts lie beside.
        parts_hash = files.sha256(weights)
        (directory / files.ITEM_FEATURES).write_bytes(weights)
        model = add_up(saved, dataset, dataset_manifest)
        weights = files.weights_to_bytes(model)
    (directory / files.WEIGHTS).write_bytes(weights)
    content = (dataset / ITEMS).read_bytes()
    load_vocabulary(dataset)  # raises if they were replaced since
    (directory / ITEMS).write_bytes(content)
    (directory / files.CONFIG).write_bytes(dump_yaml(config).encode())
    (directory / files.HISTORY).write_json([to_json(row) for row in history])
    (directory / files.METRICS).write_json(to_json(ModelMetrics(valid=best.valid)))
    return ModelManifest(
        id=directory.name,
        format_version=files.FORMAT_VERSION,
        dataset_id=dataset.name,
        dataset_fingerprint=dataset_manifest.fingerprint,
        vocabulary_fingerprint=dataset_manifest.vocabulary_fingerprint,
        weights_sha256=files.sha256(weights),
        item_features_sha256=parts_hash,
        items=model.num_items,
        parameters=count_parameters(model),
        epochs=len(history),
        best_epoch=best.epoch,
        train_s=round(sum(row.train_s for row in history), 1),
        torch=str(torch.__version__),  # whose own class is PyTorch's
        refit=config.train.refit_epochs is not None,
    )


def count_parameters(model: LightSANs) -> int:
    """Trainable numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
