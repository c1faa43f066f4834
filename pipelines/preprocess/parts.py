"""Writing a part of ``interactions/``: its file, and a note that makes it count."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.preparation.layers import load_part
from lightsans.preparation.part_files import save_interactions
from lightsans.storage.location import Location
from lightsans.storage.parts import layer_name, part_name

FORMAT_VERSION = 2
"""Raised whenever the same input and settings would give another dataset, or other notes on it."""

MARKER = "interactions.json"
"""Written when ``interactions/`` is complete: a later attempt goes on from there."""

WORK = "_work"
"""Notes of the tasks, inside the dataset while it is made."""
PART_NOTE = "part-"

PART_STATS = ("part", "layers", "rows", "oldest", "newest", "erased", "linked")
"""What is known of a part: its number, how many files it has, its rows and their time range, rows
of a base that were erased, and 1 where all its rows are those of a base."""


class Part(NamedTuple):
    """A part of ``interactions/``."""

    number: int
    layers: int
    """Files that it has."""

    @classmethod
    def of(cls, stats: dict[str, Any]) -> "Part":
        """The part that some `PART_STATS` are about."""
        return cls(int(stats["part"]), int(stats["layers"]))

    def files(self, dataset: Location) -> list[Location]:
        """Those files, in the order in which their rows were added."""
        names = [layer_name(self.number, layer) for layer in range(self.layers)]
        return [dataset / "interactions" / name for name in names]

    def load(self, dataset: Location, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows: `load_part`."""
        return load_part(self.files(dataset), columns)


def write_part(dataset: Location, number: int, rows: pa.Table, erased: int = 0) -> dict[str, Any]:
    """Write one part of sorted interactions, and the note that it is finished; its `PART_STATS`."""
    if rows.num_rows:  # else all users of a base's part were erased
        save_interactions(dataset / "interactions" / part_name(number), rows)
    oldest, newest = time_range(rows)
    stats = {
        "part": number,
        "layers": 1,
        "rows": rows.num_rows,
        "oldest": oldest,
        "newest": newest,
        "erased": erased,
        "linked": 0,
    }
    note_part(dataset, stats)
    return stats


def time_range(rows: pa.Table) -> tuple[int, int]:
    """Least and greatest time of some interactions; 0 and 0 of none."""
    times = pc.min_max(rows["timestamp"]).as_py()
    return times["min"] or 0, times["max"] or 0


def note_part(dataset: Location, stats: dict[str, Any]) -> None:
    """Note that a part is finished."""
    (dataset / WORK / f"{PART_NOTE}{stats['part']:05d}.json").write_json(stats)
