"""A bounded sample of an input with all its columns, and how it had to be read."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.arrow import one_chunk
from lightsans.config import DataConfig
from lightsans.config.kinds import Format
from lightsans.errors import InputError
from lightsans.reading.formats import read_head, recognise
from lightsans.reading.input_files import BESIDE, GroupLayout, Head, readable
from lightsans.reading.rows import RawRows
from lightsans.reading.values import NUMBER, is_text
from lightsans.storage.location import FileInfo
from lightsans.text.coding import is_utf8, likely_encodings, open_stream
from lightsans.text.dialects import escaped_quotes
from lightsans.text.pieces import read_pieces, skip
from lightsans.warehouse.partitions import partitions_of

SAMPLE_ROWS = 200_000
SAMPLE_BYTES = 8 * 2**20
_MAX_FILES = 16
_OBJECTS = pa.struct([])
"""Type that the head of JSON lines gives what is nested."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of an input."""

    data: DataConfig
    """Settings under which they could be read."""
    files: Sequence[FileInfo]
    format: Format
    head: Head
    names: Sequence[str]
    """Names of the columns, or their positions where there is no header; then partitions."""
    columns: Sequence[pa.Array]
    num_broken: int
    """Lines that could not be split."""
    is_whole: bool
    """Whether these are all rows of the input."""
    problems: Sequence[str]
    """Sentences about files that are unlike the first, or unreadable."""

    @property
    def num_rows(self) -> int:
        """Rows of the sample."""
        return len(self.columns[0])


def take_sample(files: Sequence[FileInfo], data: DataConfig) -> Sample:
    """Read the first rows of an input, and find out how.

    Args:
        files: The input.
        data: Settings to begin with; those that do not fit the first file are changed.

    Raises:
        InputError: The first file is unreadable.
    """
    first = files[0]
    with readable(first.location):
        kind, _ = recognise(first, data)
    data, head = _fitting(first, data)
    if not head.names:
        raise InputError(f"{first.location}: the file has no columns")
    try:
        blocks, is_whole = _read(first, head, data)
    except InputError:
        if data.newlines_in_values or kind != "csv":
            raise
        data = replace(data, newlines_in_values=True)  # quoted values span lines
        head = read_head(first, data)
        blocks, is_whole = _read(first, head, data)
    partitions = partitions_of(first)
    columns = [_joined([block[0][at] for block in blocks]) for at in range(len(head.names))]
    num_rows = len(columns[0])
    extra = [name for name in partitions if name not in head.names]
    columns += [pa.array([partitions[name]] * num_rows, pa.string()) for name in extra]
    return Sample(
        data,
        files,
        kind,
        head,
        [*head.names, *extra],
        columns,
        sum(block[1] for block in blocks),
        is_whole and len(files) == 1,
        list(_problems(files, head, data)),
    )


def _fitting(file: FileInfo, data: DataConfig) -> tuple[DataConfig, Head]:
    """Settings that fit the first lines of a file, and its columns."""
    head = read_head(file, data)
    if head.beginning and not is_utf8(head.beginning):
        data = replace(data, encoding=likely_encodings(head.beginning)[0])
        head = read_head(file, data)
    if head.beginning and data.header and _looks_like_data(head):
        columns = replace(data.columns, user=0, item=1, timestamp=2, rating=None)
        data = replace(data, header=False, columns=columns)
        head = read_head(file, data)
    dialect = getattr(head, "dialect", None)
    if dialect is not None and any(True for _ in escaped_quotes(head.beginning, dialect)):
        data = replace(data, escape="\\")
        head = read_head(file, data)
    return data, head


def _looks_like_data(head: Head) -> bool:
    """Whether the names of the columns are values: one of them is a number."""
    if not all(pa.types.is_binary(kind) for kind in head.types):
        return False
    names = pa.array([name.strip() for name in head.names])
    return bool(pc.any(pc.match_substring_regex(names, NUMBER)).as_py())


def _read(
    file: FileInfo, head: Head, data: DataConfig
) -> tuple[list[tuple[list[pa.Array], int]], bool]:
    """The columns of the first rows, and whether there are no others."""
    blocks, num_rows = [], 0
    is_whole = True
    with readable(file.location):
        for columns, num_broken, is_last in _blocks(file, head, data):
            room = SAMPLE_ROWS - num_rows
            blocks.append(([column.slice(0, room) for column in columns], num_broken))
            num_rows += len(columns[0])
            is_whole = is_last
            if num_rows >= SAMPLE_ROWS:
                is_whole = is_last and num_rows == SAMPLE_ROWS
                break
    if not blocks:
        blocks = [([pa.array([], kind) for kind in head.types], 0)]
    return blocks, is_whole


def _blocks(
    file: FileInfo, head: Head, data: DataConfig
) -> Iterator[tuple[list[pa.Array], int, bool]]:
    """Columns, number of lines that cannot be split, and whether it is the last block."""
    # Of JSON lines, objects and lists would refuse a row as users or items do; they are no columns.
    nested = {at for at, kind in enumerate(head.types) if kind == _OBJECTS}
    nested = nested if len(nested) < len(head.names) else set()
    roles = {f"{BESIDE}{at}": at for at in range(len(head.names)) if at not in nested}
    layout = head.layout(roles)
    name = file.location.uri
    if isinstance(layout, GroupLayout):
        groups = range(len(layout.row_groups()))
        total = sum(rows for rows, _ in layout.row_groups())
        seen = 0
        for group in groups:
            for rows in layout.read(file.location, [group], 0):
                seen += len(rows.positions)
                yield [_plain(rows.columns[role]) for role in roles], 0, seen >= total
        return
    with open_stream(file.location, head.coding) as stream:
        skip(stream, head.data_start)
        numbered = layout.parse_stream(stream, SAMPLE_BYTES, name)
        if numbered is not None:
            for rows in islice(numbered, 2):
                yield _with_nested(rows, nested), len(rows.broken), False
            return
        pieces = read_pieces(stream, SAMPLE_BYTES, name)
        content, more = next(pieces, b""), next(pieces, b"")
        if len(content) + len(more) <= SAMPLE_BYTES:  # a last line without an end
            content, more = content + more, next(pieces, b"")
        is_last = not more
    parsed = list(layout.parse(content, name))
    for number, rows in enumerate(parsed, start=1):
        is_end = is_last and number == len(parsed)
        yield _with_nested(rows, nested), len(rows.broken), is_end


def _joined(pieces: Sequence[pa.Array]) -> pa.Array:
    """The pieces of a column; JSON lines that do not fit the first ones come as text."""
    if len({piece.type for piece in pieces}) > 1:
        pieces = [piece.cast(pa.string()) for piece in pieces]
    return one_chunk(pa.chunked_array(pieces))


def _with_nested(rows: RawRows, nested: Collection[int]) -> list[pa.Array]:
    """The columns of a text file in their order, with objects that tell nothing for the nested."""
    columns = [*rows.columns.values()]
    for at in sorted(nested):
        columns.insert(at, pa.array([{}] * len(rows.positions), _OBJECTS))
    return columns


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _problems(files: Sequence[FileInfo], head: Head, data: DataConfig) -> Iterator[str]:
    """Sentences about other files whose columns differ, or that cannot be read."""
    for file in files[1:_MAX_FILES]:
        try:
            other = read_head(file, data)
        except InputError as error:
            yield str(error)
            continue
        if set(other.names) != set(head.names):
            missing = sorted(set(head.names) - set(other.names))
            more = sorted(set(other.names) - set(head.names))
            yield (
                f"{file.location}: its columns are not those of {files[0].location}"
                f"{': without ' + ', '.join(map(repr, missing)) if missing else ''}"
                f"{'; more: ' + ', '.join(map(repr, more)) if more else ''}"
            )
            continue
        types = dict(zip(head.names, head.types, strict=True))
        for name, kind in zip(other.names, other.types, strict=True):
            known = types[name]
            if is_text(kind) != is_text(known) and not (
                pa.types.is_null(kind) or pa.types.is_null(known)
            ):
                yield (
                    f"{file.location}: column {name!r} is {kind}, and {known} in "
                    f"{files[0].location}"
                )
