"""The id of a dataset and what goes into it: files, settings, users to leave out; without Ray.

Whoever only looks for a finished dataset does not wait for the imports of making one.
"""

import hashlib
from dataclasses import dataclass, replace

from lightsans.columns.erased import ErasedUsers
from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.config import DataConfig, RunConfig
from lightsans.config.kinds import FORMATS
from lightsans.config.marks import Mark, values_with
from lightsans.lists.erased_users import read_erased
from lightsans.lists.feature_table import open_feature_table
from lightsans.lists.id_lists import IdList
from lightsans.lists.tables import Table
from lightsans.reading.formats import format_by_name
from lightsans.stages.filters import Filters, resolve_filters
from lightsans.storage.location import FileInfo, Location, locate
from lightsans.storage.manifests import content_id
from lightsans.storage.table_formats import TableVersion
from lightsans.text.coding import compression_by_name
from pipelines.preprocess.base import Base, load_base
from pipelines.preprocess.excluded import read_excluded_users
from pipelines.preprocess.inputs import input_tables, list_log, new_rows
from pipelines.preprocess.parts import format_version

SPLIT_RULE = 2
"""Raised when a temporal split cuts the same rows in another way: ids of other datasets stay."""
_PART_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """Input of the reading: files in order, settings, and users to leave out."""

    data: DataConfig
    files: list[FileInfo]
    """New ones only, where there is a base."""
    excluded_users: list[str]
    base: Base | None = None
    """Dataset that the rows are added to."""
    as_of: int | None = None
    """``data.as_of`` in microseconds: files that prove to be later are not read."""
    tables: tuple[TableVersion, ...] | None = None
    """Tables of a warehouse that files belong to, and those of the base."""
    erased: ErasedUsers | None = None
    """Users who were erased from the root."""

    @property
    def erased_of_base(self) -> ErasedUsers | None:
        """Erased users of whom the base may have rows."""
        if self.erased is None or self.base is None:
            return None
        is_left_out = self.base.manifest.erased == self.erased.fingerprint
        return None if is_left_out else self.erased


@dataclass(frozen=True, slots=True)
class Job:
    """A dataset to be made, with everything that the configuration leaves to be looked up."""

    dataset: Location
    source: Source
    filters: Filters
    num_parts: int
    excluded: IdList | None
    item_table: Table | None = None
    """Table of item features; None without any."""
    keeps_features: bool = False
    """Features are those of the base: its item table may be gone, or another one by now."""


def dataset_id(config: RunConfig) -> str:
    """The name of the dataset that a configuration stands for, made or not.

    Raises:
        ConfigError: A setting cannot be understood.
        InputError: A file is missing.
    """
    return prepare(config).dataset.name


def prepare(config: RunConfig) -> Job:
    """Look up what the configuration leaves open; nothing is read but lists and the first lines.

    Raises:
        ConfigError: A setting cannot be understood.
        InputError: A file is missing.
    """
    data = config.data
    filters = resolve_filters(data)
    files = list_log(config, filters.as_of)
    base = load_base(config)
    found = files if base is None else new_rows(base, files)
    if found is None:
        base, data = None, replace(data, base=None)
        filters = replace(filters, data=data)
    tables = input_tables(base, files)
    files = files if found is None else found
    excluded = read_excluded_users(config)
    excluded_users = [] if excluded is None else excluded.ids.to_pylist()
    root = locate(config.root, config.storage)
    erased = read_erased(root)
    source = Source(data, files, excluded_users, base, filters.as_of, tables, erased)
    num_parts = choose_num_parts(files, data) if base is None else base.manifest.num_parts
    question = {
        **values_with(data, Mark.CONTENT),
        "num_parts": num_parts,
        "as_of": filters.as_of,
        "files": [_identity(file) for file in files],
        "excluded_users": hashlib.sha256("\n".join(source.excluded_users).encode()).hexdigest(),
    }
    item_table = open_feature_table(config)
    if item_table is not None:
        question["item_table"] = [_identity(file) for file in item_table.files]
    if erased is not None:  # ids of before stay where nobody was erased
        question["erased"] = erased.fingerprint
    if data.cuts_by_time:
        question["split_rule"] = SPLIT_RULE
    name = content_id("dataset", format_version(data.events), question)
    dataset = root / "datasets" / name
    return Job(dataset, source, filters, num_parts, excluded, item_table)


def _identity(file: FileInfo) -> list[object]:
    """Parts of an id that say which file it is, whether it changed, and which rows it has lost."""
    known: list[object] = [file.location.uri, file.size, file.etag]
    return known if file.rows is None or not file.rows.deleted else [*known, file.rows.fingerprint]


def choose_num_parts(files: list[FileInfo], data: DataConfig) -> int:
    """Number of parts a dataset is cut into: about 64 MB of text each, or as configured."""
    if data.num_parts is not None:
        return data.num_parts
    return min(num_pieces(files, data), NUM_BUCKETS)


def num_pieces(files: list[FileInfo], data: DataConfig) -> int:
    """The input in units of `_PART_BYTES`, with a guess at what compression hides."""
    size = 0
    for file in files:
        kind = format_by_name(file.location, data)
        is_text = kind is None or FORMATS[kind].is_text
        is_compressed = not is_text or compression_by_name(file.location.name) is not None
        size += file.size * (4 if is_compressed else 1)
    return -(-size // (4 * _PART_BYTES)) * 4 or 4
