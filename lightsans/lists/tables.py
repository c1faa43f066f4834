"""Tables of users or items: columns as text, read by the readers of logs.

A table is a file, a directory or a glob in every format that a log may have. Its columns are given
by name or position, and its ids are those that a log with the same column would have.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.nulls import is_null
from lightsans.config import DataConfig, RunConfig
from lightsans.config.kinds import FORMATS
from lightsans.errors import EmptyFileError, InputError
from lightsans.reading.columns import Wanted, find_columns, wrong_type
from lightsans.reading.csv_files import CsvHead
from lightsans.reading.formats import read_head, recognise
from lightsans.reading.ids import clean_ids, is_id
from lightsans.reading.input_files import InputFile, readable
from lightsans.reading.units import read_file
from lightsans.reading.values import Problems, as_utf8, is_text
from lightsans.storage.location import FileInfo, Location
from lightsans.text.coding import COMPRESSIONS
from lightsans.warehouse.partitions import partitions_of
from lightsans.warehouse.tables import list_log_inputs

_RECBOLE = (".item", ".user", *FORMATS["inter"].endings)
_LINES = (".txt", ".dat", ".data")
_TABLES = _RECBOLE + tuple(
    ending for kind in FORMATS.values() for ending in kind.endings if ending not in _LINES
)
"""Endings of files that have columns; others may hold one id a line."""


_IDS = {"user", "item"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose columns have been looked at."""

    setting: str
    """The setting that names it, for messages."""
    files: tuple[FileInfo, ...]
    data: DataConfig
    """How logs are read."""
    names: tuple[str, ...]
    """Columns of the first file."""

    @property
    def location(self) -> Location:
        """The table's file, or the directory of the first of several."""
        first = self.files[0].location
        return first if len(self.files) == 1 else first.parent

    def check(self, wanted: Mapping[str, Wanted]) -> None:
        """Find columns, without reading them.

        Raises:
            InputError: Some are missing.
        """
        for info in self.files:
            with about(self.setting), suppress(EmptyFileError):
                _inspect(info, self.data, wanted)

    def read(self, wanted: Mapping[str, Wanted]) -> dict[str, pa.Array]:
        """Columns as text, null where there is no value.

        Args:
            wanted: The columns by role; under ``user`` and ``item``, ids as logs have them.

        Raises:
            InputError: Some are missing, or a file is unreadable.
        """
        found: dict[str, list[pa.Array]] = {role: [] for role in wanted}
        for file, data, columns in self.pieces(wanted):
            with about(self.setting):
                for role, column in wanted.items():
                    kind = columns[role].type
                    if pa.types.is_nested(kind):
                        raise InputError(
                            f"{file}: column {column.column!r} holds {kind}, expected one value a "
                            f"row; convert it, or set {column.setting} to another column"
                        )
                    found[role].append(as_text(file, columns[role], role, data))
        return {
            role: pa.concat_arrays(pieces) if pieces else pa.array([], pa.string())
            for role, pieces in found.items()
        }

    def pieces(
        self, wanted: Mapping[str, Wanted]
    ) -> Iterator[tuple[Location, DataConfig, dict[str, pa.Array]]]:
        """Columns as they are there, piece by piece: file, how it is read, columns by role.

        Args:
            wanted: The columns by role.

        Raises:
            InputError: Some are missing, or a file is unreadable.
        """
        for info in self.files:
            with about(self.setting), suppress(EmptyFileError):
                file, data = _inspect(info, self.data, wanted)
                for rows in read_file(file, data):
                    if rows.broken:
                        position, reason = rows.broken[0]
                        said = _describe_broken(reason, wanted)
                        raise InputError(f"{info.location}:{position}: {said}")
                    yield info.location, data, rows.columns


def _describe_broken(reason: str, wanted: Mapping[str, Wanted]) -> str:
    """Words for a row that cannot be read, and the way out."""
    column = wanted.get(reason.removesuffix("_wrong_type"))
    if column is None:
        return f"not readable: {reason}"
    return (
        f"column {column.column!r} holds a list, an object or a boolean, expected one value a row; "
        f"flatten it, or set {column.setting} to another column"
    )


@contextmanager
def about(setting: str) -> Iterator[None]:
    """Within the block, what is wrong with a file is told with the setting that names it."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{setting}: {error}") from None


def list_table(setting: str, uri: str, config: RunConfig) -> tuple[FileInfo, ...]:
    """The files of a table or list, empty ones left out.

    Raises:
        InputError: There are none.
    """
    with about(setting):
        return tuple(list_log_inputs((uri,), config.storage).files)


def open_table(setting: str, uri: str, config: RunConfig) -> Table:
    """Look at the columns of a table.

    Raises:
        InputError: It is missing or unreadable.
    """
    return table_of(setting, list_table(setting, uri, config), config.data)


def table_of(setting: str, files: tuple[FileInfo, ...], data: DataConfig) -> Table:
    """`open_table` for files that are listed."""
    names: tuple[str, ...] = ()
    for info in files:
        with about(setting):
            try:
                names = read_head(info, dialect_of(info, data)).names
            except EmptyFileError:
                if info is files[-1]:
                    raise
                continue
        break
    return Table(setting, files, data, names)


def is_table(info: FileInfo, data: DataConfig) -> bool:
    """Whether a file is a table by its name or first bytes; otherwise text of some kind.

    Raises:
        InputError: The file is empty, or of a kind that cannot be read.
    """
    if plain_name(info.location).endswith(_TABLES):
        return True
    with readable(info.location):
        return recognise(info, dialect_of(info, data))[0] != "csv"


def dialect_of(info: FileInfo, data: DataConfig) -> DataConfig:
    """How a table is read: as logs are, but for format and separator, which are its own."""
    is_recbole = plain_name(info.location).endswith(_RECBOLE)
    return replace(data, format="inter" if is_recbole else "auto", separator=None)


def plain_name(file: Location) -> str:
    """The name in lower case, without the ending of a compression."""
    name = file.name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return name


def _inspect(
    info: FileInfo, data: DataConfig, wanted: Mapping[str, Wanted]
) -> tuple[InputFile, DataConfig]:
    data = dialect_of(info, data)
    head = read_head(info, data)
    if isinstance(head, CsvHead) and head.dialect.quote_char is not None:
        head = replace(head, newlines_in_values=len(head.dialect.separator.encode()) == 1)
    found = find_columns(info.location, head.names, wanted, partitions_of(info))
    for role in _IDS & found.positions.keys():
        at = found.positions[role]
        if not is_id(head.types[at]):
            raise InputError(wrong_type(info.location, role, head.names[at], head.types[at]))
    layout = head.layout(found.positions)
    return InputFile(info, layout, head.data_start, head.coding, found.partition), data


def as_text(file: Location, column: pa.Array, role: str, data: DataConfig) -> pa.Array:
    """A column as text; null where there is no value, or none that could be an id."""
    problems = Problems(len(column))
    if role in _IDS:
        text = clean_ids(column, role, "string", data, problems)
        reasons = set(problems.of(~problems.is_valid))
    else:
        text = _plain_text(column, problems)
        reasons = set(problems.of(~problems.is_valid))
    if "not_utf8" in reasons:
        raise InputError(
            f"{file}: not a text file in UTF-8; set data.encoding, or convert it, with `iconv -f "
            "latin1 -t utf8` perhaps"
        )
    if pa.types.is_dictionary(text.type):
        text = text.dictionary_decode()
    text = text.cast(pa.string())
    is_valid = pa.array(problems.is_valid)
    return pc.if_else(is_valid, text, pa.scalar(None, pa.string()))


def _plain_text(column: pa.Array, problems: Problems) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return as_utf8(column, problems) if is_text(column.type) else written(column)


def written(column: pa.Array) -> pa.Array:
    """Values as text; null stays null, and NaN is no value either."""
    no_value = pa.scalar(None, pa.string())
    return pc.if_else(pa.array(is_null(column)), no_value, column.cast(pa.string()))
