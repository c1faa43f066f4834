"""Times as files hold them, or a setting says them -> microseconds since 1970, UTC."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int64
from lightsans.columns.findings import EARLY_US, NULL
from lightsans.columns.nulls import bools, ints, is_null
from lightsans.columns.times import from_local_time, to_microseconds
from lightsans.config import DataConfig
from lightsans.reading.values import (
    NUMBER,
    WHOLE_NUMBER,
    Problems,
    as_utf8,
    cast_or_null,
    count_words,
    find_missing,
    is_text,
    keep_only,
    matches,
    parse_numbers,
    strip_blanks,
)

_LATEST_DATE_US = 4_102_444_800 * 10**6
"""2100: numbers that could be later dates are taken for what the unit says."""
_BEGINS_AS_DATE = r"^[0-9]{4}-[0-9]{2}"
_TOO_FINE = r"\.[0-9]{6}[0-9]*[1-9]"
_ENDS_WITH_ZONE = r"[T ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


def clean_timestamps(column: pa.Array, data: DataConfig, problems: Problems) -> pa.Array:
    """Microseconds since 1970, UTC.

    Reasons: ``timestamp_missing``, ``timestamp_invalid`` (text that is no time),
    ``timestamp_out_of_range`` (not from 1970 to 2199) and ``timestamp_is_date`` (all are numbers
    such as 20260913, and are to be read as a count of seconds).
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if is_text(kind):
        return pa.array(_parse_timestamps(as_utf8(column, problems), data, problems))
    is_missing = is_null(column)
    problems.add("timestamp_missing", is_missing)
    if is_missing.any():
        problems.findings.add_missing("timestamp", {NULL: int(is_missing.sum())})
    if pa.types.is_timestamp(kind):
        micros, is_bad = to_microseconds(column, kind.unit)
        problems.findings.cut += _count_cut(column) if kind.unit == "ns" else 0
        is_local = kind.tz is None
    elif pa.types.is_date(kind):
        column = column.cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.int64())
        micros, is_bad = to_microseconds(pc.multiply(column, 86_400), "s")
        is_local = True
    else:
        problems.findings.step = _step(column)
        micros, is_bad = _from_numbers(column, data, problems)
        is_local = False
    if is_local:
        micros, shift_is_bad = from_local_time(micros, data.timezone)
        is_bad |= shift_is_bad
    problems.add("timestamp_out_of_range", is_bad)
    return pa.array(micros)


def _from_numbers(column: pa.Array, data: DataConfig, problems: Problems) -> tuple[Int64, Bool]:
    """Microseconds of numbers in ``data.timestamp_unit``, and where they are out of range."""
    unit = data.timestamp_unit
    if unit == "yyyymmdd":
        numbers = ints(cast_or_null(column, pa.int64()))
        micros, is_bad = _from_calendar(numbers)
        micros, shift_is_bad = from_local_time(np.where(is_bad, 0, micros), data.timezone)
        return micros, is_bad | shift_is_bad
    if _are_dates(column):
        problems.add("timestamp_is_date", ~is_null(column))
    if pa.types.is_decimal(column.type):
        return _from_decimals(column, unit, problems)
    if unit == "ns" and pa.types.is_integer(column.type):
        problems.findings.cut += _count_cut(column)
    return to_microseconds(column, unit)


def _are_dates(column: pa.Array) -> bool:
    """Whether all numbers of a column are written as dates of the years 1990 to 2099.

    Taken for seconds, they would all lie within a fortnight of 1970.
    """
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return False
    present = column.drop_null()
    if not len(present) or not _is_recent_date(cast_or_null(present.slice(0, 1), pa.int64())):
        return False
    return _is_recent_date(cast_or_null(present, pa.int64()))


def _is_recent_date(numbers: pa.Array) -> bool:
    values = ints(numbers)
    micros, is_bad = _from_calendar(values)
    is_recent = (micros >= EARLY_US) & (micros < _LATEST_DATE_US)
    return bool((is_recent & ~is_bad).all())


def _from_calendar(numbers: Int64) -> tuple[Int64, Bool]:
    """Microseconds of numbers written yyyymmdd or yyyymmddhhmmss, and where they are none."""
    has_clock = numbers >= 10**13
    day, clock = (
        np.where(has_clock, numbers // 10**6, numbers),
        np.where(has_clock, numbers % 10**6, 0),
    )
    year, month, date = day // 10_000, day // 100 % 100, day % 100
    hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
    is_bad = (year < 1970) | (year > 2199) | (month < 1) | (month > 12) | (date < 1)
    is_bad |= (hour > 23) | (minute > 59) | (second > 59)
    months = (np.where(is_bad, 0, (year - 1970) * 12 + month - 1)).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(is_bad, 0, date - 1)
    is_bad |= days.astype("datetime64[M]") != months  # 31 June
    seconds = days.astype(np.int64) * 86_400 + hour * 3600 + minute * 60 + second
    return np.where(is_bad, 0, seconds * 10**6), is_bad


def _from_decimals(column: pa.Array, unit: str, problems: Problems) -> tuple[Int64, Bool]:
    """Microseconds of decimals, exactly; digits beyond a microsecond are cut and counted."""
    scale = {"s": 6, "ms": 3, "us": 0, "ns": -3}[unit]  # digits that make microseconds
    finest = pa.decimal256(76, max(scale, column.type.scale))
    wide = cast_or_null(column, finest)
    cut = wide.cast(pa.decimal256(76, max(scale, 0)), safe=False)
    is_cut = bools(pc.not_equal(cut.cast(finest), wide))
    problems.findings.cut += int(is_cut.sum())
    digits = pc.replace_substring(cut.cast(pa.string()), ".", "")
    numbers = cast_or_null(digits, pa.int64())
    if unit == "ns":
        problems.findings.cut += _count_cut(numbers)
    micros, is_bad = to_microseconds(numbers, "us" if scale >= 0 else "ns")
    return micros, is_bad | is_null(column)


def _count_cut(column: pa.Array) -> int:
    """Number of times in nanoseconds that are no whole microseconds."""
    return int((ints(column.cast(pa.int64(), safe=False)) % 1000 != 0).sum())


def _step(column: pa.Array) -> float:
    """Largest distance between neighbouring numbers of a short float; 0 up to one."""
    if column.type not in (pa.float16(), pa.float32()):
        return 0.0
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    values = np.abs(values[np.isfinite(values)])
    step = float(np.spacing(values.max())) if len(values) else 0.0
    return step if step > 1 else 0.0


def parse_moment(text: str, timezone: str) -> int | None:
    """Microseconds since 1970 of an ISO date or time, or None when it is neither."""
    data, problems = DataConfig(timezone=timezone), Problems(1)
    if pc.match_substring_regex(pa.array([text.strip()]), NUMBER)[0].as_py():
        return None  # a bare number has no unit
    micros = clean_timestamps(pa.array([text]), data, problems)
    return int(micros[0].as_py()) if problems.is_valid.all() else None


def _parse_timestamps(column: pa.Array, data: DataConfig, problems: Problems) -> Int64:
    text = strip_blanks(column)
    is_missing = find_missing(text, data.missing_values) | (ints(pc.binary_length(text)) == 0)
    problems.add("timestamp_missing", is_missing)
    if is_missing.any():
        words = count_words(text.filter(pa.array(is_missing)))
        problems.findings.add_missing("timestamp", words)
    is_whole = matches(text, WHOLE_NUMBER) & ~is_missing
    whole = cast_or_null(keep_only(text, is_whole), pa.int64())
    of_numbers = Problems(len(text))
    micros, is_out = _from_numbers(whole, data, of_numbers)
    problems.add("timestamp_is_date", is_whole & ~of_numbers.is_valid)
    problems.findings.cut += of_numbers.findings.cut
    is_out &= is_whole
    rest = ~is_whole & ~is_missing
    if rest.any():
        is_number = rest & matches(text, NUMBER)
        numbers = parse_numbers(keep_only(text, is_number), NUMBER, pa.float64())
        from_number, number_is_out = _from_numbers(numbers, data, problems)
        micros = np.where(is_number, from_number, micros)
        is_out |= is_number & number_is_out
        is_moment = rest & ~is_number
        problems.findings.cut += int((is_moment & matches(text, _TOO_FINE)).sum())
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
    text = keep_only(text, matches(text, _BEGINS_AS_DATE))  # casts fail slowly
    is_zoned = matches(text, _ENDS_WITH_ZONE)
    zoned = cast_or_null(keep_only(text, is_zoned), pa.timestamp("us", "UTC"))
    local = cast_or_null(keep_only(text, ~is_zoned), pa.timestamp("us"))
    from_zoned, zoned_is_out = to_microseconds(zoned, "us")
    from_local, local_is_out = to_microseconds(local, "us")
    from_local, shift_is_out = from_local_time(from_local, timezone)
    micros = np.where(is_zoned, from_zoned, from_local)
    is_out = np.where(is_zoned, zoned_is_out, local_is_out | shift_is_out)
    return micros, is_out, is_null(zoned) & is_null(local)
