"""Csv: lines of fields, every value kept as bytes."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lightsans.arrays import Bool, Int64
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.input_files import Head, TextLayout
from lightsans.reading.rows import RawRows
from lightsans.storage.location import Location
from lightsans.text import dialects
from lightsans.text.coding import Coding
from lightsans.text.dialects import BLANKS, Dialect
from lightsans.text.pieces import MAX_LINE_BYTES, line_starts, read_beginning

Columns = dict[str, pa.Array]

_COMMENT = b"#"
_BLOCK = 2**20
_LONGEST_WAIT_S, _MOMENT_S = 1.0, 0.01


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


def read_head(file: Location, data: DataConfig, coding: Coding) -> CsvHead:
    """Look at the first lines of a csv file.

    Raises:
        InputError: There is none, or they cannot be split.
    """
    content = read_beginning(file, coding)
    found = dialects.read_head(
        content,
        file.uri,
        data.columns.required(),
        separator=data.separator,
        quote_char=data.quote_char,
        escape=data.escape,
        has_header=data.header,
    )
    return csv_head(found, coding, content, data.newlines_in_values)


def csv_head(
    found: dialects.FirstLines, coding: Coding, beginning: bytes, newlines_in_values: bool = False
) -> CsvHead:
    """The columns that the first lines of a file tell."""
    names, types = tuple(found.fields), [pa.binary()] * len(found.fields)
    start, dialect = found.data_start, found.dialect
    return CsvHead(names, types, start, coding, beginning, dialect, newlines_in_values)


def parse_lines(piece: bytes, layout: CsvLayout, name: str) -> RawRows | None:
    """The rows of whole lines; None when there is none. Positions are bytes of the piece.

    Raises:
        InputError: A quoted value contains a line end.
    """
    starts = line_starts(piece)
    if not len(starts):
        return None
    dialect = layout.dialect
    kept, is_foreign = _without_foreign_lines(piece, starts, dialect)
    foreign = [(int(start), "escaped_quote") for start in starts[is_foreign]]
    starts = starts[~is_foreign]
    quote = dialect.quote_char
    is_quoted = quote is not None and quote.encode() in kept
    text, separator = dialects.single_byte_separator(kept, dialect, name)
    text = dialects.keep_null_word(text, separator, dialect.escape)
    if is_quoted:  # an open quote on the last line swallows the line that we add
        text += _last_line(layout, separator)
    broken: list[int] = []
    source = pa.BufferReader(text)
    batches = list(_parse(source, layout, separator, len(text) + 1, broken, set(), name))
    columns = {
        role: pa.concat_arrays([batch[role] for batch in batches] or [pa.array([], pa.binary())])
        for role in layout.roles
    }
    num_valid = _num_rows(columns) - is_quoted
    if num_valid + len(broken) != len(starts):
        raise InputError(
            f"{name}: {len(starts):,} lines hold {num_valid + len(broken):,} rows, so a quoted "
            f"value spans lines{_first_open_quote(kept, starts, quote)}; set "
            "data.newlines_in_values: true, or data.quote_char: null when quotes are plain text, "
            "or data.escape where quotes within quotes follow a backslash"
        )
    if is_quoted:
        columns = {role: column.slice(0, num_valid) for role, column in columns.items()}
        columns = _restore_separators(columns, separator, dialect.separator)
    numbers = _numbers_of_valid(0, num_valid, np.array(broken, np.int64))
    told = [at for at in starts[broken].tolist() if piece[at : at + 1] != _COMMENT]
    return RawRows(columns, starts[numbers], [*_wrong_fields(told), *foreign])


def _without_foreign_lines(piece: bytes, starts: Int64, dialect: Dialect) -> tuple[bytes, Bool]:
    """The piece without the lines whose quotes follow other rules, and which lines those are."""
    is_foreign = np.zeros(len(starts), bool)
    places = list(dialects.escaped_quotes(piece, dialect))
    if not places:
        return piece, is_foreign
    is_foreign[np.searchsorted(starts, places, side="right") - 1] = True
    ends = np.append(starts[1:], len(piece))
    lines = zip(starts.tolist(), ends.tolist(), is_foreign.tolist(), strict=True)
    return b"".join(piece[start:end] for start, end, is_out in lines if not is_out), is_foreign


def parse_stream(
    stream: pa.NativeFile, layout: CsvLayout, block_bytes: int, name: str
) -> Iterator[RawRows]:
    """The rows of a stream whose quoted values may span lines. Positions are row numbers.

    Raises:
        InputError: A quote is never closed, or a row is longer than a block.
    """
    separator = layout.dialect.separator.encode()
    if len(separator) != 1:
        raise InputError(
            f"{name}: data.newlines_in_values needs a separator of one byte; found "
            f"{layout.dialect.separator!r}"
        )
    ours = _last_line(layout, separator)  # swallowed by an open quote
    followed = _Followed(stream, ours, layout.dialect, name)
    try:
        yield from _rows_of(followed, layout, separator, block_bytes, name)
    except BaseException:  # of a caller, too, who asks for no more rows
        followed.end()
        raise


def _rows_of(
    followed: "_Followed", layout: CsvLayout, separator: bytes, block_bytes: int, name: str
) -> Iterator[RawRows]:
    source = pa.PythonFile(followed, mode="r")
    broken: list[int] = []
    comments: set[int] = set()
    num_valid = num_told = 0
    last: Columns | None = None
    for columns in _parse(source, layout, separator, block_bytes, broken, comments, name):
        if not _num_rows(columns):
            continue
        if last is not None:
            found = len(broken)  # Arrow reads ahead, in a thread of its own: there may soon be more
            yield _numbered(last, num_valid, broken[:found], comments, num_told)
            num_valid, num_told = num_valid + _num_rows(last), found
        last = columns
    total = num_valid + (_num_rows(last) if last else 0) + len(broken)
    is_ours = last is not None and all(column[-1].as_py() == b"" for column in last.values())
    if last is None or not is_ours or (broken and broken[-1] == total - 1):
        raise InputError(
            f"{name}: a quote is opened and never closed; mend it, or set data.quote_char: null "
            "when quotes are plain text"
        )
    last = {role: column.slice(0, len(column) - 1) for role, column in last.items()}
    yield _numbered(last, num_valid, broken, comments, num_told)


def _last_line(layout: CsvLayout, separator: bytes) -> bytes:
    """A line of empty values; of one column, a quoted one, as a blank line is no row."""
    quote = (layout.dialect.quote_char or "").encode()
    values = separator * (layout.num_fields - 1) or 2 * quote
    return b"\n" + values + b"\n"


def _numbered(
    columns: Columns, num_before: int, broken: list[int], comments: set[int], num_told: int
) -> RawRows:
    numbers = _numbers_of_valid(num_before, _num_rows(columns), np.array(broken, np.int64))
    told = [number for number in broken[num_told:] if number not in comments]
    return RawRows(columns, numbers, _wrong_fields(told))


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
    comments: set[int],
    name: str,
) -> Iterator[Columns]:
    """The needed columns as bytes, block by block.

    Numbers of broken rows go to ``broken``, and those of comments among them to ``comments``.
    """

    def on_invalid(row: pyarrow.csv.InvalidRow) -> str:
        if row.text.startswith(_COMMENT.decode()):
            comments.add(row.number - 1)
        broken.append(row.number - 1)  # last: whoever sees it sees whether it is a comment
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
                escape_char=layout.dialect.escape or False,
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
        hint = (
            ". A quote is opened and never closed, perhaps (data.quote_char: null when quotes are "
            "plain text), or a row is longer than data.read_unit_bytes"
        )
        is_long = "straddles" in str(error)
        raise InputError(f"{name}: not readable as csv: {error}{hint if is_long else ''}") from None


def _restore_separators(columns: Columns, stand_in: bytes, separator: str) -> Columns:
    """Inside quotes, a separator is part of the value."""
    encoded = separator.encode()
    if stand_in == encoded or separator == BLANKS:  # blanks within quotes were left alone
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


class _Followed:
    """A stream made ready for Arrow, with some bytes after its end."""

    def __init__(self, stream: pa.NativeFile, ending: bytes, dialect: Dialect, name: str) -> None:
        self._stream, self._ending, self._dialect, self._name = stream, ending, dialect, name
        self._rest, self._ready = b"", b""
        self._is_done = self._is_stopped = False
        self._ended = threading.Event()
        self.closed = False

    def read(self, size: int) -> bytes:
        """Read ``size`` bytes, and less at the end alone: Arrow takes what it gets for a block.

        A row that begins in a block must end in the next one, so short ones would not do.

        Raises:
            InputError: Quotes within quotes follow a backslash, and no escape is set.
        """
        try:
            found = b"" if self._is_stopped else self._read(size)
        except BaseException:
            self._ended.set()
            raise
        if not found:
            self._ended.set()
        return found

    def end(self) -> None:
        """Wait until Arrow's thread, which reads ahead, asks for no more.

        A process that ends while that thread waits for Python's lock never does.
        """
        self._is_stopped = True
        if not self._ended.wait(_LONGEST_WAIT_S):
            return  # it has read enough ahead, and sleeps
        time.sleep(_MOMENT_S)  # in which it leaves Python

    def _read(self, size: int) -> bytes:
        ready, length = [self._ready], len(self._ready)
        while length < size and not self._is_done:
            block = self._stream.read(_BLOCK)
            self._is_done = not block
            self._rest += block
            cut = self._rest.rfind(b"\n") + 1 if block else len(self._rest)
            if not cut and len(self._rest) > MAX_LINE_BYTES:
                cut = len(self._rest)
            ready.append(self._prepared(self._rest[:cut]))
            ready += [self._ending] if self._is_done else []
            length, self._rest = sum(map(len, ready)), self._rest[cut:]
        whole = b"".join(ready)
        found, self._ready = whole[:size], whole[size:]
        return found

    def _prepared(self, lines: bytes) -> bytes:
        dialect = self._dialect
        if next(dialects.escaped_quotes(lines, dialect), None) is not None:
            raise InputError(
                f"{self._name}: a quote follows a backslash within quotes, as Spark writes it; set "
                "data.escape: '\\', or data.quote_char: null when quotes are plain text"
            )
        return dialects.keep_null_word(lines, dialect.separator.encode(), dialect.escape)

    def close(self) -> None:
        """Nothing to close: the stream belongs to the caller."""
        self.closed = True
