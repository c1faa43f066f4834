"""Ids of models, and what a refit takes from the model that was judged: nothing here starts Ray.

Whoever only looks for a finished model does not wait for the imports of training.
"""

from dataclasses import replace
from typing import Literal

from lightsans.config import RunConfig
from lightsans.config.marks import Mark, values_with
from lightsans.stages.first_weights import warm_weights_hash
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import JudgedModel, ModelManifest
from lightsans.storage.manifests import content_id, require_manifest
from lightsans.storage.model_files import FORMAT_VERSION, weights_hash


def model_id(config: RunConfig, dataset_id: str) -> str:
    """The id of the model that this configuration makes of a dataset.

    Raises:
        NotFoundError: The model that ``train.warm_start`` names does not exist.
    """
    protocol = values_with(config.evaluate, Mark.VALIDATES)
    if config.model.loss_is_chosen:
        protocol["use_gpu"] = config.train.use_gpu  # by which the loss is chosen
    train = values_with(config.train, Mark.CONTENT)
    # By content: what lies at a path may be replaced, and --force gives an id other weights.
    train["warm_start"] = warm_weights_hash(config)
    question = {
        "dataset": dataset_id,
        "model": values_with(config.model, Mark.CONTENT),
        "train": train,
        **protocol,
    }
    return content_id("model", FORMAT_VERSION, question)


def refit_config(config: RunConfig, dataset_id: str) -> RunConfig:
    """The configuration that trains on all data for as many epochs as valid chose.

    Raises:
        NotFoundError: The model whose epochs were chosen is not finished.
    """
    return refit_of(config, model_id(config, dataset_id))


def refit_of(config: RunConfig, judged_id: str) -> RunConfig:
    """The configuration that trains on all data for as many epochs as valid chose for a model.

    Raises:
        NotFoundError: The model is not finished.
    """
    manifest = _judged_manifest(config, judged_id)
    return replace(config, train=replace(config.train, refit_epochs=manifest.best_epoch))


def continue_config(config: RunConfig, judged_id: str, epochs: int) -> RunConfig:
    """The configuration that goes on from a model's weights, on all data, for a few epochs."""
    # Its learning rate falls over these epochs, if it falls, and does not rise first.
    train = replace(
        config.train, warm_start=judged_id, epochs=epochs, refit_epochs=epochs, warmup_epochs=0.0
    )
    return replace(config, train=train)


def judged_model(
    config: RunConfig, judged_id: str, method: Literal["full", "continue"]
) -> JudgedModel:
    """The record of the model that a refit stands for.

    Raises:
        NotFoundError: It is not finished.
    """
    manifest = _judged_manifest(config, judged_id)
    return JudgedModel(
        model_id=judged_id,
        weights_sha256=weights_hash(locate(config.root, config.storage) / "models" / judged_id),
        dataset_id=manifest.dataset_id,
        method=method,
    )


def _judged_manifest(config: RunConfig, judged_id: str) -> ModelManifest:
    return require_manifest(
        ModelManifest,
        locate(config.root, config.storage) / "models" / judged_id,
        "a refit takes its number of epochs from this model; train it first, without --refit",
    )
