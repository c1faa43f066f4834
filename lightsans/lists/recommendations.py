"""Anybody's lists of recommendations: a row a user, or a row a recommendation, by raw ids.

A wide table has a column of lists (``item_ids``, ``items`` or ``recommendations``): of parquet or
JSON lines, or text such as ``[3, 1, 7]`` or ``3|1|7``. A long one has an item a row, in order of
``rank``, of falling ``score`` where there is no rank, of the rows where there is neither.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Float64, Int64
from lightsans.config import DataConfig, RunConfig
from lightsans.errors import InputError
from lightsans.lists.tables import Table, about, as_text, open_table
from lightsans.reading.columns import Wanted, without_type
from lightsans.reading.input_files import LISTS
from lightsans.storage.location import Location
from lightsans.warehouse.partitions import partitions_of

WIDE = ("item_ids", "items", "recommendations")
"""Names of a column of lists."""
_SEPARATORS = ("|", ";", ",")


@dataclass(frozen=True, slots=True)
class GivenLists:
    """Lists by user, best item first."""

    setting: str
    location: Location
    user_ids: pa.Array
    """(U,) text, each once."""
    offsets: Int64
    """(U + 1,) where each list begins."""
    items: pa.Array
    """(I,) raw ids as text, end to end, each once in a list."""


@dataclass(frozen=True, slots=True)
class ListsTable:
    """A table of lists whose columns were found."""

    table: Table
    wanted: dict[str, Wanted]
    """``user``, and ``items`` of a wide table, or ``item`` and perhaps ``rank`` or ``score``."""

    def read(self) -> GivenLists:
        """Read the lists; of several wide rows of a user the first one counts.

        Raises:
            InputError: A file is unreadable, or a rank or score is no number.
        """
        rows = _read_wide(self) if LISTS in self.wanted else _read_long(self)
        return _by_user(self.table, *rows)


def open_lists(setting: str, uri: str, config: RunConfig) -> ListsTable:
    """Find the columns of a table of lists.

    Args:
        setting: Setting that names it, for messages.
        uri: A file, directory or glob in every format that a log may have.
        config: ``data.columns`` names the columns of users and items, ``data`` how it is read.

    Raises:
        InputError: It is missing or unreadable, or has no such columns.
    """
    table = open_table(setting, uri, config)
    columns = config.data.columns
    user = _find(table, (columns.user, "user_id"))
    wide, item = _find(table, WIDE), _find(table, (columns.item, "item_id"))
    if user is None or (wide is None and item is None):
        missing = f"users: {columns.user!r} (data.columns.user) or 'user_id'"
        if user is not None:
            missing = (
                f"items: lists in {', '.join(map(repr, WIDE))}, or an item a row in "
                f"{columns.item!r} (data.columns.item) or 'item_id'"
            )
        found = ", ".join(map(repr, table.names))
        raise InputError(
            f"{setting}: {table.location}: no column of {missing}; found {found}. Rename one"
        )
    wanted = {"user": Wanted(user, "data.columns.user")}
    if wide is not None:
        wanted[LISTS] = Wanted(wide, "data.columns.item")
    elif item is not None:
        wanted["item"] = Wanted(item, "data.columns.item")
        order = next((name for name in ("rank", "score") if _find(table, (name,))), None)
        if order is not None:
            wanted[order] = Wanted(order, setting)
    table.check(wanted)
    return ListsTable(table, wanted)


def _find(table: Table, names: Sequence[str | int]) -> str | int | None:
    known = {*table.names, *map(without_type, table.names), *partitions_of(table.files[0])}
    for name in names:
        is_place = isinstance(name, int) and name < len(table.names)
        if is_place or name in known:
            return name
    return None


def _read_wide(lists: ListsTable) -> tuple[pa.Array, pa.Array, Float64]:
    """User and item of every place, and the place."""
    users, items, lengths = [], [], []
    for file, data, columns in lists.table.pieces(lists.wanted):
        with about(lists.table.setting):
            ids, counts = _cut(columns[LISTS], file, data)
            users.append(as_text(file, columns["user"], "user", data))
        items.append(ids)
        lengths.append(counts)
    counts = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    ids = pa.concat_arrays(users) if users else pa.array([], pa.string())
    # Of a user with several rows the first one counts.
    is_first = np.zeros(len(ids), bool)
    is_first[np.unique(_codes(ids), return_index=True)[1]] = True
    rows = np.repeat(np.arange(len(ids)), counts)
    kept = np.flatnonzero(is_first[rows])
    every = pa.concat_arrays(items) if items else pa.array([], pa.string())
    owners = ids.take(pa.array(rows[kept]))
    return owners, every.take(pa.array(kept)), kept.astype(np.float64)


def _cut(column: pa.Array, file: Location, data: DataConfig) -> tuple[pa.Array, Int64]:
    """Items of lists, end to end as text, and how many each list has."""
    if not pa.types.is_nested(column.type):
        column = _cut_text(as_text(file, column, "lists", data))
    if not hasattr(column, "flatten") or pa.types.is_struct(column.type):
        raise InputError(f"{file}: a column of lists holds {column.type}; expected lists of ids")
    items = column.flatten()
    if pa.types.is_nested(items.type):
        raise InputError(
            f"{file}: a column of lists holds {column.type}; expected lists of ids: take the ids "
            "out, as transform(recommendations, r -> r.item_id) does in Spark"
        )
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return as_text(file, items, "item", data), lengths.astype(np.int64)


def _cut_text(texts: pa.Array) -> pa.Array:
    """Lists that are written as text: JSON, or ids between ``|``, ``;``, commas or blanks."""
    lists = [_parse_json(text) for text in texts.to_pylist()]
    plain = [each for each in lists if isinstance(each, str)]
    separator = next((one for one in _SEPARATORS if any(one in text for text in plain)), None)
    cut = [
        [piece.strip().strip("'\"") for piece in each.split(separator) if piece.strip()]
        if isinstance(each, str)
        else each
        for each in lists
    ]
    return pa.array(cut, pa.list_(pa.string()))


def _parse_json(text: str | None) -> list[str] | str:
    """A JSON list as its items; other text without the brackets around it."""
    text = (text or "").strip()
    if not text.startswith(("[", "(")):
        return text
    try:
        return [str(item) for item in json.loads(text)]
    except ValueError:
        return text.strip("[]()")


def _read_long(lists: ListsTable) -> tuple[pa.Array, pa.Array, Float64]:
    """User, item and a number that rises with the place, of every row."""
    found = lists.table.read(lists.wanted)
    users, items = found["user"], found["item"]
    order = np.arange(len(users), dtype=np.float64)
    for name, sign in (("rank", 1.0), ("score", -1.0)):
        if name in found:
            order = sign * _numbers(found[name], name, lists.table)
    return users, items, order


def _numbers(texts: pa.Array, name: str, table: Table) -> Float64:
    try:
        texts = pc.utf8_trim_whitespace(texts)
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        values = texts.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{table.setting}: {table.location}: column {name!r} orders the lists, and holds what "
            f"is no number ({error}); mend or rename it"
        ) from None
    if values.null_count:
        raise InputError(
            f"{table.setting}: {table.location}: column {name!r} orders the lists, and "
            f"{values.null_count:,} rows have none; mend or rename it"
        )
    numbers: Float64 = values.to_numpy(zero_copy_only=False)
    return numbers


def _by_user(table: Table, users: pa.Array, items: pa.Array, order: Float64) -> GivenLists:
    """Lists from their places; rows without a user or an item are left out."""
    is_whole = pc.and_(
        pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(users), ""), False),
        pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(items), ""), False),
    )
    users, items = users.filter(is_whole), items.filter(is_whole)
    order = order[is_whole.to_numpy(zero_copy_only=False)]
    codes, item_codes = _codes(users), _codes(items)
    sorted_rows = np.lexsort([np.arange(len(codes)), order, codes])
    # An item that comes again in a list counts where it comes first.
    pairs = codes[sorted_rows] * (item_codes.max(initial=0) + 1) + item_codes[sorted_rows]
    is_first = np.zeros(len(pairs), bool)
    is_first[np.unique(pairs, return_index=True)[1]] = True
    rows = sorted_rows[is_first]
    lengths = np.bincount(codes[rows])
    return GivenLists(
        table.setting,
        table.location,
        pc.unique(users),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items.take(pa.array(rows)),
    )


def _codes(values: pa.Array) -> Int64:
    """Numbers of values, by first appearance; a missing one has one, too."""
    encoded = pc.fill_null(values, "").dictionary_encode()
    codes: Int64 = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes
