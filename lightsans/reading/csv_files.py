"""Csv: lines of fields, every value kept as bytes."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lightsans.arrays import Int64
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.input_files import Head, TextLayout
from lightsans.reading.rows import RawRows
from lightsans.reading.text_pieces import line_starts, read_first_lines
from lightsans.storage.location import FileInfo

Columns = dict[str, pa.Array]

_BOM = b"\xef\xbb\xbf"
_STAND_INS = [bytes([code]) for code in (0x1F, 0x1E, 0x1D, 0x1C, 0x01, 0x02, 0x03, 0x04)]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Rules by which a line is split into fields."""

    separator: str
    quote_char: str | None


@dataclass(frozen=True, slots=True)
class CsvLayout(TextLayout):
    """Positions of the values in a line."""

    dialect: Dialect
    num_fields: int
    roles: Mapping[str, int]
    """Field number of each column that is read."""
    newlines_in_values: bool = False

    def parse(self, content: bytes, name: str) -> Iterator[RawRows]:
        """The rows of whole lines; see `parse_lines`."""
        rows = parse_lines(content, self, name)
        if rows is not None:
            yield rows

    def parse_stream(
        self, stream: pa.NativeFile, block_bytes: int, name: str
    ) -> Iterator[RawRows] | None:
        """The rows of a stream whose quoted values may span lines; see `parse_stream`."""
        return parse_stream(stream, self, block_bytes, name) if self.spans_lines() else None

    def spans_lines(self) -> bool:
        """Whether quoted values may span lines."""
        return self.newlines_in_values and self.dialect.quote_char is not None


@dataclass(frozen=True, slots=True)
class CsvHead(Head):
    """Names of the columns of a csv file, or their positions where it has no header."""

    dialect: Dialect
    newlines_in_values: bool = False

    def layout(self, roles: Mapping[str, int]) -> CsvLayout:
        """The way to read the columns at some positions."""
        return CsvLayout(self.dialect, len(self.names), roles, self.newlines_in_values)


def read_head(info: FileInfo, data: DataConfig) -> CsvHead:
    """Look at the first line of a csv file.

    Raises:
        InputError: There is none.
    """
    dialect = Dialect(data.separator, data.quote_char)
    fields, data_start = read_first_fields(info, dialect, data.header)
    names = fields if data.header else [str(position) for position in range(len(fields))]
    types = [pa.binary()] * len(names)
    return CsvHead(tuple(names), types, data_start, dialect, data.newlines_in_values)


def read_first_fields(info: FileInfo, dialect: Dialect, has_header: bool) -> tuple[list[str], int]:
    """The values of the first line of a file, and the byte where its data begins.

    Raises:
        InputError: There is no line.
    """
    file = info.location
    content = read_first_lines(file, info.size)
    start = len(_BOM) if content.startswith(_BOM) else 0
    while content[start : start + 1] in (b"\n", b"\r"):
        start += 1
    ends = [content.find(b"\n", start), content.find(b"\r", start), len(content)]
    end = min(end for end in ends if end >= 0)
    fields = _split(content[start:end], dialect, file.uri)
    return fields, min(end + 1, len(content)) if has_header else start


def parse_lines(piece: bytes, layout: CsvLayout, name: str) -> RawRows | None:
    """The rows of whole lines; None when there is none. Positions are bytes of the piece.

    Raises:
        InputError: A quoted value contains a line end.
    """
    starts = line_starts(piece)
    if not len(starts):
        return None
    quote = layout.dialect.quote_char
    is_quoted = quote is not None and quote.encode() in piece
    text, separator = _with_single_byte_separator(piece, layout.dialect.separator, name)
    if is_quoted:  # an open quote on the last line swallows the line that we add
        text += b"\n" + separator * (layout.num_fields - 1) + b"\n"
    broken: list[int] = []
    source = pa.BufferReader(text)
    batches = list(_parse(source, layout, separator, len(text) + 1, broken, name))
    columns = {
        role: pa.concat_arrays([batch[role] for batch in batches] or [pa.array([], pa.binary())])
        for role in layout.roles
    }
    num_valid = _num_rows(columns) - is_quoted
    if num_valid + len(broken) != len(starts):
        raise InputError(
            f"{name}: {len(starts):,} lines hold {num_valid + len(broken):,} rows, so a quoted "
            f"value spans lines{_first_open_quote(piece, starts, quote)}; set "
            "data.newlines_in_values: true, or data.quote_char: null when quotes are plain text"
        )
    if is_quoted:
        columns = {role: column.slice(0, num_valid) for role, column in columns.items()}
        columns = _restore_separators(columns, separator, layout.dialect.separator)
    numbers = _numbers_of_valid(0, num_valid, np.array(broken, np.int64))
    return RawRows(columns, starts[numbers], _wrong_fields(starts[broken].tolist()))


def parse_stream(
    stream: pa.NativeFile, layout: CsvLayout, block_bytes: int, name: str
) -> Iterator[RawRows]:
    """The rows of a stream whose quoted values may span lines. Positions are row numbers.

    Raises:
        InputError: A quote is never closed, or a row is longer than a block.
    """
    separator = layout.dialect.separator.encode()
    ours = b"\n" + separator * (layout.num_fields - 1) + b"\n"  # swallowed by an open quote
    source = pa.PythonFile(_Followed(stream, ours), mode="r")
    broken: list[int] = []
    num_valid = num_told = 0
    last: Columns | None = None
    for columns in _parse(source, layout, separator, block_bytes, broken, name):
        if not _num_rows(columns):
            continue
        if last is not None:
            yield _numbered(last, num_valid, broken, num_told)
            num_valid, num_told = num_valid + _num_rows(last), len(broken)
        last = columns
    total = num_valid + (_num_rows(last) if last else 0) + len(broken)
    is_ours = last is not None and all(column[-1].as_py() == b"" for column in last.values())
    if last is None or not is_ours or (broken and broken[-1] == total - 1):
        raise InputError(
            f"{name}: a quote is opened and never closed; mend it, or set data.quote_char: null "
            "when quotes are plain text"
        )
    last = {role: column.slice(0, len(column) - 1) for role, column in last.items()}
    yield _numbered(last, num_valid, broken, num_told)


def _numbered(columns: Columns, num_before: int, broken: list[int], num_told: int) -> RawRows:
    numbers = _numbers_of_valid(num_before, _num_rows(columns), np.array(broken, np.int64))
    return RawRows(columns, numbers, _wrong_fields(broken[num_told:]))


def _num_rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _numbers_of_valid(num_before: int, count: int, broken: Int64) -> Int64:
    """Numbers of the next ``count`` valid rows, given the numbers of all broken ones."""
    ranks = np.arange(num_before, num_before + count)
    valid_before_broken = broken - np.arange(len(broken))
    return ranks + np.searchsorted(valid_before_broken, ranks, side="right")


def _wrong_fields(positions: list[int]) -> list[tuple[int, str]]:
    return [(position, "wrong_number_of_fields") for position in positions]


def _parse(
    source: pa.NativeFile,
    layout: CsvLayout,
    separator: bytes,
    block_bytes: int,
    broken: list[int],
    name: str,
) -> Iterator[Columns]:
    """The needed columns as bytes, block by block; numbers of broken rows go to ``broken``."""

    def on_invalid(row: pyarrow.csv.InvalidRow) -> str:
        broken.append(row.number - 1)
        return "skip"

    roles = {role: str(field) for role, field in layout.roles.items()}
    try:
        reader = pyarrow.csv.open_csv(
            source,
            pyarrow.csv.ReadOptions(
                use_threads=False,  # with threads, row numbers are unknown
                block_size=block_bytes,
                column_names=[str(field) for field in range(layout.num_fields)],
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator.decode("latin-1"),
                quote_char=layout.dialect.quote_char or False,
                newlines_in_values=True,  # parse_lines finds them by counting
                invalid_row_handler=on_invalid,
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=list(dict.fromkeys(roles.values())),
                column_types=dict.fromkeys(roles.values(), pa.binary()),
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            yield {role: batch[field] for role, field in roles.items()}
    except pa.ArrowInvalid as error:
        raise InputError(f"{name}: not readable as csv: {error}") from None


def _with_single_byte_separator(piece: bytes, separator: str, name: str) -> tuple[bytes, bytes]:
    """Arrow takes one byte only: a longer separator is replaced by one that occurs nowhere."""
    encoded = separator.encode()
    if len(encoded) == 1:
        return piece, encoded
    for stand_in in _STAND_INS:
        if stand_in not in piece:
            return piece.replace(encoded, stand_in), stand_in
    raise InputError(
        f"{name}: the text holds every control character that could stand for data.separator "
        f"{separator!r}; convert the file to a separator of one byte"
    )


def _restore_separators(columns: Columns, stand_in: bytes, separator: str) -> Columns:
    """Inside quotes, a separator is part of the value."""
    encoded = separator.encode()
    if stand_in == encoded:
        return columns
    return {
        role: pc.replace_substring(column, pattern=stand_in, replacement=encoded)
        for role, column in columns.items()
    }


def _first_open_quote(piece: bytes, starts: Int64, quote: str | None) -> str:
    if quote is None:
        return ""
    for number, line in enumerate(line for line in piece.splitlines() if line):
        if line.count(quote.encode()) % 2:
            return f" (look {starts[number]:,} bytes on)"
    return ""


def _split(line: bytes, dialect: Dialect, name: str) -> list[str]:
    text, separator = _with_single_byte_separator(line, dialect.separator, name)
    rows = csv.reader(
        [text.decode(errors="replace")],
        delimiter=separator.decode("latin-1"),
        quotechar=dialect.quote_char,
        quoting=csv.QUOTE_NONE if dialect.quote_char is None else csv.QUOTE_MINIMAL,
    )
    try:
        return [field.strip() for field in next(rows)]
    except csv.Error as error:
        raise InputError(f"{name}: the first line is not readable as csv: {error}") from None


class _Followed:
    """A stream with some bytes after its end, for Arrow to read."""

    def __init__(self, stream: pa.NativeFile, ending: bytes) -> None:
        self._stream, self._ending = stream, ending
        self.closed = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        content: bytes = self._stream.read(size)
        if not content:
            content, self._ending = self._ending[:size], self._ending[size:]
        return content

    def close(self) -> None:
        """Nothing to close: the stream belongs to the caller."""
        self.closed = True
