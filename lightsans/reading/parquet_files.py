"""Parquet: columns with types, rows in groups that the footer lists."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.columns.arrow import value_type
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.input_files import GroupLayout, Head
from lightsans.reading.rows import RawRows
from lightsans.storage.location import Location
from lightsans.text.coding import Coding

_BATCH_ROWS = 2**20


@dataclass(frozen=True, slots=True)
class ParquetLayout(GroupLayout):
    """Columns to read, and the row groups of a file."""

    roles: Mapping[str, tuple[str, int]]
    """Name of each column that is read, and how many columns of that name come before it."""
    groups: tuple[tuple[int, int], ...]
    """Rows and decoded bytes of each row group."""
    as_dictionaries: tuple[str, ...] = ()
    """Columns of text that are read as dictionaries."""

    def row_groups(self) -> Sequence[tuple[int, int]]:
        """Rows and decoded bytes of each row group."""
        return self.groups

    def read(self, file: Location, groups: Sequence[int], first_row: int) -> Iterator[RawRows]:
        """The rows of consecutive row groups; positions are row numbers from ``first_row``."""
        names = list(dict.fromkeys(name for name, _ in self.roles.values()))
        with _open(file, self.as_dictionaries) as opened:
            for batch in opened.iter_batches(_BATCH_ROWS, list(groups), columns=names):
                positions = np.arange(first_row, first_row + len(batch))
                first_row += len(batch)
                columns = {
                    role: batch.column(batch.schema.get_all_field_indices(name)[number])
                    for role, (name, number) in self.roles.items()
                }
                yield RawRows(columns, positions, [])


@dataclass(frozen=True, slots=True)
class ParquetHead(Head):
    """Columns of a file's footer, and its row groups."""

    row_groups: tuple[tuple[int, int], ...]
    """Rows and decoded bytes of each row group."""
    footer: pq.FileMetaData

    def least_value(self, position: int) -> pa.Scalar | None:
        """The least value of a column of integers or times, over all row groups."""
        name, kind = self.names[position], self.types[position]
        leaves = [self.footer.schema.column(leaf).path for leaf in range(self.footer.num_columns)]
        is_known = pa.types.is_signed_integer(kind) or pa.types.is_temporal(kind)
        if not is_known or leaves.count(name) != 1 or not self.row_groups:
            return None
        groups = [self.footer.row_group(group) for group in range(self.footer.num_row_groups)]
        found = [group.column(leaves.index(name)).statistics for group in groups]
        if not all(known and known.has_min_max and known.null_count == 0 for known in found):
            return None
        try:
            return pc.min(pa.array([known.min for known in found], kind))
        except (pa.ArrowException, ValueError, OverflowError):  # a time that Python cannot hold
            return None

    def layout(self, roles: Mapping[str, int]) -> ParquetLayout:
        """How to read the columns at some positions."""
        names = self.names
        found = {role: (names[at], names[:at].count(names[at])) for role, at in roles.items()}
        # Items repeat within a file more than users, whose dictionaries outgrow parquet's limit.
        item = found["item"][0] if "item" in found else None
        return ParquetLayout(
            found, self.row_groups, () if item is None or self._is_delta(item) else (item,)
        )

    def _is_delta(self, name: str) -> bool:
        """Whether text is written as differences, which Arrow does not read as dictionaries."""
        leaves = range(self.footer.num_columns)
        own = [leaf for leaf in leaves if self.footer.schema.column(leaf).path == name]
        groups = (self.footer.row_group(group) for group in range(self.footer.num_row_groups))
        return any("DELTA" in str(group.column(leaf).encodings) for group in groups for leaf in own)


def read_head(file: Location, data: DataConfig, coding: Coding) -> ParquetHead:
    """Look at the footer of a file.

    Raises:
        InputError: Its footer cannot be read.
    """
    with _open(file) as opened:
        metadata, schema = opened.metadata, opened.schema_arrow
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        sizes = tuple((group.num_rows, group.total_byte_size) for group in groups)
        types = [value_type(field.type) for field in schema]
        return ParquetHead(tuple(schema.names), types, 0, coding, b"", sizes, metadata)


@contextmanager
def _open(file: Location, as_dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    try:
        with (
            file.open() as raw,
            pq.ParquetFile(
                raw,
                read_dictionary=list(as_dictionaries),
                coerce_int96_timestamp_unit="us",  # nanoseconds would wrap outside 1677 to 2262
            ) as opened,
        ):
            yield opened
    except pa.ArrowInvalid as error:
        raise InputError(f"{file}: not readable as parquet: {error}") from None
