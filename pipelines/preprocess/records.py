"""Typed records of a dataset: notes on its parts while it is made, and what was read for it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from lightsans.reading.rejects import RowCounts
from lightsans.reports.dataset_figures import PartReport
from lightsans.storage.manifest_kinds import DatasetPart
from lightsans.storage.parts import part_name


@dataclass(frozen=True, slots=True)
class PartNote:
    """A finished part of ``interactions/``."""

    number: int
    layers: int
    """Files that it has."""
    rows: int
    oldest: int
    """Least time of its rows; 0 when it has none."""
    newest: int
    erased: int = 0
    """Rows of the base's part that were erased."""
    is_linked: bool = False
    """All its rows are those of the base's part."""
    erased_users: tuple[int, ...] = ()
    """Places, among the users to leave out, of those whose rows were erased."""

    def to_json(self) -> dict[str, Any]:
        """The note as integers by name: on storage, and as a row of `PART_NOTES`."""
        return {
            "part": self.number,
            "layers": self.layers,
            "rows": self.rows,
            "oldest": self.oldest,
            "newest": self.newest,
            "erased": self.erased,
            "linked": int(self.is_linked),
            **({"erased_users": list(self.erased_users)} if self.erased_users else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PartNote":
        """The note behind the content that `to_json` made."""
        return cls(
            number=int(content["part"]),
            layers=int(content["layers"]),
            rows=int(content["rows"]),
            oldest=int(content["oldest"]),
            newest=int(content["newest"]),
            erased=int(content["erased"]),
            is_linked=bool(content["linked"]),
            erased_users=tuple(content.get("erased_users") or ()),
        )

    def with_layer(self, rows: int, oldest: int, newest: int) -> "PartNote":
        """The note of the part with one more layer."""
        return replace(
            self,
            layers=self.layers + 1,
            rows=self.rows + rows,
            oldest=min(self.oldest, oldest),
            newest=max(self.newest, newest),
            is_linked=False,
        )


PART_NOTES = pa.schema(
    [
        (name, pa.int64())
        for name in ("part", "layers", "rows", "oldest", "newest", "erased", "linked")
    ]
    + [("erased_users", pa.list_(pa.int64()))]
)
"""Part notes as a table, which Ray Data passes on."""


@dataclass(frozen=True, slots=True)
class SequencesNote:
    """A finished part of ``sequences/``."""

    number: int
    rows: int
    """Rows before ``data.as_of`` that it was derived from."""
    users: int
    trainable: int
    interactions: int
    """Length of all its sequences together."""
    fingerprint: str
    report: PartReport

    @property
    def name(self) -> str:
        """Name of its file."""
        return part_name(self.number)

    def to_json(self) -> dict[str, Any]:
        """The note as JSON can hold it."""
        return {
            "part": self.number,
            "rows": self.rows,
            "users": self.users,
            "trainable": self.trainable,
            "interactions": self.interactions,
            "fingerprint": self.fingerprint,
            "report": self.report.to_dict(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SequencesNote":
        """The note behind the content that `to_json` made."""
        names = ("rows", "users", "trainable", "interactions", "fingerprint")
        values = {name: content[name] for name in names}
        report = PartReport.from_dict(content["report"])
        return cls(number=int(content["part"]), report=report, **values)

    def entry(self, buckets: tuple[int, int]) -> DatasetPart:
        """The part as the manifest of the dataset lists it.

        Args:
            buckets: First bucket of its users, and the end.
        """
        return DatasetPart(
            name=self.name,
            rows=self.rows,
            users=self.users,
            trainable=self.trainable,
            interactions=self.interactions,
            fingerprint=self.fingerprint,
            buckets=buckets,
        )


@dataclass(frozen=True, slots=True)
class Interactions:
    """A complete ``interactions/``, as its marker file says."""

    counts: RowCounts
    user_id_type: str
    item_id_type: str
    parts: list[PartNote]
    """Parts that have rows, in order."""
    after_as_of: tuple[str, ...] = ()
    """Files that were not read, as all their rows are of ``data.as_of`` or later."""
    erased_users: tuple[int, ...] = ()
    """Places, among the users to leave out, of those of whom the base had rows."""

    @property
    def time_range(self) -> tuple[int, int]:
        """Least and greatest timestamp; there are rows."""
        assert self.counts.oldest is not None
        assert self.counts.newest is not None
        return self.counts.oldest, self.counts.newest

    def to_json(self, dataset_id: str) -> dict[str, Any]:
        """The content of the marker file of a dataset."""
        return {
            "id": dataset_id,
            "counts": self.counts.to_dict(),
            "user_id_type": self.user_id_type,
            "item_id_type": self.item_id_type,
            "parts": [part.to_json() for part in self.parts],
            **({"after_as_of": list(self.after_as_of)} if self.after_as_of else {}),
            **({"erased_users": list(self.erased_users)} if self.erased_users else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Interactions":
        """The object behind the content that `to_json` made."""
        return cls(
            counts=RowCounts.from_dict(content["counts"]),
            user_id_type=content["user_id_type"],
            item_id_type=content["item_id_type"],
            parts=[PartNote.from_json(part) for part in content["parts"]],
            after_as_of=tuple(content.get("after_as_of", ())),
            erased_users=tuple(content.get("erased_users", ())),
        )
