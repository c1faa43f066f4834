"""Columns of values that may not be readable: reasons, and conversions that give null.

Nothing here raises for a value: it becomes null, and the caller gives its row a reason. Single
values are looked at only where a whole column could not be converted.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int32
from lightsans.columns.findings import EMPTY, NULL, Findings
from lightsans.columns.nulls import bools, ints, is_null
from lightsans.config import DataConfig

OTHERS = "(others)"
"""Counts rows of further events together, where a column has very many."""
_MOST_COUNTED = 1000
_UUID_BYTES = 16
_LAST_BLANK, _FIRST_NOT_ASCII = 0x20, 0x80
WHOLE_NUMBER = r"^-?[0-9]+$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


class Problems:
    """The first reason against each of R rows, and what else was found in them."""

    def __init__(self, num_rows: int) -> None:
        self.findings = Findings()
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
    kinds = (pa.string(), pa.large_string(), pa.string_view())
    return arrow_type in (*kinds, pa.binary(), pa.large_binary(), pa.binary_view())


def is_text_like(arrow_type: pa.DataType) -> bool:
    """Whether `as_text` makes text of this type."""
    is_uuid = isinstance(arrow_type, pa.UuidType)
    return is_text(arrow_type) or is_uuid or pa.types.is_fixed_size_binary(arrow_type)


def as_text(column: pa.Array) -> pa.Array:
    """UUIDs as their usual text, and other bytes of a fixed width as binary."""
    if isinstance(column.type, pa.UuidType):
        column = column.storage
    if not pa.types.is_fixed_size_binary(column.type):
        return column
    if column.type.byte_width != _UUID_BYTES:
        return column.cast(pa.binary())
    values = column.to_pylist()
    return pa.array([None if v is None else str(UUID(bytes=v)) for v in values], pa.string())


def strip_blanks(text: pa.Array) -> pa.Array:
    """Text without blanks around it; most columns have none, which is seen at once."""
    data = np.frombuffer(text.buffers()[2] or b"", np.uint8)
    if len(data) and (data.min() <= _LAST_BLANK or data.max() >= _FIRST_NOT_ASCII):
        return pc.utf8_trim_whitespace(text)
    return text


def find_missing(text: pa.Array, words: Sequence[str]) -> Bool:
    """Mask of the values that are null, or a word for it; of text without blanks around it."""
    return bools(pc.is_in(text, value_set=pa.array([*words], text.type))) | is_null(text)


def count_words(words: pa.Array) -> dict[str, int]:
    """Numbers of rows by word, such as an event, or one that stands for a missing value."""
    counts = pc.value_counts(words)
    pairs = zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True)
    return {NULL if word is None else word or EMPTY: count for word, count in pairs}


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


# ---- events: their names, counts and codes -------------------------------------------------------


def is_event(kind: pa.DataType) -> bool:
    """Whether values of this type can name events, or there are none."""
    is_plain = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    return is_text_like(kind) or is_plain


def clean_events(column: pa.Array, missing_values: Sequence[str], problems: Problems) -> pa.Array:
    """Names of events, without blanks around them; rows without one get ``event_missing``."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text_like(column.type):
        names = strip_blanks(as_utf8(as_text(column), problems))
    else:
        names = column.cast(pa.string())
    problems.add("event_missing", find_missing(names, ["", *missing_values]))
    return names


def shortened(counts: Counter[str], named: Collection[str]) -> Counter[str]:
    """Counts of ``named`` events and the most frequent ones; of very many, the others as a sum."""
    if len(counts) <= _MOST_COUNTED:
        return counts
    kept = Counter(dict(counts.most_common(_MOST_COUNTED)))
    kept += Counter({name: counts[name] for name in named if name not in kept})
    kept[OTHERS] += counts.total() - kept.total()
    return kept


def with_codes(table: pa.Table, data: DataConfig) -> pa.Table:
    """The rows whose event counts for something, its name replaced by its code, from 1."""
    names = table["event"].combine_chunks()
    places = pc.index_in(names, value_set=pa.array(data.event_names, pa.string()))
    codes = (ints(places.fill_null(-1)) + 1).astype(np.int8)
    used = [any((e.input, e.target, e.seen)) for _, e in sorted(data.events.items())]
    is_used = np.array([False, *used])[codes]
    at = table.schema.get_field_index("event")
    return table.set_column(at, "event", pa.array(codes)).filter(pa.array(is_used))
