"""Files inside datasets and models: items, metrics, parts and their layers."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.errors import InputError
from lightsans.storage.location import Location, require_damage
from lightsans.storage.manifest_kinds import DatasetManifest, DatasetPart, ModelMetrics, RunFile
from lightsans.storage.records import from_json
from lightsans.storage.schemas import FINGERPRINT

ITEMS = "items.parquet"
"""The vocabulary of a dataset or model."""
ITEM_FEATURES = "item_features.parquet"
"""Features of a dataset's items, a row for each in the order of their ids."""
METRICS = "metrics.json"
"""Metrics of a model by split."""


@contextmanager
def readable_part(file: Location) -> Iterator[None]:
    """Let a part that cannot be read within the block be an error that names it.

    Raises:
        InputError: The file is gone or damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            f"{file}: the file is gone; make the result that it belongs to again"
        ) from None
    except (pa.ArrowException, OSError) as error:
        require_damage(error)
        reason = str(error).rstrip(".")
        raise InputError(
            f"{file}: not a readable parquet file ({reason}); it is damaged: make the result that "
            "it belongs to again"
        ) from None


def part_name(index: int) -> str:
    """File name of one part of a dataset or a recommendation run."""
    return f"part-{index:05d}.parquet"


def layer_name(part: int, layer: int) -> str:
    """File name of a layer of a part of the interactions: layer 0 has the name of the part."""
    return part_name(part) if layer == 0 else f"part-{part:05d}-{layer:03d}.parquet"


def part_index(name: str) -> int:
    """The number in a `part_name`."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def read_metrics(model: Location) -> ModelMetrics:
    """The metrics of a finished model.

    Raises:
        InputError: The file is missing or damaged.
    """
    file = model / METRICS
    try:
        return from_json(ModelMetrics, file.read_json(), str(file))
    except FileNotFoundError:
        raise InputError(f"{file}: the file is gone; train the model again") from None


@dataclass(frozen=True, slots=True)
class SequencePart(Location):
    """A file of ``sequences/`` that is read only while it is the one that the manifest lists."""

    users: int
    fingerprint: str
    """`fingerprint_part` of its content."""

    @classmethod
    def of(cls, dataset: Location, part: DatasetPart) -> "SequencePart":
        """One of the parts that the manifest of a dataset lists."""
        file = dataset / "sequences" / part.name
        return cls(file.uri, file.storage, part.users, part.fingerprint)

    def open(self) -> IO[bytes]:
        """The open file.

        Raises:
            InputError: It is gone or damaged, or holds other users or sequences than when the
                dataset was made.
        """
        with readable_part(self):
            # A class with slots is made twice, which super() cannot know.
            opened = Location.open(self)
            self._require_same(opened)
        opened.seek(0)
        return opened

    def _require_same(self, opened: IO[bytes]) -> None:
        # The column takes 8 bytes a user: little beside the sequences that are read next.
        content = pq.ParquetFile(opened)
        if content.metadata.num_rows == self.users and FINGERPRINT in content.schema_arrow.names:
            found = fingerprint_part(content.read([FINGERPRINT]))
            if f"{found:016x}" == self.fingerprint:
                return
        raise InputError(
            f"{self}: another file than the dataset was made with (fingerprint of its users' "
            "sequences); it was replaced: put the right one back, or make the dataset again with "
            "--force"
        )


@dataclass(frozen=True, slots=True)
class ListedFile(Location):
    """A file of a run that is read only while it is the one that the manifest lists."""

    sha256: str

    @classmethod
    def of(cls, run: Location, listed: RunFile) -> "ListedFile":
        """One of the files that the manifest of a run lists."""
        file = run / listed.path
        return cls(file.uri, file.storage, listed.sha256)

    def open(self) -> IO[bytes]:
        """The whole content, in memory: readers decode some rows of it at a time.

        Raises:
            InputError: It is not the content that was written.
        """
        with Location.open(self) as opened:
            content = opened.read()
        if hashlib.sha256(content).hexdigest() == self.sha256:
            return io.BytesIO(content)
        raise InputError(
            f"{self}: another file than the run's manifest lists (sha256); it was replaced or "
            "damaged: put the right one back, or write the run anew with `submit.py score --force`"
        )


def fingerprint_part(sequences: pa.Table) -> int:
    """A sum over users: parts add up to the same, however users are cut into parts."""
    return int(np.sum(sequences[FINGERPRINT].to_numpy(), dtype=np.uint64))


def sequence_part(dataset: Location, manifest: DatasetManifest, name: str) -> SequencePart:
    """The sequence file of one part that a dataset's manifest lists."""
    found = next(part for part in manifest.parts if part.name == name)
    return SequencePart.of(dataset, found)


def sequence_parts(dataset: Location, manifest: DatasetManifest) -> list[SequencePart]:
    """The sequence files that a dataset's manifest lists."""
    return [SequencePart.of(dataset, part) for part in manifest.parts]
