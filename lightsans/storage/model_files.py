"""Models on storage: weights in safetensors, which cannot run code when they are read."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lightsans.config import ModelConfig, StorageConfig
from lightsans.config.marks import Mark, fields_with
from lightsans.errors import InputError, NotFoundError
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import ModelManifest
from lightsans.storage.manifests import read_manifest, require_manifest
from lightsans.storage.parts import METRICS as METRICS

if TYPE_CHECKING:  # who wants a hash, or settings, waits for no PyTorch
    from torch import Tensor

WEIGHTS = "model.safetensors"
ITEM_FEATURES = "item_features.safetensors"
"""Parts of the item vectors of a model whose items have features."""
_LATER = frozenset(fields_with(ModelConfig, Mark.LATER)) - {
    "interest_decay", "positions", "position_scaling"
}  # fmt: skip
"""Settings left out of a header at their defaults, so that equal weights stay equal bytes when a
setting joins. Three joined before this was so: models have them in their headers."""
_LONGEST_HEADER = 100_000_000
"""Bytes, of the safetensors format: more is a damaged file."""
FORMAT_VERSION = 2
"""Version of the layout of a model's directory."""
CONFIG = "config.yaml"
HISTORY = "history.json"


class Model(Protocol):
    """A network that can be saved."""

    config: ModelConfig
    num_items: int

    @property
    def feature_coding(self) -> str | None:
        """Coding of item features, as JSON; None without any."""

    def state_dict(self) -> "Mapping[str, Tensor]":
        """Its weights by name."""


class MadeOfWeights(Protocol):
    """The manifest of an evaluation, of a run, or of something else made of a model."""

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the model's weights; None where an early version made it."""

    @property
    def created_at(self) -> str | None:
        """ISO time at which it was finished."""


@dataclass(frozen=True, slots=True)
class SavedModel:
    """The content of ``model.safetensors``: settings and weights, from which a model is made."""

    name: str
    """The file, for messages."""
    config: ModelConfig
    num_items: int
    weights: "dict[str, Tensor]"
    feature_coding: str | None = None
    """Coding of item features that a checkpoint's weights belong to, as JSON; None without any."""

    def unusable(self, reason: Exception) -> InputError:
        """The error for a file whose settings and weights make no model."""
        return _unusable(self.name, reason)


def weights_to_bytes(model: Model, weights: "Mapping[str, Tensor] | None" = None) -> bytes:
    """A model as a safetensors file whose header holds its configuration.

    Equal weights give equal bytes, so that `weights_hash` tells models apart and not files.

    Args:
        model: The network.
        weights: An earlier copy of its weights; None for those it has now.
    """
    import safetensors.torch  # with PyTorch

    header = {"model": json.dumps(_settings(model.config)), "num_items": str(model.num_items)}
    if model.feature_coding is not None:
        header["item_features"] = model.feature_coding
    weights = model.state_dict() if weights is None else weights
    tensors = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    return _with_sorted_header(safetensors.torch.save(tensors, header))


def _settings(config: ModelConfig) -> dict[str, object]:
    """Settings as a file has them: those of `_LATER` only where they are not the default.

    Models without them are the same bytes, and so the same weights, as before they joined.
    """
    settings = asdict(config)
    default = asdict(ModelConfig())
    return {n: v for n, v in settings.items() if n not in _LATER or v != default[n]}


def read_settings(directory: Location) -> ModelConfig:
    """Settings of a model directory's ``model.safetensors``, without reading the weights.

    Raises:
        NotFoundError: There is no ``model.safetensors``.
        InputError: It is damaged.
    """
    weights = directory / WEIGHTS
    try:
        return ModelConfig(**json.loads(_header_of(weights)["model"]))
    except FileNotFoundError:
        raise NotFoundError(f"{weights}: not found; expected a model directory") from None
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(str(weights), error) from error


def read_feature_coding(directory: Location) -> str | None:
    """Coding of the item features that a model has learned, without reading the weights.

    None where it has learned none.

    Raises:
        InputError: The file is damaged.
    """
    file = directory / ITEM_FEATURES
    try:
        return str(_header_of(file)["item_features"])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(str(file), error) from error


def _header_of(location: Location) -> dict[str, Any]:
    """The ``__metadata__`` of a safetensors file, read alone."""
    with location.open() as file:
        start = file.read(8)
        start += file.read(min(int.from_bytes(start, "little"), _LONGEST_HEADER))
    return _read_header(start)


def _with_sorted_header(content: bytes) -> bytes:
    """The same safetensors file; the library writes the entries of ``__metadata__`` in any order.

    Offsets in the header count from its end, so its length may change. The format asks for data at
    a multiple of 8 bytes; blanks fill up.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def saved_model(content: bytes, name: str) -> SavedModel:
    """The content of a safetensors file written by `weights_to_bytes`.

    Raises:
        InputError: The file is damaged or of another program; the message begins with ``name``.
    """
    import safetensors.torch  # with PyTorch

    try:
        header = _read_header(content)
        config = ModelConfig(**json.loads(header["model"]))
        num_items, coding = int(header["num_items"]), header.get("item_features")
        return SavedModel(name, config, num_items, safetensors.torch.load(content), coding)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _unusable(name, error) from error


def _unusable(name: str, reason: Exception) -> InputError:
    return InputError(
        f"{name}: not a LightSANs model of this version ({reason}); train it again, or import "
        "a RecBole checkpoint"
    )


def read_model(directory: str | os.PathLike[str] | Location) -> SavedModel:
    """The content of a model directory's ``model.safetensors``.

    Args:
        directory: Local, or the address of a store.

    Raises:
        NotFoundError: There is no ``model.safetensors``.
        InputError: It is damaged, or is not the file that the model's manifest names.
    """
    if not isinstance(directory, Location):
        directory = locate(os.fspath(directory), StorageConfig())
    weights = directory / WEIGHTS
    try:
        content = weights.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{weights}: not found; expected a model directory") from None
    manifest = read_manifest(ModelManifest, directory)
    if manifest is not None and manifest.weights_sha256 not in (None, sha256(content)):
        raise InputError(
            f"{weights}: other weights than the manifest names (weights_sha256); the model is "
            "being trained again, or the file was replaced. Run the command again, or train --force"
        )
    return saved_model(content, str(weights))


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
    manifest = require_manifest(ModelManifest, directory, "train the model first")
    return manifest.weights_sha256 or sha256((directory / WEIGHTS).read_bytes())


def require_weights(model: Location, sha256: str) -> None:
    """Return only if a model still has the weights that a stage began with.

    Raises:
        InputError: It was trained again meanwhile.
    """
    if weights_hash(model) != sha256:
        raise InputError(
            f"{model}: the model was trained again meanwhile and has other weights; run the same "
            "command again"
        )


def is_made_of(result: MadeOfWeights, directory: Location) -> bool:
    """Whether a result was made of the weights that a model has now.

    A result without ``weights_sha256`` was made by an earlier version: it counts if the model was
    trained by one too, and before it.

    Args:
        result: The result made of the model.
        directory: The finished model.
    """
    if result.weights_sha256 is not None:
        return result.weights_sha256 == weights_hash(directory)
    model = require_manifest(ModelManifest, directory, "train the model first")
    return model.weights_sha256 is None and (model.created_at or "") <= (result.created_at or "9")


def tensors_to_bytes(tensors: "dict[str, Tensor]") -> bytes:
    """Named tensors as a safetensors file."""
    import safetensors.torch  # with PyTorch

    return safetensors.torch.save({name: tensor.cpu() for name, tensor in tensors.items()})


def tensors_from_bytes(content: bytes) -> "dict[str, Tensor]":
    """The named tensors of a safetensors file."""
    import safetensors.torch  # with PyTorch

    tensors: dict[str, Tensor] = safetensors.torch.load(content)
    return tensors


def _read_header(content: bytes) -> dict[str, Any]:
    """The ``__metadata__`` of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])["__metadata__"]
    return header
