"""The model of a scoring run: loaded once, and in memory once per machine.

A task loads it and returns it packed: a few objects, and beside them its arrays, which actors on
the same machine map out of Ray's object store instead of copying them. As the result of a task it
is made anew when the machine that holds it dies.
"""

import io
import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import UInt8
from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import InputError
from lightsans.recommendations.beside import (
    Beside,
    beside_identity,
    read_beside,
    require_known_items,
)
from lightsans.recommendations.item_choice import ItemChoice
from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.rule_tables import RecentCounts
from lightsans.recommendations.segment import Segment, read_segment, segment_identity
from lightsans.stages.list_maker import load_list_maker
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, RunQuestion
from lightsans.storage.manifests import require_manifest
from lightsans.storage.schemas import id_type


@dataclass(frozen=True, slots=True)
class Shared:
    """Data that all scoring processes need."""

    list_maker: ListMaker
    segment: Segment | None
    """The only users to score."""
    beside: Beside | None = None
    """Columns that are written beside lists."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An object whose arrays lie beside it, where Ray leaves them in shared memory."""

    content: bytes
    buffers: list[UInt8]


def load_shared(
    config: RunConfig,
    dataset: Location,
    model: Location,
    question: RunQuestion,
    choice: ItemChoice,
    recent: RecentCounts | None,
) -> Packed:
    """Load what all scoring processes need.

    Args:
        config: The run.
        dataset: The dataset.
        model: The model.
        question: The question that they answer.
        choice: Lists and rules of items, as read.
        recent: Interactions of each item in the newest days, by ``score.recent_days``; None where
            no list is made.

    Raises:
        InputError: The list of users, or a table, changed since ``question`` was asked, or is
            unreadable.
    """
    manifest = require_manifest(DatasetManifest, dataset, "make it again")
    segment = None
    if config.score.users is not None:
        segment = read_segment(config, id_type(manifest.user_id_type))
        # What was read is what the question names: files that were replaced are others.
        if segment_identity(config, manifest.data) != question.segment:
            raise InputError(
                f"score.users: {config.score.users} changed meanwhile; run the same command again"
            )
    beside = read_beside(config)
    if beside is not None:
        if beside_identity(config, manifest.data) != question.settings.get("beside"):
            raise InputError(
                "score.item_table or score.user_table changed meanwhile; run the same command again"
            )
        require_known_items(beside, load_vocabulary(dataset), config)
    list_maker = load_list_maker(config, dataset, model, question.map_items, choice, recent)
    return pack(Shared(list_maker, segment, beside))


def pack(shared: Shared) -> Packed:
    """Take an object apart into a few bytes and its arrays."""
    buffers: list[UInt8] = []
    content = io.BytesIO()
    pickler = _Pickler(
        content, 5, buffer_callback=lambda b: buffers.append(np.frombuffer(b.raw(), np.uint8))
    )
    pickler.dump(shared)
    return Packed(content.getvalue(), buffers)


def unpack(packed: Packed) -> Shared:
    """Put it together again around the arrays where they are: they cannot be written to."""
    shared = pickle.loads(packed.content, buffers=packed.buffers)
    assert isinstance(shared, Shared)
    return shared


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays: of those, but not of tensors, the content can stay outside."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._memory: dict[int, UInt8] = {}

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        storage = value.untyped_storage()
        # Views of the same memory, such as the item table without its padding, stay so.
        if storage.data_ptr() not in self._memory:
            whole = torch.empty(0, dtype=torch.uint8).set_(storage)
            self._memory[storage.data_ptr()] = whole.numpy()
        view = (value.dtype, tuple(value.shape), value.stride(), value.storage_offset())
        return _to_tensor, (self._memory[storage.data_ptr()], *view, type(value))


def _to_tensor(
    memory: UInt8,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
    kind: type[Tensor],
) -> Tensor:
    with warnings.catch_warnings():
        # That it cannot be written to is the point.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        whole = torch.from_numpy(memory)
    tensor = whole.view(dtype).as_strided(shape, stride, offset)
    if kind is torch.nn.Parameter:
        return torch.nn.Parameter(tensor, requires_grad=False)
    return tensor
