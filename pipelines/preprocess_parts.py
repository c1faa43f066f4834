"""Writing a part of ``interactions/``: its file, and a note that makes it count."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.interactions import count_exact_duplicates, save_interactions
from lightsans.schema import part_name
from lightsans.storage import Location

MARKER = "interactions.json"
"""Written when ``interactions/`` is complete: a later attempt goes on from there."""

WORK = "_work"
"""Notes of the tasks, inside the dataset while it is made."""
PART_NOTE = "part-"

PART_STATS = ("part", "rows", "exact_duplicates", "oldest", "newest", "erased", "linked")
"""What is known of a part: its number, its rows and their time range, rows of a base that were
erased, and 1 where its file is that of a base."""


def write_part(dataset: Location, number: int, rows: pa.Table, erased: int = 0) -> dict[str, Any]:
    """Write one part of sorted interactions, and the note that it is finished; its `PART_STATS`."""
    if rows.num_rows:  # else all users of a base's part were erased
        save_interactions(dataset / "interactions" / part_name(number), rows)
    times = pc.min_max(rows["timestamp"]).as_py()
    stats = {
        "part": number,
        "rows": rows.num_rows,
        "exact_duplicates": count_exact_duplicates(rows),
        "oldest": times["min"] or 0,
        "newest": times["max"] or 0,
        "erased": erased,
        "linked": 0,
    }
    note_part(dataset, stats)
    return stats


def note_part(dataset: Location, stats: dict[str, Any]) -> None:
    """Note that a part is finished."""
    (dataset / WORK / f"{PART_NOTE}{stats['part']:05d}.json").write_json(stats)
