"""One input file: its format, which of its columns are which, and the types of its ids."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading import csv_files, jsonl_files, parquet_files
from lightsans.reading.csv_files import CsvLayout, Dialect
from lightsans.reading.jsonl_files import JsonlLayout
from lightsans.reading.text_pieces import COMPRESSIONS
from lightsans.reading.values import is_text
from lightsans.storage.location import FileInfo, Location

Format = Literal["parquet", "csv", "jsonl", "inter"]

_ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".inter": "inter",
}


@dataclass(frozen=True, slots=True)
class ParquetLayout:
    """Names of the columns."""

    roles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file whose beginning or footer has been looked at."""

    location: Location
    size: int
    layout: CsvLayout | JsonlLayout | ParquetLayout
    data_start: int
    """Byte, after decompression, where the data of a text file begins."""
    id_types: Mapping[str, str | None]
    """``string`` or ``int64`` for user and item; None where the file shows no id."""
    row_groups: tuple[tuple[int, int], ...] = ()
    """Rows and decoded bytes of each row group of a parquet file."""


def inspect_file(info: FileInfo, data: DataConfig) -> InputFile:
    """Look at a file as far as needed to plan its reading.

    Raises:
        InputError: It is empty or unreadable, a column is missing, or has a type that cannot be
            used.
    """
    file = info.location
    with readable(file):
        format_name = format_of(file, data)
        if format_name == "parquet":
            return _inspect_parquet(info, data)
        if format_name == "jsonl":
            return _inspect_jsonl(info, data)
        return _inspect_csv(info, data, format_name == "inter")


def format_of(file: Location, data: DataConfig) -> Format:
    """The format that the configuration or the file name says.

    Raises:
        InputError: The name says none.
    """
    if data.format != "auto":
        return data.format
    name = file.name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    for ending, format_name in _ENDINGS.items():
        if name.endswith(ending):
            return format_name
    raise InputError(
        f"{file}: the name does not tell the format (it ends with none of {', '.join(_ENDINGS)}); "
        "set data.format, and data.separator for csv"
    )


@contextmanager
def readable(file: Location) -> Iterator[None]:
    """Within the block, what makes ``file`` unreadable is an `InputError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; it must lie where every node of the cluster can read it"
        ) from None
    except PermissionError as error:
        raise InputError(f"{file}: permission denied: {error}") from None
    except OSError as error:
        # Arrow's own errors about content have neither a number nor a class of their own; those
        # of disks and networks do.
        if type(error) is not OSError or error.errno is not None:
            raise
        raise InputError(f"{file}: the file is damaged or cut off: {error}") from None


def find_roles(file: Location, names: Sequence[str], data: DataConfig) -> dict[str, int]:
    """Which of a file's columns hold user, item, timestamp and rating.

    A column may be given by name or by position. A rating column that is absent is left out,
    unless ``data.min_rating`` needs it.

    Raises:
        InputError: A column is missing, or its name occurs twice.
    """
    columns = data.columns
    wanted = {"user": columns.user, "item": columns.item, "timestamp": columns.timestamp}
    if columns.rating is not None:
        wanted["rating"] = columns.rating
    found = {}
    for role, column in wanted.items():
        position = _position(file, role, column, names)
        if position is not None:
            found[role] = position
        elif role != "rating" or data.min_rating is not None:
            raise InputError(_missing_column(file, role, column, names))
    return found


def _position(file: Location, role: str, column: str | int, names: Sequence[str]) -> int | None:
    if column in names:
        if list(names).count(str(column)) > 1:
            raise InputError(
                f"{file}: column {column!r} occurs twice; rename one, or give "
                f"data.columns.{role} as a position"
            )
        return list(names).index(str(column))
    if isinstance(column, int) or column.isdigit():
        return int(column) if int(column) < len(names) else None
    return None


def _missing_column(file: Location, role: str, column: str | int, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(column), names, n=1)
    message = f"{file}: there is no column {column!r}; found {', '.join(map(repr, names))}"
    if near:
        message += f"; did you mean {near[0]!r}?"
    message += f" Set data.columns.{role}"
    return message + (", or data.separator" if len(names) == 1 else "")


def _inspect_csv(info: FileInfo, data: DataConfig, is_inter: bool) -> InputFile:
    has_header = is_inter or data.header
    dialect = Dialect.of(data, is_inter)
    head = csv_files.read_head(info.location, info.size, dialect, has_header)
    names = head.fields if has_header else [str(field) for field in range(len(head.fields))]
    if is_inter:  # RecBole writes user_id:token
        names = [name.rsplit(":", 1)[0] for name in names]
    layout = CsvLayout(dialect, len(names), find_roles(info.location, names, data))
    types = {"user": data.user_id_type, "item": data.item_id_type}
    id_types = {role: "string" if kind == "auto" else kind for role, kind in types.items()}
    return InputFile(info.location, info.size, layout, head.data_start, id_types)


def _inspect_jsonl(info: FileInfo, data: DataConfig) -> InputFile:
    file = info.location
    head = jsonl_files.read_head(file, info.size)
    names = list(head.values)
    roles = {role: names[at] for role, at in find_roles(file, names, data).items()}
    types = {role: _json_type(head.values[key]) for role, key in roles.items()}
    for role in ("timestamp", "rating"):
        if role in types and not (_is_number(types[role]) or types[role] == pa.string()):
            if role == "rating" and data.min_rating is None:
                del types[role], roles[role]
                continue
            raise InputError(_wrong_type(file, role, roles[role], "an object, list or boolean"))
    id_types = {r: _id_type(file, r, roles[r], types[r], data) for r in ("user", "item")}
    if "rating" in types and _is_number(types["rating"]):
        types["rating"] = pa.float64()
    schema = {r: pa.string() if pa.types.is_null(kind) else kind for r, kind in types.items()}
    return InputFile(file, info.size, JsonlLayout(roles, schema), head.data_start, id_types)


def _inspect_parquet(info: FileInfo, data: DataConfig) -> InputFile:
    file = info.location
    head = parquet_files.read_head(file, info.size)
    names = head.schema.names
    roles = {role: names[at] for role, at in find_roles(file, names, data).items()}
    types = {role: _value_type(head.schema.field(name).type) for role, name in roles.items()}
    if not _is_time(types["timestamp"]):
        raise InputError(_wrong_type(file, "timestamp", roles["timestamp"], types["timestamp"]))
    if "rating" in types and not _is_rating(types["rating"]):
        if data.min_rating is not None:
            raise InputError(_wrong_type(file, "rating", roles["rating"], types["rating"]))
        del roles["rating"]
    id_types = {r: _id_type(file, r, roles[r], types[r], data) for r in ("user", "item")}
    return InputFile(file, info.size, ParquetLayout(roles), 0, id_types, tuple(head.row_groups))


def _id_type(
    file: Location, role: str, name: str, found: pa.DataType, data: DataConfig
) -> str | None:
    """``string``, ``int64``, or None for a column without values."""
    configured = data.user_id_type if role == "user" else data.item_id_type
    is_usable = is_text(found) or pa.types.is_null(found) or pa.types.is_integer(found)
    if not is_usable and not pa.types.is_floating(found):
        raise InputError(_wrong_type(file, role, name, found))
    if configured != "auto":
        return configured
    if pa.types.is_floating(found):
        raise InputError(
            f"{file}: ids in column {name!r} are {found}, which rounds large ones; set "
            f"data.{role}_id_type to int64 (whole numbers are converted, others refused) or to "
            "string, or mend the column: integers with gaps often become floats in pandas"
        )
    if pa.types.is_null(found):
        return None
    return "string" if is_text(found) else "int64"


def _wrong_type(file: Location, role: str, name: str, found: pa.DataType | str) -> str:
    expected = {
        "user": "text or integers",
        "item": "text or integers",
        "timestamp": "numbers, text, dates or timestamps",
        "rating": "numbers or text",
    }[role]
    return (
        f"{file}: column {name!r} ({role}) holds {found}, expected {expected}; convert it, or "
        f"set data.columns.{role} to another column"
    )


def _json_type(value: Any) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string(), type(None): pa.null()}
    return kinds.get(type(value), pa.struct([]))


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_number(kind: pa.DataType) -> bool:
    is_some = (pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    return any(is_kind(kind) for is_kind in is_some)


def _is_rating(kind: pa.DataType) -> bool:
    return _is_number(kind) or is_text(kind) or pa.types.is_decimal(kind)


def _is_time(kind: pa.DataType) -> bool:
    is_calendar = bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
    return is_calendar or _is_number(kind) or is_text(kind)
