"""Checkpoints of a trainer: its weights, the optimizer's state and its progress as files."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lightsans.errors import NotFoundError
from lightsans.model.network import LightSANs
from lightsans.storage import model_files as files
from lightsans.storage.checkpoint_store import PROGRESS, CheckpointStore, Files, find_checkpoint
from lightsans.storage.location import Location
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
