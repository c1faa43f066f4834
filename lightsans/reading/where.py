"""``data.where``: which rows of a log are taken at all.

A condition is unknown where a column that decides it has no value, as in SQL; a row is taken where
it is surely true. Nothing else about a row is looked at before: one that is left out is neither
valid nor refused.

Shapes:
    R rows of the piece of a file at hand
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool
from lightsans.columns.nulls import bools, is_null
from lightsans.conditions import (
    Both,
    Comparison,
    Condition,
    Either,
    IsNull,
    Not,
    comparisons_of,
    parse_condition,
)
from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.columns import Found
from lightsans.reading.input_files import WHERE, Head, is_number
from lightsans.reading.rows import RawRows, as_written
from lightsans.reading.times import parse_moment
from lightsans.reading.values import (
    NUMBER,
    as_text,
    as_utf8,
    cast_or_null,
    find_missing,
    is_text_like,
    parse_numbers,
    strip_blanks,
)
from lightsans.storage.location import Location

_EXACT = 2**53
"""Whole numbers below are told apart by a double."""
_COMPARE = {
    "==": pc.equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def condition_of(data: DataConfig) -> Condition | None:
    """The condition that ``data.where`` says."""
    return None if data.where is None else parse_condition(data.where, "data.where")


def check_where(file: Location, head: Head, found: Found, data: DataConfig) -> None:
    """Check the condition against the types of a file's columns.

    Raises:
        InputError: A column holds something else than it is compared with.
    """
    condition = condition_of(data)
    for test in () if condition is None else comparisons_of(condition):
        at = found.positions.get(WHERE + test.column)
        problem = _problem(test, pa.string() if at is None else head.types[at], data)
        if problem:
            raise InputError(f"{file}: data.where: column {test.column!r} {problem}")


def _problem(test: Comparison | IsNull, kind: pa.DataType, data: DataConfig) -> str | None:
    """Describe what is wrong with a comparison of a column of this type, and the way out."""
    is_known = is_text_like(kind) or is_number(kind) or pa.types.is_boolean(kind) or _is_time(kind)
    if not is_known:
        return f"holds {kind}, which cannot be compared; take a column of numbers, text or times"
    if isinstance(test, IsNull) or pa.types.is_null(kind):
        return None
    value = test.values[0]
    if is_text_like(kind) and test.kind is str:
        words = [v for v in test.values if str(v).strip() in ("", *data.missing_values)]
        return (
            f"is compared with {words[0]!r}, which data.missing_values counts as no value; write "
            f"{test.column} is null, or take the word out of data.missing_values"
            if words
            else None
        )
    if test.kind is float and (is_text_like(kind) or is_number(kind)):
        large = [v for v in test.values if abs(v) >= _limit(kind, v)]  # type: ignore[arg-type]
        return (
            f"is compared with {large[0]}, which is too large to be exact in a column of {kind}; "
            + ("write it in quotes" if is_text_like(kind) else "take a smaller number")
            if large
            else None
        )
    if test.kind is bool and (is_text_like(kind) or pa.types.is_boolean(kind)):
        return None
    if _is_time(kind) and test.kind is str:
        wrong = [v for v in test.values if _moment(str(v), data.timezone) is None]
        return (
            f"holds times, and {wrong[0]!r} is none; expected one such as '2026-01-31' or "
            "'2026-01-31T04:00:00Z'"
            if wrong
            else None
        )
    expected = (
        "text in quotes, such as '2026-01-31'"
        if _is_time(kind)
        else "true or false"
        if pa.types.is_boolean(kind)
        else "a number, without quotes"
    )
    return f"holds {kind}, and is compared with {value!r}; expected {expected}"


def _limit(kind: pa.DataType, value: object) -> int:
    """Size from which a number is not told apart from its neighbours in a column of this type."""
    if kind == pa.uint64() and isinstance(value, int):
        return 2**64
    return 2**63 if pa.types.is_integer(kind) else _EXACT


def keep_rows(rows: RawRows, data: DataConfig) -> tuple[RawRows, int, Counter[str]]:
    """The rows that ``data.where`` takes, without the columns that only it looks at.

    Returns:
        The rows, how many were left out, and, by column, those of them in which text could not be
        compared as it should: no number, or neither true nor false.
    """
    condition = condition_of(data)
    if condition is None:
        return rows, 0, Counter()
    looked_at = {
        role.removeprefix(WHERE): column
        for role, column in rows.columns.items()
        if role.startswith(WHERE)
    }
    unread: dict[str, Bool] = {}
    kept = bools(_evaluate(condition, looked_at, data, unread))
    columns = {role: c for role, c in rows.columns.items() if not role.startswith(WHERE)}
    if kept.all():
        return replace(rows, columns=columns), 0, Counter()
    columns = {role: _taken(column, kept) for role, column in columns.items()}
    told = Counter({name: int((bad & ~kept).sum()) for name, bad in unread.items()})
    return RawRows(columns, rows.positions[kept], rows.broken), int((~kept).sum()), +told


def _taken(column: pa.Array, kept: Bool) -> pa.Array:
    """Some rows of a column; a dictionary keeps no value that only others have."""
    column = column.filter(pa.array(kept))
    is_dictionary = pa.types.is_dictionary(column.type)
    return column.dictionary_decode().dictionary_encode() if is_dictionary else column


def _evaluate(
    condition: Condition,
    columns: Mapping[str, pa.Array],
    data: DataConfig,
    unread: dict[str, Bool],
) -> pa.Array:
    """(R,) whether the condition holds; null where that is unknown."""
    if isinstance(condition, Both | Either):
        join = pc.and_kleene if isinstance(condition, Both) else pc.or_kleene
        found = [_evaluate(below, columns, data, unread) for below in condition.conditions]
        return reduce(join, found)
    if isinstance(condition, Not):
        return pc.invert(_evaluate(condition.condition, columns, data, unread))
    column = columns[condition.column]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text_like(column.type) or pa.types.is_null(column.type):
        column = _plain_text(column, data.missing_values)
    if isinstance(condition, IsNull):
        return pa.array(is_null(column))
    values, wanted = _comparable(column, condition, data)
    is_unread = is_null(values) & ~is_null(column)
    if is_unread.any():
        unread[condition.column] = unread.get(condition.column, False) | is_unread
    if condition.operator != "in":
        return _COMPARE[condition.operator](values, wanted[0])
    is_in = pc.is_in(values, value_set=pa.array(wanted.to_pylist(), values.type))
    return pc.if_else(pc.is_valid(values), is_in, pa.scalar(None, pa.bool_()))


def _plain_text(column: pa.Array, missing_values: Sequence[str]) -> pa.Array:
    """Text without blanks around it; null for words that mean so, and for what is not UTF-8."""
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    text = strip_blanks(as_utf8(as_text(column), None))
    is_missing = find_missing(text, missing_values) | bools(pc.equal(text, ""))
    return pc.if_else(pa.array(is_missing), pa.scalar(None, text.type), text)


def _comparable(column: pa.Array, test: Comparison, data: DataConfig) -> tuple[pa.Array, pa.Array]:
    """A column and the values of a test as one type; null where a value cannot be read."""
    kind = column.type
    if test.kind is str and is_text_like(kind):
        return column, pa.array([str(value).strip() for value in test.values], kind)
    if test.kind is str:
        moments = [_moment(str(value), data.timezone) for value in test.values]
        return _microseconds(column, data.timezone), pa.array(moments, pa.int64())
    if test.kind is bool and is_text_like(kind):
        words = pc.utf8_lower(column)
        is_word = pc.is_in(words, value_set=pa.array(["true", "false"]))
        values = pc.if_else(is_word, pc.equal(words, "true"), pa.scalar(None, pa.bool_()))
        return values, pa.array(test.values, pa.bool_())
    if test.kind is bool:
        return column, pa.array(test.values, pa.bool_())
    if is_text_like(kind):
        return parse_numbers(column, NUMBER, pa.float64()), pa.array(test.values, pa.float64())
    are_whole = all(isinstance(value, int) for value in test.values)
    if pa.types.is_integer(kind) and are_whole:
        if kind == pa.uint64():  # beyond what int64 holds
            wide = pa.decimal128(20, 0)
            return column.cast(wide), pa.array([Decimal(v) for v in test.values], wide)
        return column.cast(pa.int64()), pa.array(test.values, pa.int64())
    values = as_written(column)
    values = pc.if_else(pa.array(is_null(values)), pa.scalar(None, pa.float64()), values)
    return values, pa.array([float(value) for value in test.values], pa.float64())


def _moment(text: str, timezone: str) -> int | None:
    """Microseconds since 1970 of a date or time of any year; None when it is neither."""
    found = parse_moment(text, timezone)
    if found is not None:
        return found
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    column = pa.array([moment], pa.timestamp("us", None if moment.tzinfo is None else "UTC"))
    return int(_microseconds(column, timezone)[0].as_py())


def _microseconds(column: pa.Array, timezone: str) -> pa.Array:
    """Dates and times as microseconds since 1970; without a zone they are of ``timezone``."""
    is_local = getattr(column.type, "tz", None) is None
    kind = pa.timestamp("us", getattr(column.type, "tz", None))
    is_finer = getattr(column.type, "unit", None) == "ns"  # digits beyond a microsecond are cut
    micros: pa.Array = column.cast(kind, safe=False) if is_finer else cast_or_null(column, kind)
    if is_local and timezone != "UTC":
        micros = pc.assume_timezone(micros, timezone, ambiguous="earliest", nonexistent="earliest")
    return micros.cast(pa.int64())


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
