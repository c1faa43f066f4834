"""Read units: planning them, and reading one."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from lightsans.arrays import Int64
from lightsans.columns.erased import ErasedUsers
from lightsans.config import DataConfig
from lightsans.errors import EmptyFileError, InputError
from lightsans.reading.formats import inspect_file
from lightsans.reading.input_files import GroupLayout, InputFile, TextLayout, readable, unchanged
from lightsans.reading.rows import CheckedRows, RawRows, check_rows
from lightsans.reading.where import keep_rows
from lightsans.storage.location import FileInfo
from lightsans.text.coding import open_stream
from lightsans.text.pieces import read_lines, read_pieces, skip

POSITION_BITS = 40
"""An order key is ``file << POSITION_BITS | position``: a terabyte, or 10^12 rows, a file."""

_MOST_TOLD = 5
"""Files whose problems are told."""
_MOST_FILES = 256
"""Files that a task reads at most: one after the other, each a request to storage."""
_COMPARED = 64 << 10
"""Bytes at the beginning and at the end of files of one size by which copies are told."""
_INSPECTORS = 16
"""Files that are looked at side by side: it is waiting for storage, not work."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of one file."""

    file: InputFile
    file_index: int
    """Place of the file in the input, which breaks ties between timestamps."""
    start: int
    """First byte of a text file, or first row group of parquet."""
    end: int
    is_whole: bool = False
    """The file can only be read as a stream, from its beginning to its end."""
    first_row: int = 0
    """Row number of the first row, in parquet."""
    num_bytes: int = 0
    """Roughly what reading it takes."""


@dataclass(frozen=True, slots=True)
class ReadUnit:
    """Input of one task: a piece of a large file, or some small files."""

    index: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Everything that is to be read, and the types that ids will have."""

    units: list[ReadUnit]
    user_id_type: str
    item_id_type: str
    num_empty: int = 0
    """Files without a line."""
    after_as_of: tuple[str, ...] = ()
    """Files that are not read, as all their rows are of ``as_of`` or later."""

    def alike(self) -> list[FileInfo]:
        """Files with rows that mean the same wherever they lie: no directory names a column."""
        files = {piece.file_index: piece.file for unit in self.units for piece in unit.slices}
        return [file.listed for file in files.values() if not file.partition]


def plan_reading(
    files: Sequence[FileInfo], data: DataConfig, first_index: int = 0, as_of: int | None = None
) -> ReadPlan:
    """Look at every file and cut the input into read units.

    Args:
        files: In the order that breaks ties between timestamps.
        data: How to read them.
        first_index: Number of the first file: how many a base dataset has.
        as_of: Files that prove to have rows from this time on only, in microseconds, are not read.

    Raises:
        InputError: A file is unusable, or files disagree on the type of ids.
    """
    if len(files) == 1:  # nobody waits for a thread to look at one file
        found = [_inspect(files[0], data)]
    else:
        with ThreadPoolExecutor(_INSPECTORS) as pool:
            found = list(pool.map(lambda info: _inspect(info, data), files))
    unusable = [e for e in found if isinstance(e, InputError) and not isinstance(e, EmptyFileError)]
    if unusable:
        raise _all_in_one(unusable)
    inspected = [file for file in found if isinstance(file, InputFile)]
    if found and not inspected:
        raise next(file for file in found if isinstance(file, EmptyFileError))
    late = {file.location.uri for file in inspected if _is_late(file, as_of)}
    user_id_type, item_id_type = _common_types(inspected, data)
    # Numbers are those that the files have in the manifest, which lists what is read.
    listed = [file for file in found if not _is_late(file, as_of)]
    slices = [
        piece
        for index, file in enumerate(listed, first_index)
        if isinstance(file, InputFile)
        for piece in _cut(file, index, data)
    ]
    units = _pack(slices, data.read_unit_bytes)
    num_empty = len(found) - len(inspected)
    return ReadPlan(units, user_id_type, item_id_type, num_empty, tuple(sorted(late)))


def _inspect(info: FileInfo, data: DataConfig) -> InputFile | InputError:
    try:
        return inspect_file(info, data)
    except InputError as error:
        return error


def _all_in_one(errors: Sequence[InputError]) -> InputError:
    """One error about all files that are unusable, the first few in words."""
    if len(errors) == 1:
        return errors[0]
    said = [f"{number}. {error}" for number, error in enumerate(errors[:_MOST_TOLD], start=1)]
    more = len(errors) - _MOST_TOLD
    said += [f"and {more:,} more files"] if more > 0 else []
    return InputError("\n".join([f"{len(errors):,} files cannot be used:", *said]))


def _is_late(file: InputFile | InputError, as_of: int | None) -> bool:
    """Whether the file itself proves that none of its rows lies before ``as_of``."""
    if as_of is None or isinstance(file, InputError):
        return False
    if file.listed.rows is not None:  # a later night asks for what came to the table since
        return False
    return file.oldest is not None and file.oldest >= as_of


def read_unit(
    unit: ReadUnit,
    data: DataConfig,
    user_id_type: str,
    item_id_type: str,
    excluded_users: pa.Array | None = None,
    erased: ErasedUsers | None = None,
) -> Iterator[tuple[Slice, CheckedRows]]:
    """The rows of a unit in bounded pieces.

    Raises:
        InputError: A file is damaged, is not the one that was listed, or its quoted values span
            lines unannounced.
    """
    for piece in unit.slices:
        with unchanged(piece.file.listed), readable(piece.file.location):
            for rows in _read_slice(piece, data):
                rows, num_filtered, unread = keep_rows(rows, data)
                checked = check_rows(rows, data, user_id_type, item_id_type, excluded_users, erased)
                checked.findings.unread_where.update(unread)
                yield piece, replace(checked, num_filtered=num_filtered)


def order_keys(piece: Slice, positions: Int64) -> Int64:
    """Keys that break ties between timestamps: the order of files, then the position in one."""
    assert not len(positions) or int(positions.max()) < 1 << POSITION_BITS
    return (piece.file_index << POSITION_BITS) | positions


def _common_types(files: Sequence[InputFile], data: DataConfig) -> tuple[str, str]:
    """Types of users and items.

    Raises:
        InputError: Files disagree on one, or on both.
    """
    types, problems = [], []
    for role in ("user", "item"):
        first: dict[str, InputFile] = {}
        for file in files:
            kind = file.id_types[role]
            if kind is not None:
                first.setdefault(kind, file)
        if len(first) > 1:
            there = " but ".join(f"{kind} in {file.location}" for kind, file in first.items())
            problems.append(
                f"{role} ids are {there}; set data.{role}_id_type to string or int64 to read all "
                "files alike"
            )
        types.append(next(iter(first), "string"))
    if problems:
        raise InputError("\n".join(problems))
    return types[0], types[1]


def _cut(file: InputFile, index: int, data: DataConfig) -> Iterator[Slice]:
    """The pieces in which a file can be read side by side."""
    if isinstance(file.layout, GroupLayout):
        yield from _cut_row_groups(file, file.layout.row_groups(), index, data.read_unit_bytes)
        return
    is_whole = not file.coding.is_plain or file.layout.spans_lines()
    first = 0 if is_whole else file.data_start
    step = file.size if is_whole else data.read_unit_bytes
    for start in range(first, file.size, step):
        end = min(start + step, file.size)
        yield Slice(file, index, start, end, is_whole=is_whole, num_bytes=end - start)


def _cut_row_groups(
    file: InputFile, groups: Sequence[tuple[int, int]], index: int, unit_bytes: int
) -> Iterator[Slice]:
    first_row = next_row = start = size = 0
    for group, (num_rows, num_bytes) in enumerate(groups):
        if group > start and size + num_bytes > unit_bytes:
            yield Slice(file, index, start, group, first_row=first_row, num_bytes=size)
            start, first_row, size = group, next_row, 0
        next_row, size = next_row + num_rows, size + num_bytes
    if groups:
        end = len(groups)
        yield Slice(file, index, start, end, first_row=first_row, num_bytes=size)


def _pack(slices: Sequence[Slice], unit_bytes: int) -> list[ReadUnit]:
    """Neighbouring slices together, as long as they are small and not too many."""
    packed: list[list[Slice]] = []
    size = 0
    for piece in slices:
        is_full = not packed or len(packed[-1]) == _MOST_FILES
        if is_full or size + piece.num_bytes > unit_bytes:
            packed.append([])
            size = 0
        packed[-1].append(piece)
        size += piece.num_bytes
    return [ReadUnit(index, tuple(unit)) for index, unit in enumerate(packed)]


def read_file(file: InputFile, data: DataConfig) -> Iterator[RawRows]:
    """All rows of one file, which is read from its beginning to its end.

    Raises:
        InputError: It is damaged, is not the one that was listed, or its quoted values span lines
            unannounced.
    """
    for piece in _cut(file, 0, data):
        with unchanged(file.listed), readable(file.location):
            yield from _read_slice(piece, data)


def _read_slice(piece: Slice, data: DataConfig) -> Iterator[RawRows]:
    """The rows of a stretch of a file, with the columns that its directories name."""
    partition = piece.file.partition
    for rows in _read_columns(piece, data):
        num_rows = len(rows.positions)
        columns = {
            role: pa.repeat(pa.scalar(value, pa.string()), num_rows)
            for role, value in partition.items()
        }
        yield replace(rows, columns=rows.columns | columns) if partition else rows


def _read_columns(piece: Slice, data: DataConfig) -> Iterator[RawRows]:
    file, layout = piece.file, piece.file.layout
    if isinstance(layout, GroupLayout):
        table = file.listed.rows
        for rows in layout.read(file.content, range(piece.start, piece.end), piece.first_row):
            yield rows if table is None else _without(rows, table.deleted)
    elif piece.is_whole:
        yield from _read_stream(file, layout, data)
    else:
        content, offset = read_lines(
            file.content, piece.start, piece.end, file.data_start, file.size
        )
        name = f"{file.location}, bytes {offset:,} to {offset + len(content):,}"
        for rows in layout.parse(content, name):
            broken = [(position + offset, reason) for position, reason in rows.broken]
            yield RawRows(rows.columns, rows.positions + offset, broken)


def _without(rows: RawRows, deleted: bytes) -> RawRows:
    """The rows without those that a table has deleted; the others keep their positions."""
    kept = ~np.isin(rows.positions, np.frombuffer(deleted, "<i8"))
    if kept.all():
        return rows
    columns = {role: column.filter(pa.array(kept)) for role, column in rows.columns.items()}
    return RawRows(columns, rows.positions[kept], rows.broken)


def _read_stream(file: InputFile, layout: TextLayout, data: DataConfig) -> Iterator[RawRows]:
    """A file from its beginning, row by row numbered; blank lines and the header do not count."""
    name = file.location.uri
    with open_stream(file.content, file.coding) as stream:
        skip(stream, file.data_start)
        numbered = layout.parse_stream(stream, data.read_unit_bytes, name)
        if numbered is not None:
            yield from numbered
            return
        num_rows = 0
        for content in read_pieces(stream, data.read_unit_bytes, name):
            for rows in layout.parse(content, f"{name}, from row {num_rows:,} on"):
                yield _numbered(rows, num_rows)
                num_rows += len(rows.positions) + len(rows.broken)


def _numbered(rows: RawRows, first: int) -> RawRows:
    """Positions in bytes become row numbers from ``first``."""
    broken = np.array([position for position, _ in rows.broken], np.int64)
    order = np.sort(np.concatenate([rows.positions, broken]))
    numbers = first + np.searchsorted(order, rows.positions)
    broken_numbers = (first + np.searchsorted(order, broken)).tolist()
    reasons = [reason for _, reason in rows.broken]
    return RawRows(rows.columns, numbers, list(zip(broken_numbers, reasons, strict=True)))


def describe_copies(files: Sequence[FileInfo], setting: str) -> str | None:
    """Sentence about files that seem to be copies of others; None where there are none.

    They are as large and, on a disk, begin and end alike; on a store they have the same etag. Files
    of tables are none: the table says that their rows count.
    """
    sizes = Counter(file.size for file in files if file.rows is None)
    firsts: dict[object, str] = {}
    copies: dict[str, str] = {}
    for file in files:
        if file.rows is not None or not file.size or sizes[file.size] == 1:
            continue
        first = firsts.setdefault((file.size, _content_key(file)), file.location.uri)
        if first != file.location.uri:
            copies[file.location.uri] = first
    if not copies:
        return None
    copy, first = next(iter(copies.items()))
    more = f" (and {len(copies) - 1:,} more)" if len(copies) > 1 else ""
    return (
        f"{copy} has the content of {first}{more}: the rows of both count; if it is a copy, take "
        f"it out of {setting}"
    )


def _content_key(file: FileInfo) -> object:
    if not file.location.is_local:
        return file.etag
    try:
        with open(file.location.path, "rb") as opened:
            begin = opened.read(_COMPARED)
            opened.seek(max(0, file.size - _COMPARED))
            return hashlib.sha256(begin + opened.read(_COMPARED)).digest()
    except OSError:  # whoever reads it will say so
        return file.location.uri
