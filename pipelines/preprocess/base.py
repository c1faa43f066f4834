"""Make a dataset from another one: ``preprocess --base ID``.

The base keeps every valid row in ``interactions/``, so only files that it does not list are read.
Its parts are linked; new rows become a layer of the part of their users, and only now and then are
the layers of a part written as one. Items keep their ids, and new ones are appended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.config import DataConfig, RunConfig, to_dict
from lightsans.config.marks import Mark, fields_with, recorded_value
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError, InputError
from lightsans.reading.rejects import RowCounts
from lightsans.reading.units import ReadPlan
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.parts import part_index, part_name
from pipelines.preprocess.parts import format_here, read_marker
from pipelines.preprocess.records import Interactions, PartNote

ANEW = "preprocess without --base (a night: nightly.incremental=false)"
"""Way out for whoever cannot add to a base."""


@dataclass(frozen=True, slots=True)
class Base:
    """A finished dataset that another one adds to."""

    location: Location
    manifest: DatasetManifest
    interactions: Interactions
    """Its rows, as its ``interactions.json`` says."""

    @property
    def counts(self) -> RowCounts:
        """Counts of all rows that were ever read for it."""
        return self.interactions.counts

    def part(self, number: int) -> PartNote | None:
        """One of its parts; None if it has no rows."""
        return next((part for part in self.interactions.parts if part.number == number), None)

    def check_plan(self, plan: ReadPlan) -> ReadPlan:
        """A plan of reading new files, ids of the types that the base has.

        Raises:
            InputError: The new files have ids of other types.
        """
        for role in ("user", "item"):
            theirs = self.manifest.id_types[role]
            ours = plan.user_id_type if role == "user" else plan.item_id_type
            if plan.units and ours != theirs:
                raise InputError(
                    f"{role} ids are {theirs} in dataset {self.location.name} but {ours} in the "
                    f"new files; set data.{role}_id_type to {theirs}"
                )
        user, item = self.manifest.user_id_type, self.manifest.item_id_type
        return replace(plan, user_id_type=user, item_id_type=item)

    def own_counts(self, counts: RowCounts) -> RowCounts:
        """Counts of a dataset made from this one, without what was read for this one already."""
        before = self.counts
        return RowCounts(
            read=counts.read - before.read,
            valid=counts.valid,
            rejected=counts.rejected - before.rejected,
            filtered=counts.filtered - before.filtered,
            unused=counts.unused - before.unused,
            examples=counts.examples,
            findings=counts.findings.since(before.findings),
        )

    def counts_to_begin_with(self) -> RowCounts:
        """Counts that those of new files are added to, without what is told of these alone.

        Users found by an earlier list are numbered by that one, and examples of refused rows would
        be of old files.
        """
        copied = RowCounts.from_dict(self.counts.to_dict())
        return replace(copied, excluded_found=set(), examples={})

    @property
    def num_files(self) -> int:
        """Files that it was made of; those of its own base come first."""
        return len(self.manifest.input)


@dataclass(frozen=True, slots=True)
class UnchangedSequences:
    """Sequence files of a base that a dataset made from it shares."""

    directory: Location
    """Directory of the base's sequences."""
    parts: dict[int, int]
    """Parts whose interactions did not change, and the rows that they then had."""
    changed_items: pa.Array
    """Raw ids of items that entered or left the k-core since."""

    def location(self, part: int) -> Location:
        """The base's file."""
        return self.directory / part_name(part)

    def num_rows(self, part: int) -> int:
        """Rows that the sequences were made from."""
        return self.parts[part]

    def holds(self, part: int, raw_item_ids: pa.Array) -> bool:
        """Whether the base's sequences of a part with these items are still right."""
        if part not in self.parts:
            return False
        found = pc.is_in(raw_item_ids, value_set=self.changed_items.cast(raw_item_ids.type))
        return not pc.any(found).as_py()


def find_unchanged(
    base: Base,
    parts: Sequence[PartNote],
    data: DataConfig,
    before: Vocabulary,
    after: Vocabulary,
) -> UnchangedSequences | None:
    """Find the sequences of a base that can be taken over; None where settings differ.

    Args:
        base: The base.
        parts: Parts of the dataset made from it.
        data: Its settings.
        before: The base's vocabulary.
        after: The one that extends it.
    """
    settings, theirs = to_dict(data), base.manifest.data
    names = fields_with(data, Mark.MAKES_SEQUENCES)
    is_same = all(settings[name] == recorded_value(DataConfig, theirs, name) for name in names)
    if not is_same or data.cuts_by_time or base.manifest.split.cuts_by_time:
        return None
    rows = {part_index(part.name): part.rows for part in base.manifest.parts}
    known = before.num_items
    is_changed = np.ones(after.num_items, bool)
    is_changed[:known] = (before.counts > 0) != (after.counts[:known] > 0)
    # An item that counts 0 is seen again once it is back in the table of features.
    is_changed[:known] |= before.is_noted != after.is_noted[:known]
    # New ones stay changed: whoever met a new one before has it in also_seen now
    changed = after.raw_item_ids.filter(pa.array(is_changed))
    linked = {part.number: rows[part.number] for part in parts if part.is_linked}
    return UnchangedSequences(base.location / "sequences", linked, changed)


def load_base(config: RunConfig) -> Base | None:
    """The dataset that ``data.base`` names; None when the setting is null.

    Raises:
        NotFoundError: There is no such dataset.
        ConfigError: It has another format, or its rows were read by other rules than
            ``config.data`` has.
    """
    if config.data.base is None:
        return None
    location = locate(config.root, config.storage) / "datasets" / config.data.base
    manifest = require_manifest(
        DatasetManifest,
        location,
        f"data.base={config.data.base} names no finished dataset of root={config.root}",
    )
    theirs = format_here(manifest)
    if manifest.format_version != theirs:
        raise ConfigError(
            f"data.base={config.data.base} has format {manifest.format_version}, and this "
            f"version adds to format {theirs}; {ANEW}"
        )
    interactions = read_marker(location)
    base = Base(location, manifest, interactions)
    _check_reading(base, config.data)
    return base


def _check_reading(base: Base, data: DataConfig) -> None:
    settings, theirs = to_dict(data), base.manifest.data
    for name in fields_with(data, Mark.READS_ROWS):
        before = recorded_value(DataConfig, theirs, name)
        if settings[name] != before:
            raise ConfigError(
                f"data.{name} is {settings[name]!r}, but dataset {base.location.name} was read "
                f"with {before!r}; take the base's setting, or {ANEW}"
            )
    if data.min_rating is not None and theirs["min_rating"] is None:
        raise ConfigError(
            f"data.min_rating={data.min_rating} needs a rating in every row, but dataset "
            f"{base.location.name} was read without that check; {ANEW}"
        )
    if data.num_parts is not None and data.num_parts != base.manifest.num_parts:
        raise ConfigError(
            f"data.num_parts is {data.num_parts}, but dataset {base.location.name} has "
            f"{base.manifest.num_parts} parts; set it to that, or to null"
        )
