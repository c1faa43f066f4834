"""Dialect of a csv file: separator, header, comments and row names, found in its first lines."""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lightsans.errors import InputError
from lightsans.text.pieces import BOM

BLANKS: Final = r"\s+"
"""A separator: any run of blanks and tabs."""

_SEPARATORS: Final = (",", "\t", ";", "|", "::", " ", BLANKS, "\x01")
_WITH_BLANK: Final = {",": ", ", ";": "; "}
"""Separators that people write a blank after, before a value in quotes."""
_STAND_INS = [bytes([code]) for code in (0x1F, 0x1E, 0x1D, 0x1C, 0x01, 0x02, 0x03, 0x04)]
_SAMPLE_LINES = 200
_MOST_TITLES = 20
"""Lines in which the names of columns are looked for, to tell that they stand too far below."""
_SEP_LINE = re.compile(rb'"?sep=(.|\\t)"?\s*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Rules by which a line is split into fields."""

    separator: str
    quote_char: str | None
    escape: str | None = None


@dataclass(frozen=True, slots=True)
class FirstLines:
    """Content of the first lines of a file."""

    dialect: Dialect
    fields: list[str]
    """Names of the columns; numbers where there is no header."""
    data_start: int
    """Byte, after decompression, where the first line of data begins."""


def read_head(
    content: bytes,
    name: str,
    wanted: Sequence[str | int],
    *,
    separator: str | None,
    quote_char: str | None,
    escape: str | None = None,
    has_header: bool = True,
) -> FirstLines:
    """Find the names of the columns, and how lines are split.

    Lines before the header that begin with ``#`` are comments, and a line ``sep=;`` says the
    separator, as Excel writes it. Where rows have a field more than the header, they begin with
    R's row names (integers that rise), or end with a separator; otherwise they are rows of a wrong
    number of fields.

    Args:
        content: The beginning of the file, in UTF-8.
        name: Name of the file, for messages.
        wanted: Names or positions of the columns that are to be found.
        separator: The one to use; None finds it.
        quote_char: Character around values.
        escape: Character that takes the meaning from the next one.
        has_header: Whether the first line holds names.

    Raises:
        InputError: The lines cannot be split.
    """
    lines = _complete_lines(content)
    told = _SEP_LINE.fullmatch(lines[0][1]) if lines else None
    if told is not None and len(lines) > 1:
        said = told[1].decode("latin-1").replace(r"\t", "\t")
        separator, lines = separator or said, lines[1:]
    is_comment = [line.startswith(b"#") for _, line in lines]
    num_comments = is_comment.index(False) if False in is_comment else len(lines)
    dialects = [
        Dialect(each, quote_char, escape)
        for each in ([separator] if separator is not None else _SEPARATORS)
    ]
    for start in range(num_comments) if has_header else ():  # "# user_id item_id timestamp"
        for dialect in dialects:
            fields = _split(lines[start][1].lstrip(b"# "), dialect, name)
            if _num_found(fields, wanted) == len(wanted):
                return _head(lines[start:], fields, dialect, content, name)
    is_data = not has_header and 0 < num_comments < len(lines)
    if num_comments == len(lines) or (
        is_data and _same_fields(lines, num_comments, dialects, name)
    ):
        num_comments = 0
    lines = lines[num_comments:]
    dialect = max(dialects, key=lambda each: _fit(lines, each, wanted, has_header, name))
    if separator is None and dialect.separator in _WITH_BLANK:
        dialect = _with_blank(lines, dialect, name)
    fields = _split(lines[0][1], dialect, name)
    if has_header:
        if _num_found(fields, wanted) < len(wanted):
            _require_header_first(lines, dialects, wanted, name)
        return _head(lines, fields, dialect, content, name)
    return FirstLines(dialect, [str(n) for n in range(len(fields))], lines[0][0])


def single_byte_separator(piece: bytes, dialect: Dialect, name: str) -> tuple[bytes, bytes]:
    """Text with a separator of one byte, and that byte: Arrow takes no longer one.

    A longer separator is replaced by a byte that occurs nowhere.
    """
    encoded = dialect.separator.encode()
    if len(encoded) == 1:
        return piece, encoded
    for stand_in in _STAND_INS:
        if stand_in not in piece:
            if dialect.separator != BLANKS:
                return piece.replace(encoded, stand_in), stand_in
            return _join_blanks(piece, dialect.quote_char, stand_in), stand_in
    raise InputError(
        f"{name}: the text holds every control character that could stand for data.separator "
        f"{dialect.separator!r}; convert the file to a separator of one byte"
    )


def escaped_quotes(piece: bytes, dialect: Dialect) -> Iterator[int]:
    r"""Places of ``\"`` within quotes where the quotes do not end: another dialect's."""
    if dialect.quote_char is None or dialect.escape is not None:
        return
    quote = dialect.quote_char.encode()
    if b"\\" + quote not in piece:
        return
    q, sep = (
        re.escape(quote),
        rb"[ \t]+" if dialect.separator == BLANKS else re.escape(dialect.separator.encode()),
    )
    inside = rb"(?:[^" + q + rb"\\\n]|\\[^" + q + rb"\n]|" + q + q + rb")*"
    pattern = rb"(?:^|[\r\n]|" + sep + rb")" + q + inside + rb"\\" + q
    pattern += rb"(?!" + sep + rb"|[\r\n" + q + rb"]|$)"
    for match in re.finditer(pattern, piece):
        yield match.end() - 1


def keep_null_word(text: bytes, separator: bytes, escape: str | None) -> bytes:
    r"""Escape the backslash of a field that is ``\N``, which databases write for null."""
    if escape != "\\" or rb"\N" not in text:
        return text
    pattern = (
        rb"(^|[\r\n" + re.escape(separator) + rb'])("?)\\N(?="?(?:[\r\n' + re.escape(separator)
    )
    return re.sub(pattern + rb"]|$))", rb"\1\2\\\\N", text)


def _complete_lines(content: bytes) -> list[tuple[int, bytes]]:
    """Offset and content of the first lines that are not blank and not cut."""
    start = len(BOM) if content.startswith(BOM) else 0
    found = [
        (match.start(), match[0])
        for match in re.compile(rb"[^\r\n]+").finditer(content, start)
        if match[0].strip(b" ")
    ]
    if len(found) > 1 and not content.endswith((b"\n", b"\r")):
        found = found[:-1] if len(content) >= 2**16 else found
    return found[:_SAMPLE_LINES]


def _head(
    lines: Sequence[tuple[int, bytes]],
    fields: list[str],
    dialect: Dialect,
    content: bytes,
    name: str,
) -> FirstLines:
    """The head of a file whose first line holds these names."""
    rows = [_split(line, dialect, name) for _, line in lines[1:] if not line.startswith(b"#")]
    if rows and all(len(row) == len(fields) + 1 for row in rows):
        if all(row[-1] == "" for row in rows):
            fields = [*fields, ""]
        elif _are_row_names([row[0] for row in rows]):
            fields = ["", *fields]
    start, line = lines[0]
    end = start + len(line)
    return FirstLines(dialect, fields, min(end + 1, len(content)))


def _require_header_first(
    lines: Sequence[tuple[int, bytes]],
    dialects: Sequence[Dialect],
    wanted: Sequence[str | int],
    name: str,
) -> None:
    """Refuse a file whose names of columns stand below a title, for example."""
    for number, (_, line) in enumerate(lines[1:_MOST_TITLES], start=1):
        if any(
            _num_found(_split(line, each, name), wanted) == len(wanted)
            and not all(str(column).isdecimal() for column in wanted)
            for each in dialects
        ):
            raise InputError(
                f"{name}: the names of the columns stand in line {number + 1}, blank lines aside, "
                f"below {lines[0][1][:60].decode(errors='replace')!r}; take away what is above "
                "them, or begin it with #"
            )


def _are_row_names(values: Sequence[str]) -> bool:
    """Whether values are row names as R counts them: 1 and on, with gaps where rows were left out.

    A first column of anything else is one that the header names, and a later one has no name.
    """
    if not all(value.isdecimal() and value.isascii() for value in values):
        return False
    numbers = [int(value) for value in values]
    is_rising = all(a < b for a, b in itertools.pairwise(numbers))
    return is_rising and (len(numbers) > 1 or numbers == [1])


def _with_blank(lines: Sequence[tuple[int, bytes]], dialect: Dialect, name: str) -> Dialect:
    """The dialect with a blank after the separator, where quotes begin behind such a blank.

    Quotes only count at the beginning of a value: ``a, "b,c"`` would be three.
    """
    if dialect.quote_char is None:
        return dialect
    wider = replace(dialect, separator=_WITH_BLANK[dialect.separator])
    begins = wider.separator + dialect.quote_char
    is_so = any(
        field.startswith(dialect.quote_char) and begins.encode() in line
        for _, line in lines
        for field in _split(line, dialect, name)[1:]
    )
    return wider if is_so else dialect


def _same_fields(
    lines: Sequence[tuple[int, bytes]], num_comments: int, dialects: Sequence[Dialect], name: str
) -> bool:
    """Whether lines that begin with # have as many fields as the first one that does not."""
    return any(
        len(_split(lines[0][1], each, name)) == len(_split(lines[num_comments][1], each, name)) > 1
        for each in dialects
    )


def _fit(
    lines: Sequence[tuple[int, bytes]],
    dialect: Dialect,
    wanted: Sequence[str | int],
    has_header: bool,
    name: str,
) -> tuple[int, float, int]:
    """How well a dialect fits: wanted columns, share of lines split alike, number of fields."""
    rows = [_split(line, dialect, name) for _, line in lines]
    width = len(rows[0])
    if width == 1:
        return 0, 0.0, 1
    found = _num_found(rows[0], wanted) if has_header else sum(int(w) < width for w in wanted)
    widths = {width, width + 1} if has_header else {width}
    alike = sum(len(row) in widths for row in rows) / len(rows)
    return found, round(alike, 1), width


def _num_found(fields: Sequence[str], wanted: Sequence[str | int]) -> int:
    names = [field.rsplit(":", 1)[0] for field in fields] + list(fields)
    return sum(
        name in names or (str(name).isdigit() and int(name) < len(fields)) for name in wanted
    )


def _join_blanks(piece: bytes, quote_char: str | None, stand_in: bytes) -> bytes:
    """Runs of blanks outside quotes as one byte, those around a line as none."""
    piece = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", piece)
    if quote_char is None or quote_char.encode() not in piece:
        return re.sub(rb"[ \t]+", stand_in, piece)
    quote = re.escape(quote_char.encode())
    quoted = rb"(" + quote + rb"[^" + quote + rb"\n]*" + quote + rb")|[ \t]+"
    return re.sub(quoted, lambda match: match[1] or stand_in, piece)


def _split(line: bytes, dialect: Dialect, name: str) -> list[str]:
    text, separator = single_byte_separator(line, dialect, name)
    rows = csv.reader(
        [text.decode(errors="replace")],
        delimiter=separator.decode("latin-1"),
        quotechar=dialect.quote_char,
        escapechar=dialect.escape,
        quoting=csv.QUOTE_NONE if dialect.quote_char is None else csv.QUOTE_MINIMAL,
    )
    try:
        return [field.strip() for field in next(rows)]
    except csv.Error as error:
        raise InputError(f"{name}: the first line is not readable as csv: {error}") from None
