"""Models on storage: weights in safetensors, which cannot run code when they are read."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from lightsans.config import ModelConfig, StorageConfig
from lightsans.errors import InputError, NotFoundError
from lightsans.model.network import LightSANs
from lightsans.storage.location import Location, locate
from lightsans.storage.manifests import require_manifest

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
METRICS = "metrics.json"
HISTORY = "history.json"


def weights_to_bytes(model: LightSANs, weights: dict[str, Tensor] | None = None) -> bytes:
    """A model as a safetensors file whose header holds its configuration.

    Args:
        model: Whose configuration it is.
        weights: An earlier copy of its weights; None for those it has now.
    """
    header = {"model": json.dumps(asdict(model.config)), "num_items": str(model.num_items)}
    weights = model.state_dict() if weights is None else weights
    tensors = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    return safetensors.torch.save(tensors, header)


def model_from_bytes(content: bytes, name: str) -> LightSANs:
    """The model in a safetensors file written by `weights_to_bytes`, in evaluation mode.

    Raises:
        InputError: The file is damaged or of another program; the message begins with ``name``.
    """
    try:
        header = _read_header(content)
        config = ModelConfig(**json.loads(header["model"]))
        model = LightSANs(config, int(header["num_items"]))
        model.load_state_dict(safetensors.torch.load(content))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name}: not a LightSANs model of this version ({error}); train it again, or import "
            "a RecBole checkpoint"
        ) from error
    return model.eval()


def load_model(directory: str | Location) -> LightSANs:
    """The model of a model directory, in evaluation mode on the CPU.

    Raises:
        NotFoundError: There is no ``model.safetensors``.
        InputError: It is damaged.
    """
    if isinstance(directory, str):
        directory = locate(directory, StorageConfig())
    weights = directory / WEIGHTS
    try:
        content = weights.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{weights}: not found; expected a model directory") from None
    return model_from_bytes(content, str(weights))


def sha256(weights: bytes) -> str:
    """SHA-256 of the content of ``model.safetensors``, as in ``weights_sha256`` of a manifest."""
    return hashlib.sha256(weights).hexdigest()


def weights_hash(directory: Location) -> str:
    """SHA-256 of the weights of a finished model.

    A model's id names what was asked: trained again, it may hold other weights. Results made of a
    model are keyed by this hash. Manifests without ``weights_sha256`` were written by an earlier
    version; there the weights are read.

    Raises:
        NotFoundError: The model is not finished.
    """
    manifest = require_manifest(directory, "train the model first")
    recorded: str | None = manifest.get("weights_sha256")
    return recorded or sha256((directory / WEIGHTS).read_bytes())


def tensors_to_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Named tensors as a safetensors file."""
    return safetensors.torch.save({name: tensor.cpu() for name, tensor in tensors.items()})


def tensors_from_bytes(content: bytes) -> dict[str, Tensor]:
    """The named tensors of a safetensors file."""
    tensors: dict[str, Tensor] = safetensors.torch.load(content)
    return tensors


def _read_header(content: bytes) -> dict[str, Any]:
    """The ``__metadata__`` of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])["__metadata__"]
    return header
