"""Rows that Iceberg's delete files take out: by position, by deletion vectors, by equal values."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.arrays import Int64
from lightsans.errors import InputError
from lightsans.storage.location import Location
from lightsans.warehouse.access import SIDE_BY_SIDE, file_at

_NOBODY: Int64 = np.array([], np.int64)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows, and the place of its commit."""

    entry: Any
    commit: int

    @property
    def path(self) -> str:
        """Address of the file in the table's metadata."""
        return str(self.entry.data_file.file_path)


@dataclass(frozen=True, slots=True)
class _EqualityDeletes:
    """A file of values: rows of earlier commits that have them are deleted."""

    commit: int
    names: tuple[str, ...]
    values: pa.Table
    scope: object
    """Partition to which they belong; None for all."""


def deleted_rows(
    table: Location, opened: Any, data: Sequence[DataFile], deletes: Sequence[Any]
) -> list[Int64]:
    """Numbers of the deleted rows of each file, sorted.

    Args:
        table: Directory of the table.
        opened: The table.
        data: Its files of rows.
        deletes: Entries of its files of deletes.

    Raises:
        InputError: A file of deletes cannot be read.
    """
    equal = [each for each in deletes if each.data_file.equality_ids]
    by_place = _places(table, [each for each in deletes if not each.data_file.equality_ids])
    values = [_equality_deletes(table, opened, entry) for entry in equal]

    def of_file(file: DataFile) -> Int64:
        # A delete takes rows out of files that were there when it was made.
        gone = [rows for number, rows in by_place.get(file.path, []) if number >= file.commit]
        gone += _equal_rows(table, opened, file, values)
        return np.unique(np.concatenate(gone)) if gone else _NOBODY

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(of_file, data))


def _places(table: Location, deletes: Sequence[Any]) -> dict[str, list[tuple[int, Any]]]:
    """Positional deletes by data file: the number of their commit, and the rows."""
    found: dict[str, list[tuple[int, Any]]] = {}
    # A file of vectors has an entry for each of its data files.
    for entry in {entry.data_file.file_path: entry for entry in deletes}.values():
        file = file_at(entry.data_file.file_path, table)
        is_puffin = entry.data_file.file_format.name == "PUFFIN"
        for path, rows in _vectors(file) if is_puffin else _listed(file):
            found.setdefault(path, []).append((int(entry.sequence_number or 0), rows))
    return found


def _listed(file: Location) -> Iterator[tuple[str, Any]]:
    """Data files and their rows in a file of positional deletes."""
    read = file.read_table(["file_path", "pos"])
    for path in pc.unique(read["file_path"]).to_pylist():
        yield path, read.filter(pc.equal(read["file_path"], path))["pos"].to_numpy()


def _vectors(file: Location) -> Iterator[tuple[str, Any]]:
    """Data files and their rows in a file of deletion vectors, which the third format has.

    A vector that another file has replaced since may be among them: all its rows are in that too.
    """
    from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
    from pyiceberg.table.puffin import PuffinFile

    try:
        vectors = deletion_vectors_from_puffin_file(PuffinFile(file.read_bytes()))
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{file}: cannot be read as deletion vectors: {error}") from None
    for vector in vectors:
        rows = vector.to_vector().combine_chunks().to_numpy(zero_copy_only=False)
        yield vector.referenced_data_file, rows


def _equality_deletes(table: Location, opened: Any, entry: Any) -> _EqualityDeletes:
    file = entry.data_file
    # A column may have been dropped since; none was renamed.
    known = {
        field.field_id: field.name for each in opened.metadata.schemas for field in each.fields
    }
    missing = [number for number in file.equality_ids if number not in known]
    if missing:
        raise InputError(f"{file.file_path}: it compares column {missing[0]}, which no schema has")
    names = tuple(known[number] for number in file.equality_ids)
    values = file_at(file.file_path, table).read_table(list(names))
    is_of_all = not opened.specs()[file.spec_id].fields
    scope = None if is_of_all else (file.spec_id, repr(file.partition))
    return _EqualityDeletes(int(entry.sequence_number or 0), names, values, scope)


def _equal_rows(
    table: Location, opened: Any, file: DataFile, deletes: Sequence[_EqualityDeletes]
) -> list[Int64]:
    """Rows of a file whose values are among those that later commits deleted."""
    own = (file.entry.data_file.spec_id, repr(file.entry.data_file.partition))
    later = [each for each in deletes if each.commit > file.commit and each.scope in (None, own)]
    found = []
    for names in sorted({each.names for each in later}):
        values = pa.concat_tables(
            [each.values for each in later if each.names == names], promote_options="permissive"
        )
        rows = _columns(file_at(file.path, table), names)
        found.append(np.flatnonzero(_are_among(rows, values)))
    return found


def _columns(file: Location, names: Sequence[str]) -> pa.Table:
    """Columns of a file; one that joined the table later is null."""
    with file.open() as raw:
        footer = pq.read_metadata(raw)
    there = set(footer.schema.to_arrow_schema().names)
    present = [name for name in names if name in there]
    read = file.read_table(present) if present else pa.table({})
    columns = {name: read[name] if name in there else pa.nulls(footer.num_rows) for name in names}
    return pa.table(columns)


def _are_among(rows: pa.Table, values: pa.Table) -> Any:
    """(N,) whether rows are equal to one of others, null to null."""
    both = pa.concat_tables([values, rows], promote_options="permissive").combine_chunks()
    codes = np.zeros(both.num_rows, np.int64)
    for column in both.columns:
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        each = encoded.indices.to_numpy(zero_copy_only=False)
        # Numbered anew, codes of any number of columns stay small.
        codes = np.unique(codes * (len(encoded.dictionary) + 1) + each, return_inverse=True)[1]
    return np.isin(codes[values.num_rows :], codes[: values.num_rows])
