"""Third step of preprocessing: ``interactions/`` and the vocabulary -> ``sequences/``.

Part by part, without an exchange, from the numbers that were counted. Parts that an earlier
attempt has written stay.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow.compute as pc
import ray

from lightsans.arrays import Int64
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.preparation.part_files import save_sequences
from lightsans.stages.filters import Filters, LoadedPart, targets_by_item
from lightsans.storage.location import Location
from lightsans.storage.parts import fingerprint_part, part_name
from pipelines.preprocess.base import UnchangedSequences
from pipelines.preprocess.cutoffs import add_counts
from pipelines.preprocess.parts import Draft, Part, largest
from pipelines.preprocess.records import SequencesNote
from pipelines.session.ray_session import original_errors
from pipelines.session.tasks import Ref, merge_all, remote, run_tasks


def write_sequences(
    draft: Draft,
    parts: Mapping[Part, Ref],
    filters: Filters,
    vocabulary: Vocabulary,
    unchanged: UnchangedSequences | None = None,
) -> list[SequencesNote]:
    """Write ``sequences/``; the notes of its parts, in order.

    Args:
        draft: The dataset.
        parts: Where the `LoadedPart` of each is.
        filters: Filters that it was loaded with.
        vocabulary: Its items.
        unchanged: Sequences that can be taken over from a base.
    """
    function = partial(write_sequence_part, draft=draft, filters=filters, unchanged=unchanged)
    write = remote(function, size=largest(parts))
    shared, fingerprint = ray.put(vocabulary), vocabulary.fingerprint
    noted = draft.sequences_notes()

    def submit(part: Part) -> Ref:
        is_noted = part.number in noted
        return write.remote(part.number, parts[part], shared, fingerprint, is_noted)

    notes: list[SequencesNote] = list(run_tasks(submit, list(parts), "preprocess: sequences"))
    return sorted(notes, key=lambda note: note.number)


def write_sequence_part(
    part: int,
    loaded: LoadedPart,
    vocabulary: Vocabulary,
    vocabulary_fingerprint: str,
    is_noted: bool,
    *,
    draft: Draft,
    filters: Filters,
    unchanged: UnchangedSequences | None,
) -> SequencesNote:
    """Write the sequences of a part, or find them written with these items."""
    found = draft.read_sequences_note(part, vocabulary_fingerprint) if is_noted else None
    if found is not None:
        return found
    rows = loaded.rows
    target = draft.dataset / "sequences" / part_name(part)
    if unchanged is not None and unchanged.holds(part, rows.raw_item_ids):
        unchanged.location(part).copy_to(target)
        table, num_rows = target.read_table(), unchanged.num_rows(part)
    else:
        table = filters.derive(rows, vocabulary)
        save_sequences(target, table)
        num_rows = len(rows.item)
    lengths = pc.list_value_length(table["item_ids"]).to_numpy()
    num_trainable = int(pc.sum(table["trainable"]).as_py() or 0)
    note = SequencesNote(
        number=part,
        rows=num_rows,
        users=table.num_rows,
        trainable=num_trainable,
        interactions=int(lengths.sum()),
        fingerprint=f"{fingerprint_part(table):016x}",
        report=loaded.report.with_sequences(lengths, num_trainable),
    )
    draft.note_sequences(note, vocabulary_fingerprint)
    return note


def count_targets(
    draft: Draft, notes: Sequence[SequencesNote], vocabulary: Vocabulary
) -> Vocabulary:
    """The vocabulary of a log with events with how often each item is a target for training.

    Under leave-one-out these are all targets, as all interactions count without events.
    """
    count, add = remote(count_part_targets), remote(add_counts)
    counted = (count.remote(draft.dataset, note.name, vocabulary.num_items) for note in notes)
    with original_errors():
        counts: Any = ray.get(merge_all(add, counted))
    return vocabulary.with_counts(counts)


def count_part_targets(dataset: Location, name: str, num_items: int) -> Int64:
    """`targets_by_item` of a part."""
    sequences = (dataset / "sequences" / name).read_table(["target_ids", "train_targets"])
    return targets_by_item(sequences, num_items)
