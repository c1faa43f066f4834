"""Columns as files hold them -> ids, microseconds and ratings.

A value that cannot be read is not an error: its row gets a reason, and the rows without one go on.
Everything here works on whole columns; single values are looked at only where a column has failed.

Shapes:
    R rows of the piece of a file at hand
"""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.arrow import codes_of, compact
from lightsans.config import DataConfig
from lightsans.storage.schemas import id_type

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

FIRST_INVALID_SECOND = 7_258_118_400
"""Timestamps are valid from 1970 up to the beginning of 2200."""

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NULL_WORDS = pa.array(["", "null", "NULL", "None", "NaN", "nan", "NA", "NaT", r"\N"])
_WHOLE_NUMBER = r"^-?[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_ENDS_WITH_ZONE = r"[T ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows as a file holds them."""

    columns: dict[str, pa.Array]
    """user, item and timestamp, and rating where the file has one; (R,) of any readable type."""
    positions: Int64
    """(R,) row number, or byte offset of the line in an uncompressed text file."""
    broken: list[tuple[int, str]]
    """Position and reason of rows whose columns could not be told apart."""


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Valid rows, and what became of the others."""

    table: pa.Table
    """user_id, raw_item_id, timestamp (microseconds), rating and position of the valid rows."""
    reject_positions: Int64
    reject_reasons: list[str]
    num_excluded: int
    """Valid rows of users who are to be left out."""
    reject_values: list[str | None] | None = None
    """What refused rows held, as JSON by role, where ``data.keep_reject_values`` asks for it; None
    for rows that could not be taken apart, and for users who are to be left out."""

    @property
    def num_rows(self) -> int:
        """Rows that were read."""
        return int(self.table.num_rows) + len(self.reject_positions) + self.num_excluded


class Problems:
    """The first reason against each of R rows."""

    def __init__(self, num_rows: int) -> None:
        self._codes = np.zeros(num_rows, np.int16)
        self._reasons = [""]

    def add(self, reason: str, is_bad: Bool) -> None:
        """Refuse the rows where ``is_bad`` for ``reason``, unless they have a reason already."""
        if is_bad.any():
            self._codes[is_bad & (self._codes == 0)] = len(self._reasons)
            self._reasons.append(reason)

    def add_of_values(self, values: "Problems", index: npt.NDArray[np.int32]) -> None:
        """Refuse the rows whose value, at this index, has a problem."""
        for code, reason in enumerate(values._reasons[1:], start=1):
            self.add(reason, (values._codes == code)[index])

    @property
    def is_valid(self) -> Bool:
        """(R,) rows without a reason."""
        return np.equal(self._codes, 0)

    def of(self, is_bad: Bool) -> list[str]:
        """The reasons of some rows."""
        return [self._reasons[code] for code in self._codes[is_bad]]


def check_rows(
    rows: RawRows,
    data: DataConfig,
    user_id_type: str,
    item_id_type: str,
    excluded_users: pa.Array | None = None,
) -> CheckedRows:
    """The rows that can be used, and position and reason of those that cannot.

    Args:
        rows: What a file holds.
        data: Longest id, unit and time zone of timestamps, whether ratings are needed.
        user_id_type: ``string`` or ``int64``.
        item_id_type: ``string`` or ``int64``.
        excluded_users: Users to leave out, of the type of users.
    """
    columns, problems = rows.columns, Problems(len(rows.positions))
    table = pa.table(
        {
            "user_id": clean_ids(columns["user"], "user", user_id_type, data, problems),
            "raw_item_id": clean_ids(columns["item"], "item", item_id_type, data, problems),
            "timestamp": clean_timestamps(columns["timestamp"], data, problems),
            "rating": clean_ratings(columns.get("rating"), data.min_rating is not None, problems),
            "position": pa.array(rows.positions),
        }
    )
    is_valid = problems.is_valid
    broken = np.array([position for position, _ in rows.broken], np.int64)
    reject_positions = np.concatenate([rows.positions[~is_valid], broken])
    reject_reasons = problems.of(~is_valid) + [reason for _, reason in rows.broken]
    values = None
    if data.keep_reject_values:
        values = [*_raw_values(columns, ~is_valid, excluded_users), *([None] * len(broken))]
    if not is_valid.all():
        table = table.filter(pa.array(is_valid))
    num_valid = table.num_rows
    if excluded_users is not None:
        table = table.filter(pa.array(~_is_excluded(table["user_id"], excluded_users)))
    if table.num_rows < len(is_valid):
        table = _without_unused_ids(table)
    num_excluded = num_valid - table.num_rows
    return CheckedRows(table, reject_positions, reject_reasons, num_excluded, values)


def _raw_values(
    columns: dict[str, pa.Array], is_chosen: Bool, excluded_users: pa.Array | None
) -> list[str | None]:
    """The rows as JSON objects of text; a user of another type than the valid ones stays text."""
    excluded = set() if excluded_users is None else set(map(str, excluded_users.to_pylist()))
    is_chosen = pa.array(is_chosen)
    chosen = {role: column.filter(is_chosen).to_pylist() for role, column in columns.items()}
    rows = [
        {role: _as_text(value) for role, value in zip(chosen, row, strict=True)}
        for row in zip(*chosen.values(), strict=True)
    ]
    return [None if row["user"] in excluded else json.dumps(row) for row in rows]


def _as_text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value is None else str(value)


def _is_excluded(users: pa.ChunkedArray, excluded: pa.Array) -> Bool:
    if not pa.types.is_dictionary(users.type):
        return _bools(pc.is_in(users, value_set=excluded))
    found = [_bools(pc.is_in(ids.dictionary, value_set=excluded))[codes_of(ids)]
             for ids in users.chunks]  # fmt: skip
    return np.concatenate([np.zeros(0, bool), *found])


def _without_unused_ids(table: pa.Table) -> pa.Table:
    """Distinct ids of refused rows must not travel, and some of them are null."""
    for name in ("user_id", "raw_item_id"):
        column = table[name]
        if pa.types.is_dictionary(column.type):
            ids = [compact(chunk) for chunk in column.chunks]
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pa.chunked_array(ids, column.type))
    return table


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether values of this type are text, or bytes that should be."""
    kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
    return arrow_type in kinds


def clean_ids(
    column: pa.Array, role: str, type_name: str, data: DataConfig, problems: Problems
) -> pa.Array:
    """Ids as int64 or text, a dictionary stays one; null or arbitrary where there is a problem.

    Reasons: ``<role>_missing``, ``<role>_too_long``, ``<role>_not_int``, ``not_utf8``.
    """
    if not pa.types.is_dictionary(column.type):
        return _clean_values(column, role, type_name, data, problems)
    problems.add(f"{role}_missing", _is_null(column.indices))
    index = column.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    values = column.dictionary
    if not len(values):  # all rows are null
        values = pa.nulls(1, values.type)
    of_values = Problems(len(values))
    cleaned = _clean_values(values, role, type_name, data, of_values)
    problems.add_of_values(of_values, index)
    return pa.DictionaryArray.from_arrays(pa.array(index), cleaned)


def _clean_values(
    column: pa.Array, role: str, type_name: str, data: DataConfig, problems: Problems
) -> pa.Array:
    target = id_type(type_name)
    if is_text(column.type):
        column = _utf8(column, problems)
        lengths = _ints(pc.binary_length(column))
        problems.add(f"{role}_missing", lengths == 0)  # null or empty
        problems.add(f"{role}_too_long", lengths > data.max_id_bytes)
        if target == pa.string():
            return column
        column = _parse(pc.utf8_trim_whitespace(column), _WHOLE_NUMBER, target)
        problems.add(f"{role}_not_int", _is_null(column))
        return column
    problems.add(f"{role}_missing", _is_null(column))
    if target == pa.int64() and pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
        # Above 2^53 a float no longer tells neighbouring ids apart.
        is_whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 2**53)
        problems.add(f"{role}_not_int", ~is_whole)
        return pa.array(np.where(is_whole, values, 0).astype(np.int64))
    if column.type == pa.uint64() and target == pa.int64():
        column = _cast_or_null(column, target)
        problems.add(f"{role}_not_int", _is_null(column))
        return column
    return column.cast(target)


def clean_timestamps(column: pa.Array, data: DataConfig, problems: Problems) -> pa.Array:
    """Microseconds since 1970, UTC.

    Reasons: ``timestamp_missing``, ``timestamp_invalid`` (text that is no time) and
    ``timestamp_out_of_range`` (not from 1970 to 2199).
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if is_text(kind):
        return pa.array(_parse_timestamps(_utf8(column, problems), data, problems))
    problems.add("timestamp_missing", _is_null(column))
    unit, is_local = data.timestamp_unit, False
    if pa.types.is_timestamp(kind):
        unit, is_local = kind.unit, kind.tz is None
    elif pa.types.is_date(kind):
        column = column.cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.int64())
        column, unit, is_local = pc.multiply(column, 86_400), "s", True
    micros, is_bad = _microseconds(column, unit)
    if is_local:
        micros, shift_is_bad = _from_local_time(micros, data.timezone)
        is_bad |= shift_is_bad
    problems.add("timestamp_out_of_range", is_bad)
    return pa.array(micros)


def clean_ratings(column: pa.Array | None, is_needed: bool, problems: Problems) -> pa.Array:
    """Ratings as float64, null where there is none.

    Only when they are needed does an unreadable one refuse its row: ``rating_missing`` and
    ``rating_invalid`` (text that is not a number).
    """
    if column is None:
        return pa.nulls(len(problems.is_valid), pa.float64())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type):
        text = pc.utf8_trim_whitespace(_utf8(column, problems if is_needed else None))
        values = _parse(text, _NUMBER, pa.float64())
        is_missing = _bools(pc.is_in(text, value_set=_NULL_WORDS)) | _is_null(text)
        is_invalid = _is_null(values) & ~is_missing
    else:
        values = column.cast(pa.float64(), safe=False)
        is_missing = _is_null(values)
        is_invalid = np.zeros(len(values), bool)
    if is_needed:
        problems.add("rating_missing", is_missing)
        problems.add("rating_invalid", is_invalid)
    return pc.if_else(pa.array(is_missing), pa.scalar(None, pa.float64()), values)


def parse_moment(text: str, timezone: str) -> int | None:
    """Microseconds since 1970 of an ISO date or time, or None when it is neither."""
    data, problems = DataConfig(timezone=timezone), Problems(1)
    if pc.match_substring_regex(pa.array([text.strip()]), _NUMBER)[0].as_py():
        return None  # a bare number has no unit
    micros = clean_timestamps(pa.array([text]), data, problems)
    return int(micros[0].as_py()) if problems.is_valid.all() else None


def _parse_timestamps(column: pa.Array, data: DataConfig, problems: Problems) -> Int64:
    text = pc.utf8_trim_whitespace(column)
    is_missing = _bools(pc.is_in(text, value_set=_NULL_WORDS)) | _is_null(text)
    problems.add("timestamp_missing", is_missing)
    is_whole = _matches(text, _WHOLE_NUMBER)
    whole = _cast_or_null(_only(text, is_whole), pa.int64())
    micros, is_out = _microseconds(whole, data.timestamp_unit)
    is_out &= is_whole
    rest = ~is_whole & ~is_missing
    if rest.any():
        is_number = rest & _matches(text, _NUMBER)
        numbers = _parse(text, _NUMBER, pa.float64())
        from_number, number_is_out = _microseconds(numbers, data.timestamp_unit)
        micros = np.where(is_number, from_number, micros)
        is_out |= is_number & number_is_out
        is_moment = rest & ~is_number
        from_iso, iso_is_out, is_invalid = _parse_iso(_only(text, is_moment), data.timezone)
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
    is_zoned = _matches(text, _ENDS_WITH_ZONE)
    zoned = _cast_or_null(_only(text, is_zoned), pa.timestamp("us", "UTC"))
    local = _cast_or_null(_only(text, ~is_zoned), pa.timestamp("us"))
    from_zoned, zoned_is_out = _microseconds(zoned, "us")
    from_local, local_is_out = _microseconds(local, "us")
    from_local, shift_is_out = _from_local_time(from_local, timezone)
    micros = np.where(is_zoned, from_zoned, from_local)
    is_out = np.where(is_zoned, zoned_is_out, local_is_out | shift_is_out)
    return micros, is_out, _is_null(zoned) & _is_null(local)


def _microseconds(column: pa.Array, unit: str) -> tuple[Int64, Bool]:
    """Whole microseconds of numbers or timestamps in ``unit``, and where they are out of range.

    Null is out of range, and so is a number with more digits than an integer has.
    """
    per_second = _PER_SECOND[unit]
    is_null = _is_null(column)
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        is_bad = is_null | ~((values >= 0) & (values < FIRST_INVALID_SECOND * per_second))
        scaled = np.rint(np.where(is_bad, 0, values) * (1e6 / per_second))
        return scaled.astype(np.int64), is_bad
    numbers = column.cast(pa.int64(), safe=False)  # uint64 beyond int64 becomes negative
    numbers = _ints(numbers)
    is_bad = is_null | (numbers < 0) | (numbers >= FIRST_INVALID_SECOND * per_second)
    numbers = np.where(is_bad, 0, numbers)
    if per_second > 10**6:
        return numbers // (per_second // 10**6), is_bad
    return numbers * (10**6 // per_second), is_bad


def _from_local_time(micros: Int64, timezone: str) -> tuple[Int64, Bool]:
    """UTC of local times. Of a time that a clock shows twice, or skips, the earliest is taken."""
    if timezone == "UTC":
        return micros, np.zeros(len(micros), bool)
    local = pa.array(micros).cast(pa.timestamp("us"))
    zoned = pc.assume_timezone(local, timezone, ambiguous="earliest", nonexistent="earliest")
    return _microseconds(zoned, "us")


def _utf8(column: pa.Array, problems: Problems | None) -> pa.Array:
    """A text or binary column as string; null and a problem where it is not UTF-8."""
    column = column.cast(pa.binary())
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = column.to_pylist()
    is_bad = np.array([value is not None and not _is_utf8(value) for value in values])
    if problems is not None:
        problems.add("not_utf8", is_bad)
    return _only(column, ~is_bad).cast(pa.string())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse(text: pa.Array, pattern: str, target: pa.DataType) -> pa.Array:
    """Numbers where the text matches; null elsewhere. Arrow alone would accept 0x10."""
    text = _only(text, _matches(text, pattern))
    if pa.types.is_floating(target):
        text = pc.utf8_ltrim(text, "+")  # Arrow reads no leading plus
    return _cast_or_null(text, target)


def _cast_or_null(column: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast, with null for values that cannot be cast; found by halving, as they are rare."""
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return pa.nulls(1, target)
    middle = len(column) // 2
    halves = (column.slice(0, middle), column.slice(middle))
    return pa.concat_arrays([_cast_or_null(half, target) for half in halves])


def _only(column: pa.Array, is_kept: Bool) -> pa.Array:
    """The column with nulls where rows are not kept."""
    if is_kept.all():
        return column
    return pc.if_else(pa.array(is_kept), column, pa.scalar(None, column.type))


def _matches(text: pa.Array, pattern: str) -> Bool:
    return _bools(pc.match_substring_regex(text, pattern))


def _bools(column: pa.Array) -> Bool:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), bool)


def _ints(column: pa.Array) -> Int64:
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), np.int64)


def _is_null(column: pa.Array) -> Bool:
    return _bools(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)))
