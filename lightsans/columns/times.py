"""Times are int64 microseconds since 1970, UTC: conversions from other units and to ISO text."""

import contextlib
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int64
from lightsans.columns.nulls import ints, is_null

FIRST_INVALID_SECOND = 7_258_118_400
"""Timestamps are valid from 1970 up to the beginning of 2200."""

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(micros: int) -> datetime:
    """A time as Python has it, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def to_iso(micros: int) -> str:
    """A time as ISO text, in UTC."""
    return to_datetime(micros).isoformat()


def from_iso(text: str) -> int:
    """Microseconds since 1970 of a text by `to_iso`."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def require_moment(name: str, text: str) -> None:
    """Refuse what is no ISO time with its zone: it could not be compared.

    Raises:
        ValueError: The message names the field.
    """
    try:
        has_zone = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise ValueError(f"{name} is {text!r:.60}; expected an ISO time with its zone")


def zone_of(name: str) -> tzinfo:
    """A time zone as Python has it; UTC for a name that Arrow alone knows."""
    with contextlib.suppress(ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(name)
    return UTC


def to_microseconds(column: pa.Array, unit: str) -> tuple[Int64, Bool]:
    """Whole microseconds of numbers or timestamps in ``unit``, and where they are out of range.

    Null is out of range, and so is a number with more digits than an integer has.
    """
    per_second = _PER_SECOND[unit]
    is_missing = is_null(column)
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        is_bad = is_missing | ~((values >= 0) & (values < FIRST_INVALID_SECOND * per_second))
        scaled = np.rint(np.where(is_bad, 0, values) * (1e6 / per_second))
        return scaled.astype(np.int64), is_bad
    numbers = ints(column.cast(pa.int64(), safe=False))  # uint64 beyond int64 becomes negative
    is_bad = is_missing | (numbers < 0) | (numbers >= FIRST_INVALID_SECOND * per_second)
    numbers = np.where(is_bad, 0, numbers)
    if per_second > 10**6:
        return numbers // (per_second // 10**6), is_bad
    return numbers * (10**6 // per_second), is_bad


def from_local_time(micros: Int64, timezone: str) -> tuple[Int64, Bool]:
    """UTC of local times. Of a time that a clock shows twice, or skips, the earliest is taken."""
    if timezone == "UTC":
        return micros, np.zeros(len(micros), bool)
    local = pa.array(micros).cast(pa.timestamp("us"))
    zoned = pc.assume_timezone(local, timezone, ambiguous="earliest", nonexistent="earliest")
    return to_microseconds(zoned, "us")
