"""File names inside datasets and models: items, metrics, parts and their layers."""

from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest

ITEMS = "items.parquet"
"""The vocabulary of a dataset or model."""
METRICS = "metrics.json"
"""Metrics of a model by split."""


def part_name(index: int) -> str:
    """File name of one part of a dataset or a recommendation run."""
    return f"part-{index:05d}.parquet"


def layer_name(part: int, layer: int) -> str:
    """File name of a layer of a part of the interactions: layer 0 has the name of the part."""
    return part_name(part) if layer == 0 else f"part-{part:05d}-{layer:03d}.parquet"


def part_index(name: str) -> int:
    """The number in a `part_name`."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def sequence_parts(dataset: Location, manifest: DatasetManifest) -> list[Location]:
    """The sequence files that a dataset's manifest lists."""
    return [dataset / "sequences" / part.name for part in manifest.parts]
