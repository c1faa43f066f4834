"""Ids as files hold them -> int64 or text, each with the value that it has there."""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int32, Int64
from lightsans.columns.findings import NULL, Findings
from lightsans.columns.nulls import bools, ints, is_null
from lightsans.config import DataConfig
from lightsans.reading.values import (
    WHOLE_NUMBER,
    Problems,
    as_text,
    as_utf8,
    cast_or_null,
    count_words,
    find_missing,
    is_text,
    is_text_like,
    parse_numbers,
    strip_blanks,
)
from lightsans.storage.schemas import id_type

_INT64_DIGITS = 18
_EXACT_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
"""Whole numbers up to so many bits are told apart by a float."""


def is_id(kind: pa.DataType) -> bool:
    """Whether values of this type can be ids, or there are none."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return is_text_like(kind) or pa.types.is_null(kind) or is_number


def natural_type(kind: pa.DataType) -> str | None:
    """``string`` or ``int64``, whichever holds all ids of a type; None where there are none."""
    if pa.types.is_null(kind):
        return None
    if pa.types.is_decimal(kind):
        return "int64" if kind.precision - kind.scale <= _INT64_DIGITS else "string"
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return "int64" if is_number and kind != pa.uint64() else "string"


def clean_ids(
    column: pa.Array, role: str, type_name: str, data: DataConfig, problems: Problems
) -> pa.Array:
    """Ids as int64 or text, a dictionary stays one; null or arbitrary where there is a problem.

    Reasons: ``<role>_missing``, ``<role>_too_long``, ``<role>_not_int``, ``<role>_not_whole`` (a
    number that is not whole, or too large for its type to tell neighbours apart), ``not_utf8``.
    """
    if not pa.types.is_dictionary(column.type):
        values = _clean_values(column, role, type_name, data, problems)
        _count(values, np.arange(len(column)), role, problems.findings)
        return values.ids
    is_empty = is_null(column.indices)
    problems.add(f"{role}_missing", is_empty)
    problems.findings.add_missing(role, {NULL: int(is_empty.sum())} if is_empty.any() else {})
    index = column.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    distinct = column.dictionary
    if not len(distinct):  # all rows are null
        distinct = pa.nulls(1, distinct.type)
    of_values = Problems(len(distinct))
    values = _clean_values(distinct, role, type_name, data, of_values)
    _count(values, index[~is_empty], role, problems.findings)
    problems.add_of_values(of_values, index)
    ids = values.ids
    if data.strip_ids or ids.type != distinct.type:  # 7 and 07 are one integer, a value once
        once = ids.dictionary_encode()
        if len(once.dictionary):
            index, ids = ints(once.indices)[index].astype(np.int32), once.dictionary
    return pa.DictionaryArray.from_arrays(pa.array(index), ids)


@dataclass(frozen=True, slots=True)
class _Values:
    """Cleaned values, V of them, and what was found on the way."""

    ids: pa.Array
    is_missing: Bool
    words: pa.Array
    """(V,) the text that stands for a missing value, arbitrary elsewhere."""
    is_padded: Bool
    """(V,) whether there are blanks around the id."""


def _clean_values(
    column: pa.Array, role: str, type_name: str, data: DataConfig, problems: Problems
) -> _Values:
    target = id_type(type_name)
    column = as_text(column)
    if is_text(column.type):
        return _clean_text(column, role, target, data, problems)
    is_missing = is_null(column)
    whole = _whole_numbers(column)
    words = pa.nulls(len(column), pa.string())
    numbers = [word for word in data.missing_values if re.match(WHOLE_NUMBER, word)]
    if numbers:
        words = whole.cast(pa.string())
        is_missing |= bools(pc.is_in(words, value_set=pa.array(numbers)))
    problems.add(f"{role}_missing", is_missing)
    problems.add(f"{role}_not_whole", is_null(whole))
    if target == pa.int64():
        ids = cast_or_null(whole, target)
        problems.add(f"{role}_not_int", is_null(ids))
    else:
        ids = whole.cast(target)
    return _Values(ids, is_missing, words, np.zeros(len(ids), bool))


def _clean_text(
    column: pa.Array, role: str, target: pa.DataType, data: DataConfig, problems: Problems
) -> _Values:
    text = as_utf8(column, problems)
    trimmed = strip_blanks(text)
    is_missing = find_missing(trimmed, data.missing_values) | (ints(pc.binary_length(trimmed)) == 0)
    is_missing &= ~(is_null(text) & ~is_null(column))  # bytes that are no text are not nothing
    is_padded = ints(pc.binary_length(text)) != ints(pc.binary_length(trimmed))
    problems.add(f"{role}_missing", is_missing)
    ids = trimmed if data.strip_ids or target == pa.int64() else text
    problems.add(f"{role}_too_long", ints(pc.binary_length(ids)) > data.max_id_bytes)
    if target == pa.int64():
        ids = parse_numbers(pc.replace_substring_regex(ids, r"\.0+$", ""), WHOLE_NUMBER, target)
        problems.add(f"{role}_not_int", is_null(ids))
    is_told = not data.strip_ids and target != pa.int64()
    return _Values(ids, is_missing, trimmed, is_padded & ~is_missing & is_told)


def _whole_numbers(column: pa.Array) -> pa.Array:
    """Numbers as integers or the text of one; null where they are none, or not exact."""
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.int64())
    if pa.types.is_decimal(kind):
        whole = cast_or_null(column, pa.decimal256(kind.precision + max(-kind.scale, 0), 0))
        return whole.cast(pa.string())
    if not pa.types.is_floating(kind):
        return column
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    limit = 2 ** _EXACT_BITS[kind]  # above, a float does not tell neighbouring ids apart
    with np.errstate(invalid="ignore"):
        is_whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < limit)
    return pa.array(np.where(is_whole, values, 0).astype(np.int64), mask=~is_whole)


def _count(values: _Values, index: Int64 | Int32, role: str, findings: Findings) -> None:
    """Count what was found for the rows whose values these are."""
    is_missing, is_padded = values.is_missing[index], values.is_padded[index]
    if is_missing.any():
        missing = pa.array(index[is_missing])
        findings.add_missing(role, count_words(values.words.take(missing)))
    if is_padded.any():
        first = index[np.flatnonzero(is_padded)[0]]
        findings.add_padded(role, is_padded, str(values.ids[int(first)].as_py()))
