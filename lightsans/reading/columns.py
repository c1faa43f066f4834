"""Find the columns of a file that a log or a table needs, by name, position or partition."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lightsans.conditions import columns_of, parse_condition
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.ids import is_id, natural_type
from lightsans.reading.input_files import WHERE, Head, is_number
from lightsans.reading.values import is_event, is_text
from lightsans.storage.location import Location
from lightsans.warehouse.partitions import partition_values

_RECBOLE_TYPE = re.compile(r":(token|float)(_seq)?$")
_MOST_NAMES = 30
"""Names of columns in a message."""
_ALIKE = 0.8
"""Similarity of names from which on one is suggested for the other."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column that a reader looks for."""

    column: str | int
    """Its name, with or without the type that RecBole's headers carry, or its position."""
    setting: str
    """The setting that says so, for messages."""
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The wanted columns of a file, by role."""

    positions: dict[str, int]
    partition: dict[str, str | None]
    """Values of those that are in the names of directories instead; None is a missing one."""


def log_columns(data: DataConfig) -> dict[str, Wanted]:
    """The columns that a log must have, and its rating, which it may lack where none is needed.

    Those that ``data.where`` looks at have roles that begin with `WHERE`.
    """
    columns = data.columns
    wanted = {
        "user": Wanted(columns.user, "data.columns.user"),
        "item": Wanted(columns.item, "data.columns.item"),
        "timestamp": Wanted(columns.timestamp, "data.columns.timestamp"),
    }
    if columns.rating is not None:
        is_optional = data.min_rating is None
        wanted["rating"] = Wanted(columns.rating, "data.columns.rating", is_optional)
    if columns.event is not None:
        wanted["event"] = Wanted(columns.event, "data.columns.event")
    if data.where is not None:
        for name in columns_of(parse_condition(data.where, "data.where")):
            wanted[WHERE + name] = Wanted(name, "data.where")
    return wanted


def find_columns(
    file: Location,
    names: Sequence[str],
    wanted: Mapping[str, Wanted],
    partitions: Mapping[str, str | None] | None = None,
    types: Sequence[pa.DataType] = (),
) -> Found:
    """Find the wanted columns; what the file has itself comes before partitions of its path.

    Args:
        file: For messages, and for the partitions of its path.
        names: Columns of the file.
        wanted: The columns by role.
        partitions: Values by name; None takes those of the path.
        types: Types of the columns, for messages.

    Raises:
        InputError: Some are missing, all of which are named, or the name of one occurs twice.
    """
    partitions = partition_values(file) if partitions is None else partitions
    found, missing = Found({}, {}), []
    for role, column in wanted.items():
        position = _position(file, column, names)
        if position is not None:
            found.positions[role] = position
        elif partitions.get(str(column.column)) is not None:
            found.partition[role] = partitions[str(column.column)]
        elif not column.is_optional and str(column.column) in partitions:
            found.partition[role] = None
        elif not column.is_optional:
            missing.append(column)
    if missing:
        nested = [
            name for name, kind in zip(names, types, strict=False) if pa.types.is_nested(kind)
        ]
        is_text = all(pa.types.is_binary(kind) for kind in types)
        raise InputError(
            _missing_columns(
                file, missing, list(dict.fromkeys([*names, *partitions])), nested, is_text
            )
        )
    if not found.positions:
        raise InputError(
            f"{file}: all columns that are needed are in the names of its directories, so that its "
            "rows are all alike; name columns that the file has"
        )
    return found


def _position(file: Location, wanted: Wanted, names: Sequence[str]) -> int | None:
    column = str(wanted.column)
    for plain in (str, without_type):
        same = [at for at, name in enumerate(names) if plain(name) == plain(column)]
        if len(same) > 1:
            raise InputError(
                f"{file}: column {column!r} occurs twice; rename one, or give {wanted.setting} as "
                "a position"
            )
        if same:
            return same[0]
    return int(column) if column.isdecimal() and int(column) < len(names) else None


def without_type(name: str) -> str:
    """The name of a column without the type that RecBole's headers give after a colon."""
    return _RECBOLE_TYPE.sub("", name)


def _missing_columns(
    file: Location,
    missing: Sequence[Wanted],
    names: Sequence[str],
    nested: Sequence[str],
    is_text: bool,
) -> str:
    there = " and ".join(f"no column {column.column!r}" for column in missing)
    shown = [*map(repr, names[:_MOST_NAMES])]
    shown += [f"and {len(names) - _MOST_NAMES:,} more"] if len(names) > _MOST_NAMES else []
    message = f"{file}: there is {there}; found {', '.join(shown)}"
    flat = [name for name in names if name not in nested]
    likely = [_likely_name(str(column.column), flat) for column in missing]
    hints = " and ".join(repr(name) for name in likely if name)
    message += f"; did you mean {hints}?" if hints else "."
    message += f" Set {' and '.join(column.setting for column in missing)}"
    if nested:
        held = "objects or lists" if len(nested) > 1 else "objects or a list"
        message += (
            f". Within {' and '.join(map(repr, nested[:_MOST_NAMES]))} are {held}: flatten them "
            "into columns first"
        )
    return message + (", or data.separator" if is_text and len(names) == 1 else "")


def _likely_name(column: str, names: Sequence[str]) -> str | None:
    """The name that is most alike, endings such as ``_id`` aside: a store is no user."""
    stems = {name: _stem(name) for name in names}
    stem = _stem(column)
    likely = difflib.get_close_matches(stem, stems.values(), n=1, cutoff=_ALIKE)
    likely += [known for known in stems.values() if known and stem.startswith(known)]
    return next((name for name, known in stems.items() if known in likely[:1]), None)


def _stem(name: str) -> str:
    lower = without_type(name).lower()
    return re.sub(r"[_\W]|_?id$", "", lower) or lower


def check_log_types(
    file: Location, head: Head, found: Found, data: DataConfig
) -> dict[str, str | None]:
    """Check the types of a log's columns; drop a rating that nobody needs and cannot be read.

    Returns:
        ``string`` or ``int64`` for user and item; None where the file shows no id.

    Raises:
        InputError: A column has a type that cannot be used.
    """
    names = {role: head.names[at] for role, at in found.positions.items()}
    types = {role: head.types[at] for role, at in found.positions.items()}
    checks = {"user": is_id, "item": is_id, "timestamp": _is_time, "event": is_event}
    if data.min_rating is not None:
        checks["rating"] = _is_rating
    wrong = [role for role, fits in checks.items() if role in types and not fits(types[role])]
    if wrong:
        said = [wrong_type(file, role, names[role], types[role]) for role in wrong]
        raise InputError("\n".join(said))
    if "rating" in types and not _is_rating(types["rating"]):
        del found.positions["rating"]
    configured = {"user": data.user_id_type, "item": data.item_id_type}
    return {
        role: natural_type(types.get(role, pa.string())) if kind == "auto" else kind
        for role, kind in configured.items()
    }


def wrong_type(file: Location, role: str, name: str, found: pa.DataType | str) -> str:
    """The message about a column of a type that cannot be used."""
    expected = {
        "user": "text, whole numbers or UUIDs",
        "item": "text, whole numbers or UUIDs",
        "timestamp": "numbers, text, dates or timestamps",
        "rating": "numbers or text",
        "event": "text, whole numbers or booleans",
    }[role]
    return (
        f"{file}: column {name!r} ({role}) holds {found}, expected {expected}; convert it, or "
        f"set data.columns.{role} to another column"
    )


def _is_rating(kind: pa.DataType) -> bool:
    return is_number(kind) or is_text(kind)


def _is_time(kind: pa.DataType) -> bool:
    is_calendar = bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
    return is_calendar or is_number(kind) or is_text(kind)
