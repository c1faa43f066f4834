"""RecBole's checkpoint files, read without running anything that they name.

A ``.pth`` file of RecBole is a zip archive with a pickle that holds, besides the weights, its whole
``Config`` object. ``torch.load(weights_only=True)`` cannot read it (RecBole writes pickle protocol
4, and the Config's classes would have to be imported); without ``weights_only``, reading a file
would run whatever its author wrote into it. Here every class or function that a pickle names
becomes an inert stand-in, so nothing is imported and nothing is called, whatever the file says.

Source: RecBole 1.2.1, recbole/trainer/trainer.py, ``_save_checkpoint``; the archive is that of
``torch.save`` since PyTorch 1.6.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from lightsans.errors import InputError

_DTYPES: Final = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}


@dataclass(frozen=True, slots=True)
class RecBoleCheckpoint:
    """Content of a checkpoint that describes the model."""

    state_dict: dict[str, Tensor]
    settings: dict[str, Any]
    """RecBole's configuration, as far as it consists of plain values; empty for bare weights."""
    epoch: int
    """Number of the last epoch, from 0; -1 when the file does not say."""


def read_checkpoint(content: bytes, name: str) -> RecBoleCheckpoint:
    """The weights and settings in a ``.pth`` file: a checkpoint of RecBole, or a bare state dict.

    Args:
        content: The file.
        name: Name of the file, for errors.

    Raises:
        InputError: It is damaged, holds no weights, or is older than PyTorch 1.6.
    """
    try:
        loaded = _unpickle(content)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{name}: cannot be read as a PyTorch file ({error}); give the .pth file that RecBole "
            "saved, or write it again with a newer PyTorch: torch.save(torch.load(FILE), FILE)"
        ) from error
    found = loaded if isinstance(loaded, dict) else {}
    weights = found.get("state_dict", found)
    if not isinstance(weights, dict) or not weights or not _are_tensors(weights):
        raise InputError(
            f"{name}: holds no weights; expected a dict with 'state_dict', or a dict of tensors, "
            f"found {type(loaded).__name__} {sorted(map(str, found))[:5]}"
        )
    epoch = found.get("epoch")
    return RecBoleCheckpoint(
        dict(weights), _plain_settings(found.get("config")), epoch if type(epoch) is int else -1
    )


class _Inert:
    """Stands for an object of a class that is not imported: keeps its state and does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return type(name, (_Inert,), {})  # a class of its own: what a pickle does to it stays there

    def persistent_load(self, key: Any, /) -> Tensor:
        kind, dtype, number, _device, size = key
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown kind of data {kind!r} {dtype!r}")
        if size == 0:
            return torch.empty(0, dtype=dtype)
        content = bytearray(self._archive.read(f"{self._folder}/data/{number}"))
        return torch.frombuffer(content, dtype=dtype, count=size)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return storage.as_strided(size, stride, offset).clone()


def _rebuild_parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _unpickle(content: bytes) -> object:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        folders = [n.removesuffix("/data.pkl") for n in names if n.endswith("/data.pkl")]
        if len(folders) != 1:
            raise pickle.UnpicklingError("there is no data.pkl in it")
        order = f"{folders[0]}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise pickle.UnpicklingError("its numbers are not little-endian")
        return _Unpickler(archive, folders[0]).load()


def _are_tensors(weights: Mapping[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items())


def _plain_settings(config: object) -> dict[str, Any]:
    """The plain values of a ``Config`` object's dict, or of a dict that stands in its place."""
    values = getattr(config, "final_config_dict", config)
    if not isinstance(values, dict):
        return {}
    return {
        key: value
        for key, value in values.items()
        if isinstance(key, str) and isinstance(value, str | int | float | bool | list | None)
    }
