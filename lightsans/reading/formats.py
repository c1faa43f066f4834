"""The input formats: which file reads which, and which format a file has."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from lightsans.columns.nulls import bools
from lightsans.config import DataConfig
from lightsans.config.kinds import FORMATS, Format
from lightsans.errors import EmptyFileError, InputError
from lightsans.reading import csv_files, inter_files, jsonl_files, parquet_files
from lightsans.reading.columns import Found, Wanted, check_log_types, find_columns, log_columns
from lightsans.reading.input_files import (
    WHERE,
    Head,
    InputFile,
    TextLayout,
    readable,
    told_as_change,
)
from lightsans.reading.times import clean_timestamps
from lightsans.reading.values import NUMBER, Problems, as_utf8, matches
from lightsans.reading.where import check_where
from lightsans.storage.listing import begin_reading
from lightsans.storage.location import FileInfo, Location
from lightsans.text.coding import (
    COMPRESSIONS,
    PLAIN,
    Coding,
    compression_by_name,
    compression_of,
    find_coding,
    is_utf8,
    likely_encodings,
    open_stream,
)
from lightsans.text.foreign import foreign_kind
from lightsans.warehouse.partitions import partitions_of

READ_HEAD: Final[Mapping[Format, Callable[[Location, DataConfig, Coding], Head]]] = {
    "parquet": parquet_files.read_head,
    "csv": csv_files.read_head,
    "jsonl": jsonl_files.read_head,
    "inter": inter_files.read_head,
}
"""A row for each of `FORMATS`: looks at the columns of a file, and gives the layout that reads."""

_PARQUET_MAGIC = b"PAR1"
_BEGINNING = 512
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_FEW = 2
"""Rows in another encoding that may be accidents."""


def inspect_file(info: FileInfo, data: DataConfig) -> InputFile:
    """Look at a file of a log as far as needed to plan its reading.

    Raises:
        InputError: It is empty or unreadable, a column is missing, or has a type that cannot be
            used, or its text is in another encoding.
    """
    file = info.location
    head = read_head(info, data)
    try:
        wanted = log_columns(data)
        found = find_columns(file, head.names, wanted, partitions_of(info), types=head.types)
    except InputError:
        if not is_utf8(head.beginning):
            raise InputError(wrong_encoding(file, head.beginning, data)) from None
        raise
    _require_header(file, head, data)
    _require_apart(file, head, found, wanted)
    id_types = check_log_types(file, head, found, data)
    check_where(file, head, found, data)
    layout = head.layout(found.positions)
    _require_encoding(file, head, layout, data)
    oldest = _least_timestamp(head, found, data)
    return InputFile(info, layout, head.data_start, head.coding, found.partition, id_types, oldest)


def _require_header(file: Location, head: Head, data: DataConfig) -> None:
    """Refuse a first line that is a row: it would be lost, and its values taken for names.

    Raises:
        InputError: At the position that is said of the time, it has a number or a time.
    """
    place = str(data.columns.timestamp)
    is_asked = isinstance(head, csv_files.CsvHead) and data.header and place.isdecimal()
    if not is_asked or int(place) >= len(head.names):
        return
    name = pa.array([head.names[int(place)]])
    if name[0].as_py() == place:  # columns of pandas without names: 0, 1, 2
        return
    problems = Problems(1)
    clean_timestamps(name, data, problems)
    if problems.is_valid.all() or matches(name, NUMBER).all():
        raise InputError(
            f"{file}: the first line is to hold the names of columns, and has {name[0].as_py()!r} "
            f"at position {place} (data.columns.timestamp), a time as rows have it; set "
            "data.header: false (and data.format: csv where the file is named .inter)"
        )


def _require_apart(file: Location, head: Head, found: Found, wanted: Mapping[str, Wanted]) -> None:
    """Refuse a column that is two things, which names and positions may hide.

    Raises:
        InputError: There is one.
    """
    settings: dict[int, str] = {}
    for role, at in found.positions.items():
        if role.startswith(WHERE):
            continue
        other = settings.setdefault(at, wanted[role].setting)
        if other != wanted[role].setting:
            raise InputError(
                f"{file}: {other} and {wanted[role].setting} are both column {head.names[at]!r}; "
                "name another column for one of them"
            )


def _least_timestamp(head: Head, found: Found, data: DataConfig) -> int | None:
    """Least time of a file's rows, where ``data.as_of`` may make a difference."""
    at = found.positions.get("timestamp")
    least = None if at is None or data.as_of is None else head.least_value(at)
    if least is None:
        return None
    problems = Problems(1)
    micros = clean_timestamps(pa.array([least.as_py()], least.type), data, problems)
    return int(micros[0].as_py()) if problems.is_valid.all() else None


def read_head(info: FileInfo, data: DataConfig) -> Head:
    """The columns of a file.

    Raises:
        InputError: It is empty or unreadable.
    """
    with told_as_change(info), readable(info.location):
        file = begin_reading(info)
        kind, coding = _recognise(file, info.size, data)
        return READ_HEAD[kind](file, data, coding)


def recognise(info: FileInfo, data: DataConfig) -> tuple[Format, Coding]:
    """The format of a file, and how its text is stored, by its first bytes and its name.

    Raises:
        InputError: It is empty, or of a kind that cannot be read.
    """
    return _recognise(begin_reading(info), info.size, data)


def _recognise(file: Location, size: int, data: DataConfig) -> tuple[Format, Coding]:
    if size == 0:
        raise EmptyFileError(f"{file}: the file is empty (0 bytes); fill it or take it away")
    named = format_by_name(file, data)
    beginning = file.read_range(0, min(size, _BEGINNING))
    if beginning.startswith(_PARQUET_MAGIC):
        if data.format not in ("auto", "parquet"):
            raise InputError(
                f"{file}: data.format is {data.format}, and the file begins as parquet; set "
                "data.format: auto, which goes by the file"
            )
        return "parquet", PLAIN
    if named == "parquet" and (data.format == named or not _is_text(file, beginning)):
        return named, PLAIN  # the reader says what is wrong with it
    coding = find_coding(file, beginning, data.encoding)
    promised = compression_by_name(file.name)
    if promised is not None and coding.compression is None and not is_utf8(beginning):
        raise InputError(f"{file}: the file is damaged or cut off: it does not begin as {promised}")
    if not coding.is_plain:
        with open_stream(file, coding) as stream:
            beginning = stream.read(_BEGINNING)
    if coding.encoding == "utf-8" and (foreign := foreign_kind(beginning)):
        raise InputError(f"{file}: the file is {foreign}")
    named = None if named == "parquet" else named
    return (named if data.format != "auto" else _by_content(beginning, named)) or "csv", coding


def _is_text(file: Location, beginning: bytes) -> bool:
    """Whether a file that is named as parquet is text, compressed perhaps, or known as another."""
    if compression_of(beginning) is not None:
        with open_stream(file) as stream:
            beginning = stream.read(_BEGINNING)
    is_plain = is_utf8(beginning) and not _CONTROL.search(beginning)
    return is_plain or bool(foreign_kind(beginning))


def format_by_name(file: Location, data: DataConfig) -> Format | None:
    """The format that the configuration or the file name says, if any."""
    if data.format != "auto":
        return data.format
    name = file.name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return next((kind.name for kind in FORMATS.values() if name.endswith(kind.endings)), None)


def wrong_encoding(file: Location, content: bytes, data: DataConfig) -> str:
    """The message about text that is not in the encoding that the configuration says."""
    at = _first_undecodable(content)
    likely = " or ".join(likely_encodings(content))
    return (
        f"{file}: the text is not {data.encoding}: byte {at:,} is {content[at : at + 8]!r}; set "
        f"data.encoding, to {likely} perhaps"
    )


def _by_content(beginning: bytes, named: Format | None) -> Format | None:
    """The format of text; what it looks like wins over a name that says something else."""
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    line = text.partition(b"\n")[0]
    is_json = text.startswith((b"{", b"["))
    if named is None:
        return "jsonl" if is_json else None
    if named == "jsonl":
        return named if is_json or not text else "csv" if len(line) < _BEGINNING else named
    if text.startswith(b"{"):
        try:
            return "jsonl" if isinstance(json.loads(line), dict) else named
        except ValueError:
            return named
    return named


def _require_encoding(file: Location, head: Head, layout: object, data: DataConfig) -> None:
    """Refuse a file whose first rows are in another encoding; a few such rows are refused alone.

    Raises:
        InputError: They are.
    """
    if is_utf8(head.beginning) or not isinstance(layout, TextLayout) or layout.spans_lines():
        return
    if likely_encodings(head.beginning)[0].startswith("utf-16"):  # NULs are UTF-8, too
        raise InputError(wrong_encoding(file, head.beginning, data))
    lines = head.beginning[head.data_start : head.beginning.rfind(b"\n") + 1]
    num_rows = num_bad = 0
    for rows in layout.parse(lines, file.uri):
        is_bad = np.zeros(len(rows.positions), bool)
        for role in {"user", "item"} & set(rows.columns):
            problems = Problems(len(is_bad))
            if not bools(rows.columns[role].is_null()).all():
                as_utf8(rows.columns[role], problems)
            is_bad |= ~problems.is_valid
        num_rows, num_bad = num_rows + len(is_bad) + len(rows.broken), num_bad + int(is_bad.sum())
        num_bad += sum(reason == "not_utf8" for _, reason in rows.broken)
    limit = data.max_reject_fraction
    is_much = limit is not None and num_bad > limit * num_rows
    if is_much and (num_bad > _FEW or 2 * num_bad > num_rows):
        raise InputError(wrong_encoding(file, head.beginning, data))


def _first_undecodable(content: bytes) -> int:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0
