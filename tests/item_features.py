"""Items with features, as tables and arrays that are small enough to check by hand."""

from typing import Any

import numpy as np
import pyarrow as pa

from lightsans.dataset.feature_arrays import FeatureArrays
from lightsans.dataset.feature_coding import DESCRIBED, FeatureCoding


def feature_table(**columns: Any) -> pa.Table:
    """A table of features; every item has a row that has a value in some column.

    Args:
        columns: ``genre=[["a"], []]`` is categorical, ``price=[1.0, None]`` numeric,
            ``title_vector=[[1.0, 2.0], None]`` a vector.
    """
    made = {}
    for name, values in columns.items():
        if name.endswith("_vector"):
            made[f"vector.{name}"] = pa.array(values, pa.list_(pa.float32()))
        elif any(isinstance(value, list) for value in values):
            made[f"categorical.{name}"] = pa.array(values, pa.list_(pa.string()))
        else:
            made[f"numeric.{name}"] = pa.array(values, pa.float64())
    rows = zip(*columns.values(), strict=True)
    return pa.table({DESCRIBED: [any(v not in (None, []) for v in row) for row in rows], **made})


def feature_arrays(table: pa.Table, met: Any = None) -> FeatureArrays:
    """The features of a table, of which some items were met; all unless given."""
    is_met = np.ones(table.num_rows, bool)
    if met is not None:
        is_met = np.isin(np.arange(1, table.num_rows + 1), met)
    return FeatureCoding.fit(table, is_met).arrays(table, is_met)


def coloured(num_items: int, met: Any = None) -> FeatureArrays:
    """Items in turn red, green and blue, with their number and a vector; the last has nothing."""
    colours = ["red", "green", "blue"]
    numbers = range(num_items - 1)
    table = feature_table(
        colour=[*([colours[n % 3]] for n in numbers), []],
        size=[*(float(n) for n in numbers), None],
        title_vector=[*([float(n % 2), 1.0, float(n % 3)] for n in numbers), None],
    )
    return feature_arrays(table, met)
