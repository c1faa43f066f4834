"""Data frames of any library as Arrow tables, and back as the same library's.

A frame is whatever offers the Arrow PyCapsule interface (``__arrow_c_stream__``): pandas from 2.2
on, Polars from 1.3 on, Arrow itself, DuckDB and others. Nothing is imported for it: who has a frame
has its library.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError, InputError
from lightsans.reading.columns import Wanted, find_columns
from lightsans.storage.location import Location

Frame = Any
Library = Literal["pandas", "polars", "arrow"]
_REFUSALS = (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError)
"""Errors by which Arrow refuses values, such as numbers of more than 64 bits."""


def library_of(frame: Frame) -> Library:
    """The library whose frames are given back for this one; Arrow for whatever else there is."""
    name = type(frame).__module__.partition(".")[0]
    return "pandas" if name == "pandas" else "polars" if name == "polars" else "arrow"


def to_table(frame: Frame, columns: Mapping[str, Wanted]) -> tuple[pa.Table, dict[str, str]]:
    """The needed columns of a frame, and the name of each by its role.

    Args:
        frame: The frame, or a dict of columns.
        columns: By role, a column's name, or its position.

    Raises:
        InputError: It is no frame, lacks a column, or holds what Arrow cannot.
    """
    if not isinstance(frame, Mapping) and not hasattr(frame, "__arrow_c_stream__"):
        hint = ": call its collect() first" if hasattr(frame, "collect") else ""
        raise InputError(
            f"fit() was given a {type(frame).__module__}.{type(frame).__name__}{hint}; expected a "
            "frame of pandas (2.2 or newer), Polars or Arrow, or whatever else has "
            "__arrow_c_stream__"
        )
    frame = _with_columns(frame)
    names = _names(frame)
    try:
        found = find_columns(Location("the frame", StorageConfig()), names, columns, {})
    except InputError as error:
        raise InputError(f"{error}{_index_hint(frame, columns)}") from None
    places = list(dict.fromkeys(found.positions.values()))  # a condition may look at the rating
    by_role = {role: names[place] for role, place in found.positions.items()}
    try:
        if library_of(frame) == "pandas":  # by place: names may be numbers there
            frame = frame.iloc[:, places].set_axis([names[at] for at in places], axis="columns")
            return _plain(pa.Table.from_pandas(frame, preserve_index=False)), by_role
        if library_of(frame) == "polars":
            frame = frame.select([names[at] for at in places])
        return _plain(pa.table(frame).select([names[at] for at in places])), by_role
    except _REFUSALS as error:
        raise InputError(
            f"the frame holds what Arrow cannot: {error}; give every column one type and as many "
            "rows as the others"
        ) from None


def to_frame(table: pa.Table, library: Library) -> Frame:
    """A table as a frame of a library.

    Raises:
        ConfigError: The library is not installed.
    """
    if library == "arrow":
        return table
    try:
        module = importlib.import_module(library)
    except ImportError:
        raise ConfigError(
            f"the log was a frame of {library}, which is not installed here: `pip install "
            f"{library}`, or set the attribute library of the Recommender to 'arrow'"
        ) from None
    return table.to_pandas() if library == "pandas" else module.from_arrow(table)


def to_ids(values: Any, kind: pa.DataType, what: str) -> pa.Array:
    """Ids that somebody asks for, as the log has them.

    Args:
        values: One id, or a list, array, series or column of them.
        kind: Type of the ids of the log.
        what: Their name, for messages.

    Raises:
        InputError: They cannot be such ids.
    """
    if getattr(values, "shape", None) == ():  # NumPy's arrays of one number have no length
        values = values.tolist()
    if isinstance(values, str | bytes | int) or not hasattr(values, "__len__"):
        values = [values]
    try:
        found = values if isinstance(values, pa.Array) else None
        if isinstance(values, pa.ChunkedArray):
            found = values.combine_chunks()
        found = pa.array(_listed(values)) if found is None else found
        if pa.types.is_dictionary(found.type):
            found = found.dictionary_decode()
        return found.cast(kind)
    except _REFUSALS:
        word = "whole numbers" if pa.types.is_integer(kind) else "text"
        message = f"{what}: {_short(values)} are no ids of the log, which are {word}"
        raise InputError(message) from None


def _listed(values: Any) -> Sequence[Any]:
    for method in ("to_list", "tolist"):
        if hasattr(values, method):
            found: Sequence[Any] = getattr(values, method)()
            return found
    return list(values)


def _short(values: Any) -> str:
    text = ", ".join(repr(each) for each in list(_listed(values))[:3])
    return f"{text}, ..." if len(values) > 3 else text


def _with_columns(frame: Frame) -> Frame:
    """The frame as one whose columns have names that are text.

    Raises:
        InputError: It has a single column without a name, as a series does.
    """
    if isinstance(frame, Mapping):
        return {str(name): column for name, column in frame.items()}
    if hasattr(frame, "columns"):
        return frame
    try:
        return pa.table(frame)
    except pa.ArrowInvalid:
        raise InputError(
            f"fit() was given a {type(frame).__module__}.{type(frame).__name__}, which has no "
            "named columns; expected a frame with one for users, one for items and one for times"
        ) from None


def _index_hint(frame: Frame, columns: Mapping[str, Wanted]) -> str:
    """Hint about wanted columns that are in the index of a frame of pandas."""
    if library_of(frame) != "pandas":
        return ""
    wanted = [str(each.column) for each in columns.values()]
    there = [repr(name) for name in map(str, frame.index.names) if name in wanted]
    if not there:
        return ""
    return f"; the index has {' and '.join(there)}: give the frame's reset_index()"


def _names(frame: Frame) -> list[str]:
    if isinstance(frame, Mapping):
        return list(frame)
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return list(frame.schema.names)
    return [str(name) for name in frame.columns]


def _plain(table: pa.Table) -> pa.Table:
    """The table with text as parquet and our readers know it."""
    for place, field in enumerate(table.schema):
        plain = _plain_type(field.type)
        if plain != field.type:
            column = table.column(place)
            if pa.types.is_dictionary(field.type):
                chunks = [_decoded(chunk, plain) for chunk in column.chunks]
                column = pa.chunked_array(chunks, plain)
            table = table.set_column(place, field.name, column.cast(plain))
    return table.replace_schema_metadata(None)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without views and dictionaries, within lists too."""
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_type(kind.value_type))
    return pa.list_(_plain_type(kind.value_type)) if pa.types.is_list(kind) else kind


def _decoded(ids: pa.DictionaryArray, kind: pa.DataType) -> pa.Array:
    return pa.DictionaryArray.from_arrays(
        ids.indices, ids.dictionary.cast(kind)
    ).dictionary_decode()
