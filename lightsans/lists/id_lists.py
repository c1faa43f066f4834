"""Lists of ids: one id a line, or the column of ids of a table.

Ids are those that a log would have, ``007`` stays ``007``; where the log has integers, whatever is
the same integer is the same id, ``7.0`` for example. A listed id stands for itself and for the same
without blanks around it: logs keep their blanks, people who write lists seldom see them.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool
from lightsans.columns.arrow import one_chunk
from lightsans.columns.nulls import bools
from lightsans.config import DataConfig, RunConfig, to_dict
from lightsans.config.marks import recorded_value
from lightsans.errors import EmptyFileError, InputError
from lightsans.lists.tables import Table, about, dialect_of, is_table, list_table, table_of
from lightsans.reading.columns import Wanted
from lightsans.reading.formats import recognise, wrong_encoding
from lightsans.reading.input_files import readable
from lightsans.reading.values import NUMBER, keep_only, matches
from lightsans.storage.location import FileInfo, Location
from lightsans.text.coding import Coding, is_utf8, open_stream
from lightsans.text.pieces import BOM, read_beginning

_SEPARATORS = (",", ";", "\t", "|")
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class IdList:
    """The ids that a setting lists."""

    setting: str
    location: Location
    raw: pa.Array
    """(N,) as the file has them, each once, without blank ones."""
    stripped: pa.Array
    """(N,) the same without blanks around them."""

    @property
    def ids(self) -> pa.Array:
        """Everything the list stands for, each once, sorted."""
        ids = pc.unique(pa.concat_arrays([self.raw, self.stripped]))
        return ids.take(pc.sort_indices(ids))

    def __len__(self) -> int:
        return int(pc.count_distinct(self.stripped).as_py())

    def of_type(self, kind: pa.DataType) -> pa.Array:
        """The ids as a log has them, each once; as integers, those that are integers."""
        return ids_of_type(self.ids, kind)

    def is_among(self, known: pa.Array | pa.ChunkedArray) -> Bool:
        """(N,) whether the id is among some known ones, text or integers."""
        known = one_chunk(known)
        if pa.types.is_integer(known.type):
            numbers = as_integers(self.stripped)
            found = pc.is_in(numbers, known.cast(pa.int64()))
            return bools(pc.and_(found, numbers.is_valid()))
        known = known.cast(pa.string())
        return bools(pc.or_(pc.is_in(self.raw, known), pc.is_in(self.stripped, known)))

    def count(self, is_counted: Bool) -> int:
        """Number of different ids where the mask, (N,), says so."""
        chosen = self.stripped.filter(pa.array(is_counted))
        return int(pc.count_distinct(chosen).as_py())

    def num_found(self, known: pa.Array | pa.ChunkedArray) -> int:
        """Number of the listed ids that are among some known ones."""
        return self.count(self.is_among(known))


def ids_of_type(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """Ids that are text as a log has them, each once; as integers, those that are integers."""
    if not pa.types.is_integer(kind):
        return ids.cast(kind)
    return pc.unique(as_integers(ids).drop_null()).cast(kind)


def as_integers(texts: pa.Array) -> pa.Array:
    """The integers that texts stand for, ``7``, ``7.0`` and ``7e0`` alike; null for others."""
    texts = pc.utf8_trim_whitespace(texts)
    # Arrow would read 0x10 as 16, and Python 1_0 as 10: ids of other users.
    texts = keep_only(texts, matches(texts, NUMBER))
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return pa.array(map(_integer, texts.to_pylist()), pa.int64())


def _integer(text: str | None) -> int | None:
    try:
        number = Decimal(text or "")
        is_int64 = number.is_finite() and abs(number) < 2**63 and number == int(number)
    except InvalidOperation:
        return None
    return int(number) if is_int64 else None


def describe_found(listed: IdList, num_found: int, noun: str) -> str:
    """A sentence such as ``3 of 5 listed users were found``."""
    return f"{listed.setting}: {num_found:,} of {len(listed):,} listed {noun} were found"


_READING = ("encoding", "header", "quote_char", "escape", "newlines_in_values", "strip_ids",
            "missing_values", "max_id_bytes")  # fmt: skip
"""Settings of section ``data`` by which a list may be read in another way."""


def identify_files(files: Sequence[FileInfo]) -> dict[str, object]:
    """Identity of the files of a list: of the only one, or of all below ``files``."""
    found = [file.identity for file in files]
    return found[0] if len(found) == 1 else {"files": found}


def read_otherwise(data: DataConfig, made_with: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Settings by which ids of a list are read otherwise than a dataset's own; usually none.

    Args:
        data: How lists are read.
        made_with: Section ``data`` of the dataset's manifest.
        role: ``user`` or ``item``.
    """
    now = to_dict(data)
    found = {
        name: now[name]
        for name in _READING
        if now[name] != recorded_value(DataConfig, made_with, name)
    }
    column = getattr(data.columns, role)
    if column != made_with.get("columns", {}).get(role, column):
        found["column"] = column
    return found


def require_some(listed: IdList, num_found: int, where: str, allowing: str, allow: bool) -> str:
    """Refuse a list of which nothing was found; a warning, or nothing, otherwise.

    Args:
        listed: The list.
        num_found: How many of its ids were found.
        where: Where they were looked for, such as ``in the log``.
        allowing: The setting that makes the error a warning.
        allow: Its value.

    Raises:
        InputError: Nothing was found of a list that is not empty.
    """
    if num_found:
        return ""
    if not len(listed):
        return f"{listed.setting}: {listed.location} lists no id"
    message = (
        f"{listed.setting}: {listed.location}: none of its {len(listed):,} ids was found {where}; "
        "ids are compared as they are there"
    )
    if allow:
        return message
    way = f"give {allowing}" if allowing.startswith("--") else f"set {allowing}: true"
    raise InputError(f"{message}. Mend the list, or {way} if that is to be")


def read_id_list(setting: str, uri: str, config: RunConfig, role: str) -> IdList:
    """The ids that a file, directory or glob lists.

    Args:
        setting: Setting that names it, for messages.
        uri: Text with one id a line, or a table.
        config: ``data.columns`` names the column of a table, ``data`` how it is read.
        role: ``user`` or ``item``.

    Raises:
        InputError: It is missing or unreadable, or has no such column.
    """
    wanted = _wanted(config, role)
    pieces = [pa.array([], pa.string())]
    files = list_table(setting, uri, config)
    for info in files:
        with about(setting):
            if is_list_of_lines(info, wanted[role], config.data):
                pieces.append(_read_lines(info, wanted[role], config.data))
                continue
        with suppress(EmptyFileError):  # nobody is listed
            pieces.append(_open_table(setting, info, wanted, config.data).read(wanted)[role])
    location = files[0].location if len(files) == 1 else files[0].location.parent
    return id_list_of(setting, location, pa.concat_arrays(pieces))


def check_id_list(setting: str, uri: str, config: RunConfig, role: str) -> tuple[FileInfo, ...]:
    """Find a list's files, and their column where they are tables, without reading the ids.

    Raises:
        InputError: As `read_id_list`.
    """
    wanted, files = _wanted(config, role), list_table(setting, uri, config)
    for info in files:
        with about(setting):
            is_plain = is_list_of_lines(info, wanted[role], config.data)
        if not is_plain:
            with suppress(EmptyFileError):
                _open_table(setting, info, wanted, config.data)
    return files


def id_list_of(setting: str, location: Location, ids: pa.Array) -> IdList:
    """A list of these ids, as text; null and blank ones are left out."""
    raw = pc.unique(ids.drop_null())
    stripped = pc.utf8_trim_whitespace(raw)
    is_kept = pc.not_equal(stripped, "")
    return IdList(setting, location, raw.filter(is_kept), stripped.filter(is_kept))


def _open_table(
    setting: str, info: FileInfo, wanted: Mapping[str, Wanted], data: DataConfig
) -> Table:
    """A list that is a table, in which the column was found."""
    table = table_of(setting, (info,), data)
    try:
        table.check(wanted)
    except InputError as error:
        raise InputError(
            f"{error}. A list of one id a line without a header must not be named as a table: "
            ".txt, for example"
        ) from None
    return table


def is_list_of_lines(info: FileInfo, wanted: Wanted, data: DataConfig) -> bool:
    """Whether a file holds one id a line: not named as a table, and no header of several names."""
    try:
        if is_table(info, data):
            return False
        with readable(info.location):
            content = read_beginning(info.location, _coding_of(info, data))
    except EmptyFileError:  # nobody is listed, whatever the name
        return True
    line = content.removeprefix(BOM).lstrip(b"\r\n").splitlines()[0].decode(errors="replace")
    separator = next((one for one in _SEPARATORS if one in line), None)
    names = [_unquoted(name) for name in line.split(separator)] if separator else []
    return not _has_name(names, wanted)


def _read_lines(info: FileInfo, wanted: Wanted, data: DataConfig) -> pa.Array:
    """Lines end as Unix or Windows ends them, and with nothing else that Unicode calls an end."""
    if not info.size:
        return pa.array([], pa.string())
    with readable(info.location), open_stream(info.location, _coding_of(info, data)) as stream:
        content = b"".join(iter(lambda: stream.read(_BLOCK), b""))
    try:
        text = content.removeprefix(BOM).decode()
    except UnicodeDecodeError:
        raise InputError(wrong_encoding(info.location, content, data)) from None
    if not is_utf8(content):
        raise InputError(wrong_encoding(info.location, content, data))
    lines = text.split("\n" if "\n" in text else "\r")  # an old Mac's have no line feed
    lines = [line.removesuffix("\r") for line in lines]
    if _has_name([_unquoted(lines[0])], wanted):
        lines = lines[1:]
    filled = [line for line in lines if line.strip()]
    if data.quote_char == '"' and all(_unquoted(line) != line.strip() for line in filled):
        lines = [_unquoted(line).replace('""', '"') for line in filled]
    return pa.array(lines, pa.string())


def _coding_of(info: FileInfo, data: DataConfig) -> Coding:
    return recognise(info, dialect_of(info, data))[1]


def _has_name(names: Sequence[str], wanted: Wanted) -> bool:
    column = str(wanted.column)
    if column.isdecimal():  # a position, which is no name: what is written so is an id
        return False
    return column in {name.split(":")[0] for name in names} | set(names)


def _unquoted(name: str) -> str:
    name = name.strip()
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name


def _wanted(config: RunConfig, role: str) -> dict[str, Wanted]:
    columns = config.data.columns
    column = columns.user if role == "user" else columns.item
    return {role: Wanted(column, f"data.columns.{role}")}
