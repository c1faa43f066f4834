"""The directory of a finished model.

models/<id>/  model.safetensors  items.parquet  config.yaml  metrics.json  history.json
              checkpoints/       see `lightsans.storage.checkpoint_store`
              manifest.json      finishes the model
              curves.png         tensorboard/
              pending.json       reports that failed, see `pipelines.train.tracking`
"""

import sys
from collections.abc import Callable
from typing import Any

import ray

from lightsans.config import RunConfig
from lightsans.dataset.held_out import describe_nobody
from lightsans.errors import TrainingError
from lightsans.storage import model_files as files
from lightsans.storage.checkpoint_store import Checkpoint, checkpoint_name, find_checkpoint
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest
from lightsans.training.progress import EpochRow
from pipelines.console.progress import say
from pipelines.session.lease import Owner
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.session.stage import find_or_make
from pipelines.train.tracking import mark_pending, write_pending_reports


def finish_model(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: DatasetManifest,
    directory: Location,
    best: Location,
    history: list[EpochRow],
) -> ModelManifest:
    """Write a whole model directory from the best checkpoint, unless somebody else has.

    Args:
        config: The run.
        dataset: The dataset it was trained on.
        dataset_manifest: The dataset's manifest.
        directory: Directory of the model.
        best: The best checkpoint.
        history: The learning curve, a row for each epoch.

    Returns:
        The manifest.

    Raises:
        TrainingError: The best checkpoint is missing.
    """

    def make(owner: Owner, anew: bool) -> ModelManifest:
        return write_model_files(config, dataset, dataset_manifest, directory, best, history)

    root = directory.parent.parent
    manifest, _ = find_or_make(
        ModelManifest, directory, root, stage="train", kind="model", make=make, uses=(dataset,)
    )
    write_pending_reports(config, directory, manifest)
    return manifest


def write_model_files(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: DatasetManifest,
    directory: Location,
    best: Location,
    history: list[EpochRow],
) -> ModelManifest:
    """Write a model directory from the best checkpoint, all but the manifest and the reports.

    Args:
        config: The run.
        dataset: The dataset it was trained on.
        dataset_manifest: The dataset's manifest.
        directory: Directory of the model.
        best: The best checkpoint.
        history: The learning curve, a row for each epoch.

    Returns:
        The content of the manifest.

    Raises:
        TrainingError: The best checkpoint is missing.
    """
    checkpoint = find_checkpoint(best)
    if checkpoint is None:
        raise TrainingError(f"{best}: the checkpoint of the best epoch is missing; train again")
    best_row = next(row for row in history if checkpoint_name(row.epoch) == best.name)
    write: Callable[..., ModelManifest] = _write_model
    if "torch" not in sys.modules:  # its import would take longer than a task that has it
        ensure_ray()
        write = _in_a_task
    manifest = write(config, dataset, dataset_manifest, directory, checkpoint, best_row, history)
    valid = best_row.valid
    mark_pending(config, directory)
    say(
        f"train: {len(history)} epochs, best {best_row.epoch}, valid "
        + (", ".join(f"{k} {v:.4f}" for k, v in valid.items() if k.endswith("@10")) or "none")
    )
    if not valid and config.train.refit_epochs is None:
        reason = describe_nobody(
            "valid",
            dataset_manifest.trainable_users,
            is_temporal=dataset_manifest.cutoffs is not None,
            has_events=bool(dataset_manifest.data.get("events")),
        )
        say(f"WARNING: train: {reason}. The model is that of the last epoch")
    return manifest


def _in_a_task(*arguments: Any) -> ModelManifest:
    with original_errors():
        made: ModelManifest = ray.get(ray.remote(num_cpus=0)(_write_model).remote(*arguments))
    return made


def _write_model(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: DatasetManifest,
    directory: Location,
    checkpoint: Checkpoint,
    best: EpochRow,
    history: list[EpochRow],
) -> ModelManifest:
    from lightsans.stages.model_directory import write_model

    weights, name = checkpoint.read(files.WEIGHTS), str(checkpoint.location)
    return write_model(config, dataset, dataset_manifest, directory, weights, best, history, name)
