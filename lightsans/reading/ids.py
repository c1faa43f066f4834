"""Ids as files hold them -> int64 or text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.nulls import ints, is_null
from lightsans.config import DataConfig
from lightsans.reading.values import (
    WHOLE_NUMBER,
    Problems,
    as_utf8,
    cast_or_null,
    is_text,
    parse_numbers,
)
from lightsans.storage.schemas import id_type


def clean_ids(
    column: pa.Array, role: str, type_name: str, data: DataConfig, problems: Problems
) -> pa.Array:
    """Ids as int64 or text, a dictionary stays one; null or arbitrary where there is a problem.

    Reasons: ``<role>_missing``, ``<role>_too_long``, ``<role>_not_int``, ``not_utf8``.
    """
    if not pa.types.is_dictionary(column.type):
        return _clean_values(column, role, type_name, data, problems)
    problems.add(f"{role}_missing", is_null(column.indices))
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
        column = as_utf8(column, problems)
        lengths = ints(pc.binary_length(column))
        problems.add(f"{role}_missing", lengths == 0)  # null or empty
        problems.add(f"{role}_too_long", lengths > data.max_id_bytes)
        if target == pa.string():
            return column
        column = parse_numbers(pc.utf8_trim_whitespace(column), WHOLE_NUMBER, target)
        problems.add(f"{role}_not_int", is_null(column))
        return column
    problems.add(f"{role}_missing", is_null(column))
    if target == pa.int64() and pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
        # Above 2^53 a float no longer tells neighbouring ids apart.
        is_whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 2**53)
        problems.add(f"{role}_not_int", ~is_whole)
        return pa.array(np.where(is_whole, values, 0).astype(np.int64))
    if column.type == pa.uint64() and target == pa.int64():
        column = cast_or_null(column, target)
        problems.add(f"{role}_not_int", is_null(column))
        return column
    return column.cast(target)
