"""Third step of preprocessing: ``interactions/`` and the vocabulary -> ``sequences/``.

Part by part, without an exchange. Parts that an earlier attempt has written stay.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow.compute as pc
import ray

from lightsans.data_report import PartReport
from lightsans.hashing import bucket_range
from lightsans.interactions import (
    derive_sequences,
    fingerprint_part,
    load_interactions,
    save_sequences,
    user_offsets,
)
from lightsans.schema import part_name
from lightsans.storage import Location
from lightsans.vocabulary import Vocabulary
from pipelines.preprocess_base import UnchangedSequences
from pipelines.preprocess_core import Filters
from pipelines.preprocess_parts import WORK
from pipelines.preprocess_tasks import remote, run_tasks

_COLUMNS = ("user_id", "raw_item_id", "timestamp", "rating")


def write_sequences(
    dataset: Location,
    parts: Sequence[int],
    filters: Filters,
    num_parts: int,
    vocabulary: Vocabulary,
    time_range: tuple[int, int],
    unchanged: UnchangedSequences | None = None,
) -> list[dict[str, Any]]:
    """Write ``sequences/``; a description of each part, for the manifest and the report."""
    write = remote(
        partial(
            write_sequence_part,
            dataset=dataset,
            filters=filters,
            time_range=time_range,
            unchanged=unchanged,
        )
    )
    shared = ray.put(vocabulary)
    fingerprint = vocabulary.fingerprint
    stats = list(
        run_tasks(
            lambda part: write.remote(part, shared, fingerprint), parts, "preprocess: sequences"
        )
    )
    for part in stats:
        part["buckets"] = list(bucket_range(part.pop("part"), num_parts))
    return sorted(stats, key=lambda part: str(part["name"]))


def write_sequence_part(
    part: int,
    vocabulary: Vocabulary,
    vocabulary_fingerprint: str,
    *,
    dataset: Location,
    filters: Filters,
    time_range: tuple[int, int],
    unchanged: UnchangedSequences | None,
) -> dict[str, Any]:
    """Write the sequences of a part, or find them written with these items; what they are."""
    note = dataset / WORK / f"sequences-{part:05d}.json"
    if note.exists():
        content = note.read_json()
        if content["vocabulary"] == vocabulary_fingerprint:
            found: dict[str, Any] = content["part"]
            return found
    rows = load_interactions(dataset / "interactions" / part_name(part), _COLUMNS)
    target = dataset / "sequences" / part_name(part)
    if unchanged is not None and unchanged.holds(part, rows["raw_item_id"]):
        unchanged.location(part).copy_to(target)
        table, num_rows = target.read_table(), unchanged.num_rows(part)
    else:
        selected = filters.select(rows)
        table = derive_sequences(
            selected,
            vocabulary,
            filters.data.min_user_interactions,
            filters.retention,
            filters.cutoffs,
        )
        save_sequences(target, table)
        num_rows = len(selected.item)
    lengths = pc.list_value_length(table["item_ids"]).to_numpy()
    num_trainable = int(pc.sum(table["trainable"]).as_py() or 0)
    times = rows["timestamp"].to_numpy()
    report = PartReport.of(user_offsets(rows), times, lengths, num_trainable, time_range)
    stats = {
        "part": part,
        "name": part_name(part),
        "rows": num_rows,
        "users": table.num_rows,
        "trainable": num_trainable,
        "interactions": int(lengths.sum()),
        "fingerprint": f"{fingerprint_part(table):016x}",
        "report": report.to_dict(),
    }
    note.write_json({"vocabulary": vocabulary_fingerprint, "part": stats})
    return stats
