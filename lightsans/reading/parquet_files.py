"""Parquet: columns with types, rows in groups that the footer lists."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.columns.arrow import value_type
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.input_files import (
    GroupLayout,
    InputFile,
    find_roles,
    id_type_of,
    is_number,
    wrong_type,
)
from lightsans.reading.rows import RawRows
from lightsans.reading.values import is_text
from lightsans.storage.location import FileInfo, Location

_BATCH_ROWS = 2**20


@dataclass(frozen=True, slots=True)
class ParquetHead:
    """Content of a file's footer."""

    schema: pa.Schema
    row_groups: list[tuple[int, int]]
    """Rows and decoded bytes of each row group."""


@dataclass(frozen=True, slots=True)
class ParquetLayout(GroupLayout):
    """Roles of the columns, and the row groups of a file."""

    roles: Mapping[str, str]
    """Names of the columns of the user, item, timestamp and rating."""
    groups: tuple[tuple[int, int], ...]
    """Rows and decoded bytes of each row group."""

    def row_groups(self) -> Sequence[tuple[int, int]]:
        """Rows and decoded bytes of each row group."""
        return self.groups

    def read(self, file: Location, groups: Sequence[int], first_row: int) -> Iterator[RawRows]:
        """The rows of consecutive row groups; see `read_row_groups`."""
        return read_row_groups(file, groups, first_row, self.roles)


def inspect(info: FileInfo, data: DataConfig) -> InputFile:
    """Look at the footer of a file.

    Raises:
        InputError: It is unreadable, a column is missing, or has a type that cannot be used.
    """
    file = info.location
    head = read_head(file, info.size)
    names = head.schema.names
    roles = {role: names[at] for role, at in find_roles(file, names, data).items()}
    types = {role: value_type(head.schema.field(name).type) for role, name in roles.items()}
    if not _is_time(types["timestamp"]):
        raise InputError(wrong_type(file, "timestamp", roles["timestamp"], types["timestamp"]))
    if "rating" in types and not _is_rating(types["rating"]):
        if data.min_rating is not None:
            raise InputError(wrong_type(file, "rating", roles["rating"], types["rating"]))
        del roles["rating"]
    id_types = {r: id_type_of(file, r, roles[r], types[r], data) for r in ("user", "item")}
    return InputFile(info, ParquetLayout(roles, tuple(head.row_groups)), id_types)


def read_head(file: Location, size: int) -> ParquetHead:
    """Schema and row groups of a file.

    Raises:
        InputError: The file is empty or its footer cannot be read.
    """
    if size == 0:
        raise InputError(f"{file}: the file is empty (0 bytes); remove it from data.input")
    with _open(file) as opened:
        metadata = opened.metadata
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        sizes = [(group.num_rows, group.total_byte_size) for group in groups]
        return ParquetHead(opened.schema_arrow, sizes)


def read_row_groups(
    file: Location, groups: Sequence[int], first_row: int, roles: Mapping[str, str]
) -> Iterator[RawRows]:
    """The rows of some consecutive row groups; positions are row numbers from ``first_row``."""
    # Items repeat within a file more than users, whose dictionaries outgrow what parquet allows.
    with _open(file, [roles["item"]]) as opened:
        batches = opened.iter_batches(_BATCH_ROWS, list(groups), columns=list(roles.values()))
        for batch in batches:
            positions = np.arange(first_row, first_row + len(batch))
            first_row += len(batch)
            yield RawRows({role: batch[name] for role, name in roles.items()}, positions, [])


@contextmanager
def _open(file: Location, as_dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    try:
        with (
            file.open() as raw,
            pq.ParquetFile(raw, read_dictionary=list(as_dictionaries)) as opened,
        ):
            yield opened
    except pa.ArrowInvalid as error:
        raise InputError(f"{file}: not readable as parquet: {error}") from None


def _is_rating(kind: pa.DataType) -> bool:
    return is_number(kind) or is_text(kind) or pa.types.is_decimal(kind)


def _is_time(kind: pa.DataType) -> bool:
    is_calendar = bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
    return is_calendar or is_number(kind) or is_text(kind)
