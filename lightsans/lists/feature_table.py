"""Features of items: columns of ``data.item_table``, as ``data.item_features`` names them."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.arrow import is_list
from lightsans.config import DataConfig, ItemFeaturesConfig, RunConfig
from lightsans.dataset.feature_coding import CATEGORICAL, DESCRIBED, NUMERIC, VECTOR
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.lists.id_lists import as_integers, id_list_of, require_some
from lightsans.lists.tables import Table, as_text, open_table, written
from lightsans.reading.columns import Wanted
from lightsans.reading.values import is_text_like
from lightsans.storage.location import FileInfo, Location

SETTING = "data.item_table"
_KINDS = {CATEGORICAL: "categorical", NUMERIC: "numeric", VECTOR: "vector"}
_TYPES = {
    CATEGORICAL: pa.list_(pa.string()),
    NUMERIC: pa.float64(),
    VECTOR: pa.list_(pa.float32()),
}


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Rows of the item table."""

    location: Location
    ids: pa.Array
    """Ids as text, each once."""
    columns: dict[str, pa.Array]
    """Features by the name of their column, with its kind before it."""

    def join(self, known: Vocabulary, allow_unmatched: bool) -> tuple[Vocabulary, pa.Table, str]:
        """Items with those of the table, their features, and a warning or nothing.

        Args:
            known: Items of a dataset; those of the table that it lacks follow, counted 0 times.
            allow_unmatched: A table none of whose items it knows is a warning, not an error.

        Returns:
            The vocabulary, a row of features for each of its items in order, and the warning.

        Raises:
            InputError: An id cannot be one of this dataset, or has several rows.
        """
        ids, kind = self.ids, known.raw_item_ids.type
        listed = id_list_of(SETTING, self.location, ids)
        found = listed.num_found(known.raw_item_ids)
        warning = require_some(listed, found, "in the log", "data.allow_unmatched", allow_unmatched)
        ids = self._as_integers(kind) if pa.types.is_integer(kind) else self._as_known(known)
        self._require_once(ids)
        items = known.with_listed(ids)
        places = pc.index_in(items.raw_item_ids, value_set=ids)
        columns = {name: column.take(places) for name, column in self.columns.items()}
        for name, column in columns.items():
            if name.startswith(CATEGORICAL):
                columns[name] = pc.if_else(column.is_valid(), column, pa.scalar([], column.type))
        return items, pa.table({DESCRIBED: places.is_valid(), **columns}), warning

    def _as_integers(self, kind: pa.DataType) -> pa.Array:
        found = as_integers(self.ids)
        if found.null_count:
            odd = self.ids.filter(found.is_null())[0].as_py()
            raise InputError(
                f"{SETTING}: {self.location}: item {odd!r} is no whole number, as the items of the "
                "log are; mend the table, or set data.item_id_type"
            )
        return found.cast(kind)

    def _as_known(self, known: Vocabulary) -> pa.Array:
        """The ids, without blanks around them where the log has them without."""
        kind = known.raw_item_ids.type
        stripped = pc.utf8_trim_whitespace(self.ids)
        raw = known.raw_item_ids.cast(pa.string())
        is_other = pc.and_(pc.invert(pc.is_in(self.ids, raw)), pc.is_in(stripped, raw))
        return pc.if_else(is_other, stripped, self.ids).cast(kind)

    def _require_once(self, ids: pa.Array) -> None:
        if pc.count_distinct(ids).as_py() == len(ids):
            return
        counted = pc.value_counts(ids)
        often = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
        raise InputError(
            f"{SETTING}: {self.location}: item {often[0].as_py()!r} has more than one row; give "
            "one row an item, with several categories in one cell (data.item_features.separators)"
        )


def open_feature_table(config: RunConfig) -> Table | None:
    """Find the table and its columns, without reading them; None without features.

    Raises:
        InputError: It is missing, or lacks a column.
    """
    if config.data.item_table is None:
        return None
    table = open_table(SETTING, config.data.item_table, config)
    table.check(item_columns(config.data))
    return table


def table_files(table: Table | None) -> tuple[FileInfo, ...]:
    """The files of a table; none without one."""
    return () if table is None else table.files


def read_feature_table(config: RunConfig, table: Table) -> FeatureTable:
    """Read the columns that ``data.item_features`` names.

    Raises:
        InputError: A file is unreadable, or a value is none of its column's kind.
    """
    features, wanted = config.data.item_features, item_columns(config.data)
    pieces: dict[str, list[pa.Array]] = {role: [] for role in wanted}
    for file, data, columns in table.pieces(wanted):
        ids = as_text(file, columns["item"], "item", data)
        is_id = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(ids), ""), False)
        pieces["item"].append(ids.filter(is_id))
        for role in wanted:
            if role == "item":
                continue
            column = columns[role].filter(is_id)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if is_text_like(column.type):
                column = as_text(file, column, role, data)
                column = _without_missing(column, data.missing_values)
            pieces[role].append(_convert(column, role, features, file))
    found = {
        role: pa.concat_arrays(arrays) if arrays else pa.array([], _type_of(role))
        for role, arrays in pieces.items()
    }
    ids = found.pop("item")
    for role, column in found.items():
        if role.startswith(VECTOR):
            _require_one_length(column, role, ids, table.location)
    return FeatureTable(table.location, ids, found)


def item_columns(data: DataConfig) -> dict[str, Wanted]:
    """The columns of the item table, that of the ids first, by role."""
    columns, features = data.columns, data.item_features
    wanted = {"item": Wanted(columns.item, "data.columns.item")}
    for prefix, kind in _KINDS.items():
        for name in getattr(features, kind):
            wanted[prefix + name] = Wanted(name, f"data.item_features.{kind}")
    return wanted


def _kind_of(role: str) -> str:
    return next(prefix for prefix in _KINDS if role.startswith(prefix))


def _type_of(role: str) -> pa.DataType:
    return pa.string() if role == "item" else _TYPES[_kind_of(role)]


def _without_missing(column: pa.Array, words: Sequence[str]) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(column)
    is_missing = pc.is_in(trimmed, pa.array(["", *words], pa.string()))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), trimmed)


def _convert(column: pa.Array, role: str, features: ItemFeaturesConfig, file: Location) -> pa.Array:
    """A column as its kind is stored.

    Raises:
        InputError: It holds something else.
    """
    prefix = _kind_of(role)
    name = role.removeprefix(prefix)
    try:
        if prefix == CATEGORICAL:
            return _categories(column, features.separators.get(name))
        return _numbers(column) if prefix == NUMERIC else _vectors(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        what = {NUMERIC: "numbers", VECTOR: "lists of numbers", CATEGORICAL: "words"}[prefix]
        hint = "; words for a missing value are in data.missing_values" if prefix == NUMERIC else ""
        raise InputError(
            f"{SETTING}: {file}: column {name!r} (data.item_features.{_KINDS[prefix]}) does not "
            f"hold {what}: {error}{hint}"
        ) from None


def _categories(column: pa.Array, separator: str | None) -> pa.Array:
    """Lists of words without blanks around them, each once; empty where there is none."""
    if is_list(column.type):
        lists = column.cast(pa.list_(pa.string()))
    else:
        cells = written(column)
        if separator is not None and not pc.any(pc.starts_with(cells, "[")).as_py():
            lists = pc.split_pattern(cells, separator)
        else:
            words = [_words(cell, separator) for cell in cells.to_pylist()]
            lists = pa.array(words, pa.list_(pa.string()))
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    words = pc.utf8_trim_whitespace(lists.flatten())
    is_word = pc.fill_null(pc.not_equal(words, ""), False)
    rows, words = rows[is_word.to_numpy(zero_copy_only=False)], words.filter(is_word)
    codes = words.dictionary_encode().indices.to_numpy().astype(np.int64)
    pairs = np.stack([rows, codes])
    kept = np.sort(np.unique(pairs, axis=1, return_index=True)[1])
    ends = np.cumsum(np.bincount(rows[kept], minlength=len(column)))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, words.take(pa.array(kept)))


def _words(cell: str | None, separator: str | None) -> list[str]:
    """The words of a cell, which may be a list in JSON."""
    if cell is None:
        return []
    if cell.startswith("["):
        with suppress(ValueError):
            return [str(word) for word in json.loads(cell) if word is not None]
    return [cell] if separator is None else cell.split(separator)


def _numbers(column: pa.Array) -> pa.Array:
    values = column.cast(pa.float64())
    known = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    odd = known.filter(pc.is_inf(known))
    if len(odd):
        raise ValueError(f"{odd[0].as_py()} is not finite")
    return known


def _vectors(column: pa.Array) -> pa.Array:
    """Lists of numbers; text such as "[0.5, 1]" or "0.5 1" is taken apart."""
    if not is_list(column.type):
        text = pc.utf8_trim_whitespace(
            pc.replace_substring_regex(column.cast(pa.string()), r"[\[\]]", "")
        )
        column = pc.split_pattern_regex(text, r"\s*[,\s]\s*")
    lists = column.cast(pa.list_(column.type.value_type)).cast(pa.list_(pa.float32()))
    values = lists.flatten()
    if values.null_count or (not pc.all(pc.is_finite(values)).as_py() and len(values)):
        raise ValueError("a number is missing or not finite")
    return lists


def _require_one_length(column: pa.Array, role: str, ids: pa.Array, table: Location) -> None:
    lengths: Any = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    known = lengths[lengths >= 0]
    if not len(known) or ((known == known[0]).all() and known[0] > 0):
        return
    other = int(np.flatnonzero((lengths >= 0) & ((lengths != known[0]) | (lengths == 0)))[0])
    raise InputError(
        f"{SETTING}: {table}: column {role.removeprefix(VECTOR)!r} (data.item_features.vector) has "
        f"{lengths[other]} numbers for item {ids[other].as_py()!r}, and {known[0]} for another; "
        "all vectors must have one length, or be missing"
    )
