"""Parquet: columns with types, rows in groups that the footer lists."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.errors import InputError
from lightsans.reading.rows import RawRows
from lightsans.storage.location import Location

_BATCH_ROWS = 2**20


@dataclass(frozen=True, slots=True)
class ParquetHead:
    """What a file's footer says."""

    schema: pa.Schema
    row_groups: list[tuple[int, int]]
    """Rows and decoded bytes of each row group."""


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
