"""Write parts of a dataset under the lease of its maker: a file, then a note that makes it count.

What a part holds is decided by the dataset's id, so an owner may adopt parts that an earlier one
has finished. A worker whose driver was killed or lost the lease writes no more notes, and a note
counts only while its files have the sizes that it names.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.errors import InputError
from lightsans.preparation.layers import load_part
from lightsans.preparation.part_files import save_interactions
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import layer_name, part_name
from lightsans.storage.records import read_object
from pipelines.preprocess.records import Interactions, PartNote, SequencesNote
from pipelines.session.lease import Owner

FORMAT_VERSION = 3
"""Raised whenever the same input and settings would give another dataset, or other notes on it."""

EVENTS_VERSION = 4
"""The same of datasets with events (`data.events`), whose rows and sequences hold more."""


def format_version(events: Mapping[str, object] | None) -> int:
    """The version of the format that a dataset with these events, or none, is written in."""
    return EVENTS_VERSION if events else FORMAT_VERSION


def format_here(manifest: DatasetManifest) -> int:
    """The version that this release writes such a dataset in; another one made it if it differs."""
    return format_version(manifest.data.get("events"))


MARKER = "interactions.json"
"""Written when ``interactions/`` is complete: a later attempt goes on from there."""

WORK = "_work"
"""Notes of the tasks, inside the dataset while it is made."""
PART_NOTE, SEQUENCES_NOTE = "part-", "sequences-"
USUAL_ROWS = 2**20
"""Rows of a part of the usual size: about 64 MB of text."""
READERS = 16
"""Threads that read notes."""


class Part(NamedTuple):
    """A part of ``interactions/``."""

    number: int
    layers: int
    """Files that it has."""
    rows: int
    times: tuple[int, int]
    """Least and greatest time of its rows."""

    @classmethod
    def of(cls, note: PartNote) -> "Part":
        """The part that a note is about."""
        return cls(note.number, note.layers, note.rows, (note.oldest, note.newest))

    def files(self, dataset: Location) -> list[Location]:
        """Files of the part, in the order in which their rows were added."""
        names = [layer_name(self.number, layer) for layer in range(self.layers)]
        return [dataset / "interactions" / name for name in names]

    def load(self, dataset: Location, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows, by `load_part`; columns must hold the times.

        Raises:
            InputError: They are not those that were counted when the part was written.
        """
        rows = load_part(self.files(dataset), columns)
        if rows.num_rows != self.rows or time_range(rows) != self.times:
            raise InputError(
                f"{self.files(dataset)[0]}: other rows than the dataset was made with (number and "
                "times); the file was replaced: put the right one back, or make the dataset again "
                "with --force"
            )
        return rows


@dataclass(frozen=True, slots=True)
class Draft:
    """A dataset that is being made, and who makes it."""

    dataset: Location
    owner: Owner

    @property
    def work(self) -> Location:
        """The directory of the notes."""
        return self.dataset / WORK

    def note(self, name: str, content: dict[str, Any]) -> None:
        """Write a note.

        Raises:
            LeaseError: Another process makes the dataset by now.
        """
        self.owner.require()
        (self.work / f"{name}.json").write_json(content)

    def write_part(
        self, number: int, rows: pa.Table, erased: int = 0, erased_users: tuple[int, ...] = ()
    ) -> PartNote:
        """Write a part of sorted interactions, and the note that it is finished.

        Args:
            number: Number of the part.
            rows: All its rows; none when all users of a base's part were erased.
            erased: How many rows were erased.
            erased_users: Places of their users in the list of users to leave out.
        """
        if rows.num_rows:
            save_interactions(self.dataset / "interactions" / part_name(number), rows)
        times = time_range(rows)
        part = PartNote(number, 1, rows.num_rows, *times, erased=erased, erased_users=erased_users)
        self.note_part(part)
        return part

    def note_part(self, part: PartNote) -> None:
        """Note that a part is finished, with the sizes of its files."""
        files = Part.of(part).files(self.dataset) if part.rows else []
        sizes = [file.info().size for file in files]
        self.note(f"{PART_NOTE}{part.number:05d}", {**part.to_json(), "sizes": sizes})

    def finished_parts(self) -> list[PartNote]:
        """Parts that an earlier attempt has written, as far as their files are there.

        Whatever else it left in ``interactions/`` and beside it is deleted.
        """
        names = [name for name in self.work.children() if name.startswith(PART_NOTE)]
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self._read_part_note, names))
        finished = [part for part in found if part is not None]
        trusted = {name for name, part in zip(names, found, strict=True) if part is not None}
        kept = {
            file.name
            for part in finished
            if part.rows
            for file in Part.of(part).files(self.dataset)
        }
        for name in set((self.dataset / "interactions").children()) - kept:
            (self.dataset / "interactions" / name).delete()
        for name in set(self.work.children()) - trusted:
            (self.work / name).delete()
        for leftover in ("rejects", "sequences"):
            (self.dataset / leftover).delete()
        return finished

    def _read_part_note(self, name: str) -> PartNote | None:
        content = (self.work / name).read_json()
        part = PartNote.from_json(content)
        files = Part.of(part).files(self.dataset) if part.rows else []
        sizes = [_size(file) for file in files]
        return part if sizes == content.get("sizes") else None

    def read_marker(self) -> Interactions | None:
        """A complete ``interactions/``; None while it is not, or where files of it are missing."""
        try:
            content = (self.dataset / MARKER).read_json()
        except FileNotFoundError:
            return None
        if content.get("id") != self.dataset.name:  # copied here from elsewhere
            return None
        made = read_object(Interactions.from_json, content, str(self.dataset / MARKER))
        there = set((self.dataset / "interactions").children())
        names = {file.name for part in made.parts for file in Part.of(part).files(self.dataset)}
        return made if names <= there else None

    def write_marker(self, made: Interactions) -> None:
        """Note that ``interactions/`` is complete."""
        self.owner.require()
        (self.dataset / MARKER).write_json(made.to_json(self.dataset.name))

    def note_sequences(self, part: SequencesNote, vocabulary: str) -> None:
        """Note that the sequences of a part are finished.

        Args:
            part: Part that they make up.
            vocabulary: Fingerprint of the items that they were derived with.
        """
        size = (self.dataset / "sequences" / part.name).info().size
        content = {"vocabulary": vocabulary, "part": part.to_json(), "size": size}
        self.note(f"{SEQUENCES_NOTE}{part.number:05d}", content)

    def sequences_notes(self) -> set[int]:
        """Numbers of the parts whose sequences an earlier attempt has noted, by one listing."""
        names = [name for name in self.work.children() if name.startswith(SEQUENCES_NOTE)]
        return {int(name.removeprefix(SEQUENCES_NOTE).removesuffix(".json")) for name in names}

    def read_sequences_note(self, number: int, vocabulary: str) -> SequencesNote | None:
        """The noted sequences of a part; None where they are not there, or of other items."""
        content = (self.work / f"{SEQUENCES_NOTE}{number:05d}.json").read_json()
        file = self.dataset / "sequences" / part_name(number)
        if content["vocabulary"] != vocabulary or content.get("size") != _size(file):
            return None
        return SequencesNote.from_json(content["part"])


def read_marker(dataset: Location) -> Interactions:
    """Read what a finished dataset was made of.

    Raises:
        InputError: The file that says it is missing or damaged.
    """
    file = dataset / MARKER
    try:
        return read_object(Interactions.from_json, file.read_json(), str(file))
    except FileNotFoundError:
        raise InputError(f"{file}: the file is gone; make the dataset again") from None


def largest(parts: Iterable[Part]) -> float:
    """Size of the largest part, where 1 is the usual one: what `task_memory` asks for."""
    return max((part.rows for part in parts), default=0) / USUAL_ROWS


def time_range(rows: pa.Table) -> tuple[int, int]:
    """Least and greatest time of some interactions; 0 and 0 of none."""
    times = pc.min_max(rows["timestamp"]).as_py()
    return times["min"] or 0, times["max"] or 0


def _size(file: Location) -> int | None:
    return file.info().size if file.exists() else None
