"""Columns with nulls -> numpy arrays."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int64


def bools(column: pa.Array) -> Bool:
    """Booleans; null is false."""
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), bool)


def ints(column: pa.Array) -> Int64:
    """Integers as int64; null is 0."""
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), np.int64)


def is_null(column: pa.Array) -> Bool:
    """Mask of the rows where a column is null, or NaN."""
    return bools(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)))
