"""Times as files hold them, or a setting says them -> microseconds since 1970, UTC."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int64
from lightsans.columns.nulls import bools, is_null
from lightsans.columns.times import from_local_time, to_microseconds
from lightsans.config import DataConfig
from lightsans.reading.values import (
    NULL_WORDS,
    NUMBER,
    WHOLE_NUMBER,
    Problems,
    as_utf8,
    cast_or_null,
    is_text,
    keep_only,
    matches,
    parse_numbers,
)

_ENDS_WITH_ZONE = r"[T ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


def clean_timestamps(column: pa.Array, data: DataConfig, problems: Problems) -> pa.Array:
    """Microseconds since 1970, UTC.

    Reasons: ``timestamp_missing``, ``timestamp_invalid`` (text that is no time) and
    ``timestamp_out_of_range`` (not from 1970 to 2199).
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if is_text(kind):
        return pa.array(_parse_timestamps(as_utf8(column, problems), data, problems))
    problems.add("timestamp_missing", is_null(column))
    unit, is_local = data.timestamp_unit, False
    if pa.types.is_timestamp(kind):
        unit, is_local = kind.unit, kind.tz is None
    elif pa.types.is_date(kind):
        column = column.cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.int64())
        column, unit, is_local = pc.multiply(column, 86_400), "s", True
    micros, is_bad = to_microseconds(column, unit)
    if is_local:
        micros, shift_is_bad = from_local_time(micros, data.timezone)
        is_bad |= shift_is_bad
    problems.add("timestamp_out_of_range", is_bad)
    return pa.array(micros)


def parse_moment(text: str, timezone: str) -> int | None:
    """Microseconds since 1970 of an ISO date or time, or None when it is neither."""
    data, problems = DataConfig(timezone=timezone), Problems(1)
    if pc.match_substring_regex(pa.array([text.strip()]), NUMBER)[0].as_py():
        return None  # a bare number has no unit
    micros = clean_timestamps(pa.array([text]), data, problems)
    return int(micros[0].as_py()) if problems.is_valid.all() else None


def _parse_timestamps(column: pa.Array, data: DataConfig, problems: Problems) -> Int64:
    text = pc.utf8_trim_whitespace(column)
    is_missing = bools(pc.is_in(text, value_set=NULL_WORDS)) | is_null(text)
    problems.add("timestamp_missing", is_missing)
    is_whole = matches(text, WHOLE_NUMBER)
    whole = cast_or_null(keep_only(text, is_whole), pa.int64())
    micros, is_out = to_microseconds(whole, data.timestamp_unit)
    is_out &= is_whole
    rest = ~is_whole & ~is_missing
    if rest.any():
        is_number = rest & matches(text, NUMBER)
        numbers = parse_numbers(text, NUMBER, pa.float64())
        from_number, number_is_out = to_microseconds(numbers, data.timestamp_unit)
        micros = np.where(is_number, from_number, micros)
        is_out |= is_number & number_is_out
        is_moment = rest & ~is_number
        from_iso, iso_is_out, is_invalid = _parse_iso(keep_only(text, is_moment), data.timezone)
        micros = np.where(is_moment, from_iso, micros)
        is_out |= is_moment & iso_is_out
        problems.add("timestamp_invalid", is_moment & is_invalid)
    problems.add("timestamp_out_of_range", is_out)
    return micros


def _parse_iso(text: pa.Array, timezone: str) -> tuple[Int64, Bool, Bool]:
    """Microseconds, out of range, unreadable; nulls are unreadable."""
    text = pc.utf8_upper(text)
    text = pc.replace_substring_regex(text, r"\s*(UTC|GMT)$", "Z")
    text = pc.replace_substring_regex(text, r"\s+([+-][0-9]{2}:?[0-9]{2})$", r"\1")
    text = pc.replace_substring_regex(text, r"(\.[0-9]{6})[0-9]+", r"\1")
    is_zoned = matches(text, _ENDS_WITH_ZONE)
    zoned = cast_or_null(keep_only(text, is_zoned), pa.timestamp("us", "UTC"))
    local = cast_or_null(keep_only(text, ~is_zoned), pa.timestamp("us"))
    from_zoned, zoned_is_out = to_microseconds(zoned, "us")
    from_local, local_is_out = to_microseconds(local, "us")
    from_local, shift_is_out = from_local_time(from_local, timezone)
    micros = np.where(is_zoned, from_zoned, from_local)
    is_out = np.where(is_zoned, zoned_is_out, local_is_out | shift_is_out)
    return micros, is_out, is_null(zoned) & is_null(local)
