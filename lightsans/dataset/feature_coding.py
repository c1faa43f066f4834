"""Coding of item features: categories become numbers, numbers and vectors are standardised.

Fitted to the items that somebody met, since nothing is learned of others: a category that only new
items have says nothing, nor does one that appears later. A run that goes on from another model
takes over its coding, so that what was learned keeps its meaning; new categories are appended.

Shapes: N items   F numbers of an item
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Float32, Float64, Int64
from lightsans.dataset.feature_arrays import FeatureArrays
from lightsans.errors import InputError

CATEGORICAL, NUMERIC, VECTOR = "categorical.", "numeric.", "vector."
"""Prefixes of the columns of a table of features: lists of text, numbers, and lists of numbers."""
DESCRIBED: Final = "is_described"
"""Column that says whether the item table has the item."""
LARGEST: Final = 10.0
"""Standardised numbers beyond it count as it."""
_UNKNOWN: Final = (0.0, 1.0)
"""Mean and standard deviation of a column without a number: nothing was learned of it."""


@dataclass(frozen=True, slots=True)
class FeatureCoding:
    """Codes of each column of a table of features, by the column's name."""

    categories: dict[str, list[str]]
    """Values in the order of their numbers, which go on from column to column."""
    numbers: dict[str, tuple[float, float]]
    """Mean and standard deviation."""
    vectors: dict[str, tuple[list[float], float]]
    """Mean, empty where there is none, and the length that vectors have beyond it, on average."""

    @classmethod
    def fit(cls, table: pa.Table, is_met: Bool, base: Self | None = None) -> Self:
        """The coding of a table of features.

        Args:
            table: A row for each item, in the order of their ids.
            is_met: (N,) whether anybody has interacted with an item.
            base: A coding to take over; None to begin with.

        Raises:
            InputError: A column of vectors has another length than in ``base``.
        """
        met = table.filter(pa.array(is_met)) if is_met.any() else table
        categories, numbers, vectors = {}, {}, {}
        # Learned weights have the order of the columns that they were learned of.
        before = [] if base is None else [*base.categories, *base.numbers, *base.vectors]
        order = [name for name in before if name in table.column_names]
        for name in dict.fromkeys([*order, *table.column_names]):
            column = met[name].combine_chunks()
            if name.startswith(CATEGORICAL):
                known = [] if base is None else base.categories.get(name, [])
                found = set(pc.unique(column.flatten()).to_pylist()) - {None, *known}
                categories[name] = [*known, *sorted(found)]
            elif name.startswith(NUMERIC):
                spread = _UNKNOWN if base is None else base.numbers.get(name, _UNKNOWN)
                numbers[name] = _mean_and_spread(column) if spread == _UNKNOWN else spread
            elif name.startswith(VECTOR):
                own = None if base is None else base.vectors.get(name)
                vectors[name] = own or _center_and_length(column)
        return cls(categories, numbers, vectors)

    def arrays(self, table: pa.Table, is_met: Bool) -> FeatureArrays:
        """The features of a table as arrays, padding first.

        Raises:
            InputError: A column of the coding is missing, or its vectors have another length.
        """
        self.require_columns_of(table)
        items, codes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        weights, num_categories = [np.zeros(0, np.float32)], 0
        for name, values in self.categories.items():
            item, code = _codes(table[name].combine_chunks(), values)
            often = np.bincount(item, minlength=table.num_rows)
            items.append(item)
            codes.append(code + num_categories)
            weights.append((1 / np.sqrt(np.maximum(often, 1)))[item].astype(np.float32))
            num_categories += len(values)
        item, code, weight = np.concatenate(items), np.concatenate(codes), np.concatenate(weights)
        order = np.argsort(item, kind="stable")
        ends = np.cumsum(np.bincount(item, minlength=table.num_rows))
        columns = [np.zeros((table.num_rows, 0), np.float32), *self._number_columns(table)]
        numbers = np.concatenate(columns, axis=1)
        is_described = table[DESCRIBED].to_numpy()
        numbers[~is_described] = 0.0
        padding = np.zeros((1, numbers.shape[1]), np.float32)
        return FeatureArrays(
            categories=code[order],
            weights=weight[order],
            offsets=np.concatenate([[0, 0], ends]).astype(np.int64),
            numbers=np.concatenate([padding, numbers]),
            num_categories=num_categories,
            is_described=np.concatenate([[False], is_described]),
            is_met=np.concatenate([[False], is_met]),
            coding=self.to_json(),
        )

    def to_json(self) -> str:
        """The coding as text."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The coding behind what `to_json` made."""
        found = json.loads(text)
        return cls(
            found["categories"],
            {name: (mean, spread) for name, (mean, spread) in found["numbers"].items()},
            {name: (mean, length) for name, (mean, length) in found["vectors"].items()},
        )

    @property
    def category_numbers(self) -> dict[tuple[str, str], int]:
        """Number of each category, by column and value."""
        keys = [(name, value) for name, values in self.categories.items() for value in values]
        return {key: number for number, key in enumerate(keys)}

    def require_columns_of(self, table: pa.Table) -> None:
        """Refuse a table of features that has other columns.

        Raises:
            InputError: It does.
        """
        ours = {*self.categories, *self.numbers, *self.vectors}
        theirs = set(table.column_names) - {DESCRIBED}
        if ours != theirs:
            raise InputError(
                f"the model has learned the item features {', '.join(sorted(ours))}, the dataset "
                f"has {', '.join(sorted(theirs)) or 'none'}; set data.item_features alike, or "
                "train without train.warm_start"
            )

    def why_other(self, columns: Iterable[str], lengths: Mapping[str, int]) -> str | None:
        """Reason why a table of features is not one of this coding; None where it is.

        Args:
            columns: Its columns.
            lengths: Numbers of the vectors of each column of them that has any.
        """
        ours = {*self.categories, *self.numbers, *self.vectors}
        theirs = {*columns} - {DESCRIBED}
        if ours != theirs:
            both = (", ".join(sorted(names)) or "none" for names in (ours, theirs))
            return "the item features were {} and are {}".format(*both)
        for name, (center, _) in self.vectors.items():
            if lengths.get(name, len(center)) != len(center):
                return (
                    f"vectors of {name.removeprefix(VECTOR)} (data.item_features.vector) had "
                    f"{len(center)} numbers and have {lengths[name]}"
                )
        return None

    def _number_columns(self, table: pa.Table) -> list[Float32]:
        """(N, F) standardised values of each column, and whether they are missing."""
        found = []
        for name, (mean, spread) in self.numbers.items():
            values = table[name].combine_chunks().to_numpy(zero_copy_only=False).astype(np.float64)
            found.append(_with_missing((values[:, None] - mean) / spread))
        for name, (center, length) in self.vectors.items():
            vectors = _vectors(table[name].combine_chunks())
            if center and vectors.shape[1] not in (0, len(center)):
                raise InputError(
                    f"vectors of {name.removeprefix(VECTOR)} (data.item_features.vector) have "
                    f"{vectors.shape[1]} numbers, and the model has learned {len(center)}; give "
                    "vectors of the same program, or train without train.warm_start"
                )
            if vectors.shape[1] != len(center):  # nobody has one, or only items that nobody met
                vectors = np.full((table.num_rows, len(center)), np.nan, np.float32)
            vectors -= np.array(center, np.float32)
            vectors /= np.float32(length)
            found.append(_with_missing(vectors))
        return found


def _codes(lists: pa.ListArray, values: list[str]) -> tuple[Int64, Int64]:
    """Item and code of each value of a column of lists; unknown values are left out."""
    item = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    place = pc.index_in(lists.flatten(), value_set=pa.array(values, pa.string()))
    code = pc.fill_null(place, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return item[code >= 0], code[code >= 0]


def _with_missing(values: Float64 | Float32) -> Float32:
    """Standardised values, 0 where they are missing, and a column that says where."""
    is_missing = np.isnan(values).all(axis=1, keepdims=True)
    filled = np.clip(np.nan_to_num(values), -LARGEST, LARGEST)
    return np.concatenate([filled, is_missing], axis=1).astype(np.float32)


def _mean_and_spread(column: pa.Array) -> tuple[float, float]:
    values = column.drop_null().to_numpy(zero_copy_only=False)
    if not len(values):
        return _UNKNOWN
    return float(values.mean()), float(values.std()) or 1.0


def _center_and_length(column: pa.Array) -> tuple[list[float], float]:
    vectors = _vectors(column.drop_null())
    if not len(vectors):
        return [], 1.0
    center = vectors.mean(axis=0, dtype=np.float64)
    squares = ((vectors - center.astype(np.float32)) ** 2).sum(axis=1)
    length = float(np.sqrt(squares.mean(dtype=np.float64)))
    return center.tolist(), length or 1.0


def _vectors(lists: pa.ListArray) -> Float32:
    """(N, length) vectors of a column, NaN where there is none; their length is the same."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    found = np.full((len(lists), int(lengths.max(initial=0))), np.nan, np.float32)
    found[lengths > 0] = (
        lists.flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(-1, found.shape[1] or 1)[:, : found.shape[1]]
    )
    return found
