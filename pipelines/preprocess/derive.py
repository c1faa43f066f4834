"""Third step of preprocessing: ``interactions/`` and the vocabulary -> ``sequences/``.

Part by part, without an exchange, from the numbers that were counted. Parts that an earlier
attempt has written stay.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow.compute as pc
import ray

from lightsans.columns.hashing import bucket_range
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.preparation.derive import derive_sequences, fingerprint_part
from lightsans.preparation.part_files import save_sequences
from lightsans.storage.location import Location
from lightsans.storage.parts import part_name
from pipelines.preprocess.base import UnchangedSequences
from pipelines.preprocess.k_core import Filters, LoadedPart
from pipelines.preprocess.parts import WORK, Part
from pipelines.session.merge_tree import Ref
from pipelines.session.tasks import remote, run_tasks


def write_sequences(
    dataset: Location,
    parts: Mapping[Part, Ref],
    filters: Filters,
    num_parts: int,
    vocabulary: Vocabulary,
    unchanged: UnchangedSequences | None = None,
) -> list[dict[str, Any]]:
    """Write ``sequences/``; a description of each part, for the manifest and the report.

    Args:
        dataset: Its directory.
        parts: Where the `LoadedPart` of each is.
        filters: Those that it was loaded with.
        num_parts: Of the dataset; some may have no rows.
        vocabulary: Its items.
        unchanged: What can be taken over of a base.
    """
    function = partial(write_sequence_part, dataset=dataset, filters=filters, unchanged=unchanged)
    write = remote(function)
    shared, fingerprint = ray.put(vocabulary), vocabulary.fingerprint

    def submit(part: Part) -> Ref:
        return write.remote(part.number, parts[part], shared, fingerprint)

    stats = list(run_tasks(submit, list(parts), "preprocess: sequences"))
    for part in stats:
        part["buckets"] = list(bucket_range(part.pop("part"), num_parts))
    return sorted(stats, key=lambda part: str(part["name"]))


def write_sequence_part(
    part: int,
    loaded: LoadedPart,
    vocabulary: Vocabulary,
    vocabulary_fingerprint: str,
    *,
    dataset: Location,
    filters: Filters,
    unchanged: UnchangedSequences | None,
) -> dict[str, Any]:
    """Write the sequences of a part, or find them written with these items; what they are."""
    note = dataset / WORK / f"sequences-{part:05d}.json"
    if note.exists():
        content = note.read_json()
        if content["vocabulary"] == vocabulary_fingerprint:
            found: dict[str, Any] = content["part"]
            return found
    rows = loaded.rows
    target = dataset / "sequences" / part_name(part)
    if unchanged is not None and unchanged.holds(part, rows.raw_item_ids):
        unchanged.location(part).copy_to(target)
        table, num_rows = target.read_table(), unchanged.num_rows(part)
    else:
        table = derive_sequences(
            rows,
            vocabulary,
            filters.data.min_user_interactions,
            filters.retention,
            filters.cutoffs,
        )
        save_sequences(target, table)
        num_rows = len(rows.item)
    lengths = pc.list_value_length(table["item_ids"]).to_numpy()
    num_trainable = int(pc.sum(table["trainable"]).as_py() or 0)
    stats = {
        "part": part,
        "name": part_name(part),
        "rows": num_rows,
        "users": table.num_rows,
        "trainable": num_trainable,
        "interactions": int(lengths.sum()),
        "fingerprint": f"{fingerprint_part(table):016x}",
        "report": loaded.report.with_sequences(lengths, num_trainable).to_dict(),
    }
    note.write_json({"vocabulary": vocabulary_fingerprint, "part": stats})
    return stats
