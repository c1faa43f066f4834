"""Checkpoints of a trainer: its weights, the optimizer's state and its progress as files."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lightsans.config import RunConfig
from lightsans.dataset.feature_arrays import FeatureArrays
from lightsans.dataset.feature_coding import FeatureCoding
from lightsans.errors import NotFoundError
from lightsans.model.network import LightSANs
from lightsans.stages.first_weights import warm_source
from lightsans.stages.item_features import begin_features, training_features
from lightsans.storage import model_files as files
from lightsans.storage.checkpoint_store import PROGRESS, CheckpointStore, Files, find_checkpoint
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.training.progress import Progress
from lightsans.training.trainer import Trainer

OPTIMIZER = "optimizer.safetensors"


def restore_trainer(trainer: Trainer, location: Location) -> None:
    """Bring a trainer of the same run to the position of a checkpoint.

    Raises:
        NotFoundError: The checkpoint was removed meanwhile.
    """
    checkpoint = find_checkpoint(location)
    if checkpoint is None:
        raise NotFoundError(f"{location}: this checkpoint was removed; run the command again")
    trainer.restore(
        files.tensors_from_bytes(checkpoint.read(files.WEIGHTS)),
        files.tensors_from_bytes(checkpoint.read(OPTIMIZER)),
        Progress.from_json(checkpoint.progress, str(location / PROGRESS)),
    )


def features_of_run(
    config: RunConfig, dataset: Location, manifest: DatasetManifest, checkpoint: Location | None
) -> FeatureArrays | None:
    """Item features that a run learns from; None where the dataset has none.

    Args:
        config: The run.
        dataset: Its dataset.
        manifest: The dataset's manifest.
        checkpoint: The checkpoint that the run goes on from, whose coding holds; None to begin.

    Raises:
        NotFoundError: The checkpoint was removed meanwhile.
    """
    if manifest.item_features is None:
        return None
    if checkpoint is None:
        return begin_features(dataset, manifest, warm_source(config))
    found = find_checkpoint(checkpoint)
    if found is None:
        raise NotFoundError(f"{checkpoint}: this checkpoint was removed; run the command again")
    saved = files.saved_model(found.read(files.WEIGHTS), str(checkpoint))
    assert saved.feature_coding is not None
    coding = FeatureCoding.from_json(saved.feature_coding)
    return training_features(dataset, manifest, coding)


def write_checkpoint(trainer: Trainer, store: CheckpointStore) -> None:
    """Begin to write a checkpoint of a trainer's position; training need not wait for it."""
    store.write(trainer.progress.name, _snapshot(trainer))


def _snapshot(trainer: Trainer) -> Callable[[], Files]:
    """Copy a trainer's state to this host's memory; another thread makes files of the copy."""
    weights = {name: _copy(tensor) for name, tensor in trainer.weights().items()}
    state = {name: _copy(tensor) for name, tensor in trainer.state().items()}
    progress = trainer.progress.to_json().encode()
    return partial(_make_files, trainer.model, weights, state, progress)


def _make_files(
    model: LightSANs, weights: dict[str, Tensor], state: dict[str, Tensor], progress: bytes
) -> Files:
    return {
        files.WEIGHTS: files.weights_to_bytes(model, weights),
        OPTIMIZER: files.tensors_to_bytes(state),
        PROGRESS: progress,
    }


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
