"""Files inside datasets and models: items, metrics, parts and their layers."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from lightsans.errors import InputError
from lightsans.storage.location import Location, require_damage
from lightsans.storage.manifest_kinds import DatasetManifest, ModelMetrics
from lightsans.storage.records import from_json

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


def sequence_parts(dataset: Location, manifest: DatasetManifest) -> list[Location]:
    """The sequence files that a dataset's manifest lists."""
    return [dataset / "sequences" / part.name for part in manifest.parts]
