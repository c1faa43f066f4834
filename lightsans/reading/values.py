"""Columns of values that may not be readable: reasons, and conversions that give null.

Nothing here raises for a value: it becomes null, and the caller gives its row a reason. Single
values are looked at only where a whole column could not be converted.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int32
from lightsans.columns.nulls import bools

NULL_WORDS = pa.array(["", "null", "NULL", "None", "NaN", "nan", "NA", "NaT", r"\N"])
WHOLE_NUMBER = r"^-?[0-9]+$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


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

    def add_of_values(self, values: "Problems", index: Int32) -> None:
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


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether values of this type are text, or bytes that should be."""
    kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
    return arrow_type in kinds


def as_utf8(column: pa.Array, problems: Problems | None) -> pa.Array:
    """A text or binary column as string; null and a problem where it is not UTF-8."""
    column = column.cast(pa.binary())
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = column.to_pylist()
    is_bad = np.array([value is not None and not _is_utf8(value) for value in values])
    if problems is not None:
        problems.add("not_utf8", is_bad)
    return keep_only(column, ~is_bad).cast(pa.string())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_numbers(text: pa.Array, pattern: str, target: pa.DataType) -> pa.Array:
    """Numbers where the text matches; null elsewhere. Arrow alone would accept 0x10."""
    text = keep_only(text, matches(text, pattern))
    if pa.types.is_floating(target):
        text = pc.utf8_ltrim(text, "+")  # Arrow reads no leading plus
    return cast_or_null(text, target)


def cast_or_null(column: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast, with null for values that cannot be cast; found by halving, as they are rare."""
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return pa.nulls(1, target)
    middle = len(column) // 2
    halves = (column.slice(0, middle), column.slice(middle))
    return pa.concat_arrays([cast_or_null(half, target) for half in halves])


def keep_only(column: pa.Array, is_kept: Bool) -> pa.Array:
    """The column with nulls where rows are not kept."""
    if is_kept.all():
        return column
    return pc.if_else(pa.array(is_kept), column, pa.scalar(None, column.type))


def matches(text: pa.Array, pattern: str) -> Bool:
    """Mask of the text that matches a regular expression."""
    return bools(pc.match_substring_regex(text, pattern))
