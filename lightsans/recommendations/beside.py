"""Columns of item and user tables beside recommendations, so that nobody needs a join.

A column of items becomes a list beside ``item_ids``, in the same order; one of users a value.
They keep the type that all files of their table agree on, text otherwise, and are null where the
table has no row. Of an item or user with several rows the first one counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError
from lightsans.lists.id_lists import as_integers, id_list_of, read_otherwise, require_some
from lightsans.lists.tables import Table, as_text, open_table
from lightsans.reading.columns import Wanted
from lightsans.reading.input_files import BESIDE
from lightsans.reading.values import is_text_like
from lightsans.storage.schemas import long_recommendations_schema, recommendations_schema


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of a table by name, and the ids that its rows are about."""

    ids: pa.Array
    """Text, each once."""
    values: dict[str, pa.Array]

    def of(self, ids: pa.Array) -> dict[str, pa.Array]:
        """The columns of some ids, in their order; null for those without a row."""
        known = as_integers(self.ids)
        if not pa.types.is_integer(ids.type):  # an id stands for the same without blanks, too
            known = pa.concat_arrays([self.ids, pc.utf8_trim_whitespace(self.ids)])
        places = pc.index_in(ids, value_set=known.cast(ids.type))
        size = len(self.ids)
        places = pc.if_else(pc.less(places, size), places, pc.subtract(places, size))
        return {name: column.take(places) for name, column in self.values.items()}


@dataclass(frozen=True, slots=True)
class Beside:
    """Columns of items and of users, by name; None where none are asked for."""

    items: _Columns | None
    users: _Columns | None

    def extended_schema(self, wide: pa.Schema) -> pa.Schema:
        """The schema of wide rows with the columns, those of items as lists."""
        for name, column in (self.items.values if self.items else {}).items():
            wide = wide.append(pa.field(name, pa.list_(column.type)))
        for name, column in (self.users.values if self.users else {}).items():
            wide = wide.append(pa.field(name, column.type))
        return wide

    def extend(self, wide: pa.Table) -> pa.Table:
        """Wide rows with the columns after their own."""
        if self.items is not None:
            lists = wide["item_ids"].combine_chunks()
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
            for name, values in self.items.of(lists.flatten()).items():
                wide = wide.append_column(name, pa.ListArray.from_arrays(offsets, values))
        if self.users is not None:
            for name, values in self.users.of(wide["user_id"].combine_chunks()).items():
                wide = wide.append_column(name, values)
        return wide


def read_beside(config: RunConfig) -> Beside | None:
    """The columns that ``score.item_columns`` and ``score.user_columns`` name; None without any.

    Raises:
        InputError: A table is missing or unreadable, or lacks a column.
        ConfigError: Two columns of a row would have one name.
    """
    tables = _open(config)
    if not tables:
        return None
    return Beside(
        *(_read(*tables[role], role) if role in tables else None for role in ("item", "user"))
    )


def beside_identity(config: RunConfig, made_with: Mapping[str, Any]) -> dict[str, Any] | None:
    """Identity of tables and columns, without reading them; None without any.

    Args:
        config: The run.
        made_with: Section ``data`` of the dataset's manifest.

    Raises:
        InputError: See `read_beside`.
        ConfigError: See `read_beside`.
    """
    found: dict[str, Any] = {}
    for role, (table, wanted) in _open(config).items():
        table.check(wanted)
        files = [file.identity for file in table.files]
        found[role] = {"files": files, "columns": [str(w.column) for w in wanted.values()][1:]}
        otherwise = read_otherwise(config.data, made_with, role)
        if otherwise:
            found[role]["read"] = otherwise
    return found or None


def require_known_items(beside: Beside, items: Vocabulary, config: RunConfig) -> None:
    """Refuse an item table none of whose items is known, unless ``score.allow_unmatched``.

    Raises:
        InputError: There is none.
    """
    if beside.items is not None:
        table, _ = _open(config)["item"]
        listed = id_list_of(table.setting, table.location, beside.items.ids)
        num_found = listed.num_found(items.raw_item_ids)
        where = "among the items of the dataset"
        allowing, allow = "score.allow_unmatched", config.score.allow_unmatched
        require_some(listed, num_found, where, allowing, allow)


def _open(config: RunConfig) -> dict[str, tuple[Table, dict[str, Wanted]]]:
    """Tables that columns are asked of, with the columns, the id first, by role."""
    score, columns, found = config.score, config.data.columns, {}
    asked = {
        "item": (score.item_table, score.item_columns, columns.item),
        "user": (score.user_table, score.user_columns, columns.user),
    }
    taken = {*recommendations_schema(pa.string(), pa.string()).names}
    taken |= {*long_recommendations_schema(pa.string(), pa.string()).names, "because"}
    taken |= {"probability"} if score.probability else set()
    taken |= {"item_source"} if score.buy_again else set()
    for role, (uri, names, id_column) in asked.items():
        if uri is None or not names:
            continue
        for name in names:
            if name in taken:
                raise ConfigError(
                    f"score.{role}_columns names {name!r}, which a row of recommendations has "
                    "already; rename that column of the table"
                )
            taken.add(name)
        wanted = {role: Wanted(id_column, f"data.columns.{role}")}
        wanted |= {BESIDE + name: Wanted(name, f"score.{role}_columns") for name in names}
        found[role] = open_table(f"score.{role}_table", uri, config), wanted
    return found


def _read(table: Table, wanted: dict[str, Wanted], role: str) -> _Columns:
    names = [name for name in wanted if name != role]
    pieces: dict[str, list[pa.Array]] = {name: [] for name in wanted}
    texts: dict[str, list[pa.Array]] = {name: [] for name in names}
    for file, data, columns in table.pieces(wanted):
        pieces[role].append(as_text(file, columns[role], role, data))
        for name in names:
            column = columns[name]
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            pieces[name].append(column)
            is_nested = pa.types.is_nested(column.type)
            texts[name].append(column if is_nested else as_text(file, column, name, data))
    ids = pa.concat_arrays(pieces[role]) if pieces[role] else pa.array([], pa.string())
    is_id = pc.not_equal(pc.utf8_trim_whitespace(ids), "")
    rows = pc.indices_nonzero(pc.fill_null(is_id, False))
    listed = ids.take(rows).dictionary_encode()  # numbered in order of their first row
    kept = rows.take(pa.array(np.unique(listed.indices, return_index=True)[1]))
    values = {}
    for name in names:
        kinds = {piece.type for piece in pieces[name]}
        is_typed = len(kinds) == 1 and not any(is_text_like(kind) for kind in kinds)
        arrays = pieces[name] if is_typed else texts[name]
        column = pa.concat_arrays(arrays) if arrays else pa.array([], pa.string())
        values[name.removeprefix(BESIDE)] = column.take(kept)
    return _Columns(listed.dictionary, values)
