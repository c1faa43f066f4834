"""JSON lines: one object a line."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from lightsans.arrays import Int64
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.input_files import (
    BESIDE,
    FEATURES,
    LISTS,
    WHERE,
    Head,
    TextLayout,
    is_number,
)
from lightsans.reading.rows import RawRows
from lightsans.storage.location import Location
from lightsans.text.coding import Coding
from lightsans.text.json_records import spans_lines
from lightsans.text.pieces import BOM, read_beginning

_SMALL_PIECE = 2**16
"""A piece of this size that Arrow refuses is read line by line; a larger one is halved."""


@dataclass(frozen=True, slots=True)
class JsonlLayout(TextLayout):
    """Keys of the values in an object, and their types."""

    roles: Mapping[str, str]
    """The key of each column that is read."""
    types: Mapping[str, pa.DataType]
    """The types, by role, that the first lines show; others make reading slower, not wrong."""

    def parse(self, content: bytes, name: str) -> Iterator[RawRows]:
        """The rows of whole lines; see `parse_json_lines`."""
        return parse_json_lines(content, self)


@dataclass(frozen=True, slots=True)
class JsonlHead(Head):
    """Keys in the first lines of a file, and the types of their first values that are not null."""

    def layout(self, roles: Mapping[str, int]) -> JsonlLayout:
        """How to read the values of some keys."""
        types = {role: self.types[at] for role, at in roles.items()}
        plain = {at: role for role, at in roles.items() if not role.startswith(WHERE)}
        for role, at in roles.items():  # what is also an id or a time keeps its type
            is_free = role == "rating" or (
                role.startswith(WHERE) and plain.get(at, "rating") == "rating"
            )
            if is_free and is_number(types[role]) and not pa.types.is_null(types[role]):
                types[role] = pa.float64()
            if role.startswith(BESIDE) and pa.types.is_struct(types[role]):
                types[role] = pa.string()  # Arrow would read no key of it
        known = {r: pa.string() if pa.types.is_null(kind) else kind for r, kind in types.items()}
        return JsonlLayout({role: self.names[at] for role, at in roles.items()}, known)


def read_head(file: Location, data: DataConfig, coding: Coding) -> JsonlHead:
    """Look at the keys and values in the first lines of a file.

    Raises:
        InputError: The file is empty, or none of its first lines is a JSON object.
    """
    content = read_beginning(file, coding)
    if spans_lines(content):
        coding = replace(coding, is_json_records=True)
        content = read_beginning(file, coding)
    data_start = len(BOM) if content.startswith(BOM) else 0
    values: dict[str, Any] = {}
    for line in content[data_start:].splitlines():  # one that is cut off is no object
        record = _load(line)
        if isinstance(record, dict):
            for key, value in record.items():
                if values.get(key) is None or values[key] != values[key]:  # NaN
                    values[key] = value
    if not values:
        raise InputError(
            f"{file}: none of the first lines is a JSON object; expected one object a line, "
            'such as {"user_id": 1, "item_id": 2, "timestamp": 978300760}'
        )
    return JsonlHead(
        tuple(values), list(map(_json_type, values.values())), data_start, coding, content
    )


def parse_json_lines(piece: bytes, layout: JsonlLayout, offset: int = 0) -> Iterator[RawRows]:
    """The rows of whole lines. Positions are bytes of the piece, plus ``offset``."""
    starts = _line_starts(piece)
    if not len(starts):
        return
    columns = _parse(piece, layout)
    if columns is not None and len(next(iter(columns.values()))) == len(starts):
        yield RawRows(columns, starts + offset, [])
    elif len(piece) <= _SMALL_PIECE or (middle := piece.find(b"\n", len(piece) // 2) + 1) == 0:
        yield _parse_line_by_line(piece, layout, offset)
    else:
        yield from parse_json_lines(piece[:middle], layout, offset)
        yield from parse_json_lines(piece[middle:], layout, offset + middle)


def _line_starts(piece: bytes) -> Int64:
    data = np.frombuffer(piece, np.uint8)
    ends = np.append(np.flatnonzero(data == 10), len(data))
    starts: Int64 = np.append(0, ends[:-1] + 1)
    before_end = np.append(data, 0)[np.maximum(ends - 1, 0)]
    is_crlf = (ends > starts) & (before_end == 13)
    is_blank = ends - is_crlf == starts
    return np.asarray(starts[~is_blank], np.int64)


def _parse(piece: bytes, layout: JsonlLayout) -> dict[str, pa.Array] | None:
    """The columns of a piece in which every value has the expected type, otherwise None."""
    schema = pa.schema({key: layout.types[role] for role, key in layout.roles.items()})
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(piece),
            pyarrow.json.ReadOptions(use_threads=False, block_size=len(piece) + 1),
            pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        table.validate(full=True)  # the parser lets broken UTF-8 pass
    except pa.ArrowInvalid:
        return None
    return {role: _one_array(table[key]) for role, key in layout.roles.items()}


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _parse_line_by_line(piece: bytes, layout: JsonlLayout, offset: int) -> RawRows:
    values: dict[str, list[str | None]] = {role: [] for role in layout.roles}
    positions, broken, position = [], [], offset
    for line in piece.split(b"\n"):
        if line.strip():
            found = _read_record(line, layout)
            if isinstance(found, str):
                broken.append((position, found))
            else:
                positions.append(position)
                for role, value in found.items():
                    values[role].append(value)
        position += len(line) + 1
    columns = {role: pa.array(column, pa.string()) for role, column in values.items()}
    return RawRows(columns, np.array(positions, np.int64), broken)


def _read_record(line: bytes, layout: JsonlLayout) -> dict[str, str | None] | str:
    """The values of a line as text, or the reason why there are none."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    record = _load(line)
    if not isinstance(record, dict):
        return "invalid_json"
    values: dict[str, str | None] = {}
    for role, key in layout.roles.items():
        value = record.get(key)
        if role.startswith(WHERE) and isinstance(value, bool | list | dict):
            values[role] = str(value).lower() if isinstance(value, bool) else None
            continue
        if role == "rating" and isinstance(value, bool | list | dict):
            values[role] = json.dumps(value)  # no number, as text is: see `clean_ratings`
            continue
        has_text = isinstance(value, list) and role.startswith((*FEATURES, LISTS, BESIDE))
        if has_text or (isinstance(value, dict) and role.startswith(BESIDE)):
            values[role] = json.dumps(value, ensure_ascii=False)
            continue
        if isinstance(value, bool) and pa.types.is_boolean(layout.types[role]):
            value = str(value).lower()
        if isinstance(value, bool | list | dict):
            return f"{role}_wrong_type"
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # 5.0 is 5, as in a column of doubles
        elif isinstance(value, float) and role in ("user", "item") and not math.isnan(value):
            return f"{role}_not_whole"
        values[role] = None if value is None else str(value)
    try:
        "".join(filter(None, values.values())).encode()
    except UnicodeEncodeError:  # half a surrogate pair, as an escape
        return "not_utf8"
    return values


def _load(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _json_type(value: Any) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return pa.string()
    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string(), type(None): pa.null()}
    return kinds.get(type(value), pa.struct([]))
