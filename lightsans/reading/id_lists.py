"""Lists of ids, and columns of small tables: text, csv, tab-separated, JSON lines, parquet.

Everything is read as text, so that ``007`` stays ``007`` however the file quotes it. The name says
what a file is, compressed or not; one without the ending of a table holds one id a line.

A listed id stands for itself and for the same without blanks around it: logs keep their blanks,
people who write lists seldom see them.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lightsans.columns.arrow import one_chunk
from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.location import Location, locate
from lightsans.text.coding import COMPRESSIONS, open_stream

_PARQUET, _JSON, _CSV = (".parquet", ".pq"), (".jsonl", ".ndjson", ".json"), (".csv",)
_TABS = (".tsv", ".item", ".user", ".inter")  # all but the first are RecBole's
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class IdList:
    """The ids that a setting lists."""

    setting: str
    location: Location
    raw: pa.Array
    """(N,) as the file has them, each once, without blank ones."""
    stripped: pa.Array
    """(N,) the same without blanks around them."""

    @property
    def ids(self) -> pa.Array:
        """Everything the list stands for, each once, sorted."""
        ids = pc.unique(pa.concat_arrays([self.raw, self.stripped]))
        return ids.take(pc.sort_indices(ids))

    def __len__(self) -> int:
        return int(pc.count_distinct(self.stripped).as_py())

    def of_type(self, kind: pa.DataType) -> pa.Array:
        """The ids as a log has them, text or integers.

        Raises:
            InputError: The log has integers, and one of these is none.
        """
        if not pa.types.is_integer(kind):
            return self.ids.cast(kind)
        try:
            return pc.unique(self.stripped.cast(kind))
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{self.setting}: {self.location}: the ids of the log are of type {kind}, but: "
                f"{error}"
            ) from None

    def num_found(self, known: pa.Array | pa.ChunkedArray) -> int:
        """Number of the listed ids that are among some known ones, text or integers."""
        known = one_chunk(known).cast(pa.string())
        found = pc.or_(pc.is_in(self.raw, known), pc.is_in(self.stripped, known))
        return int(pc.count_distinct(self.stripped.filter(found)).as_py())


def describe_found(listed: IdList, num_found: int, noun: str) -> str:
    """A sentence such as ``3 of 5 listed users were found``."""
    return f"{listed.setting}: {num_found:,} of {len(listed):,} listed {noun} were found"


def read_id_list(
    setting: str, uri: str, storage: StorageConfig, column: str | int, column_setting: str
) -> IdList:
    """The ids that a file lists.

    Args:
        setting: Setting that names the file, for messages.
        uri: The file.
        storage: How stores are reached.
        column: Name or position of the column of ids, where the file is a table.
        column_setting: Setting that names the column, for messages.

    Raises:
        InputError: The file is missing or unreadable, or has no such column.
    """
    location = locate(uri, storage)
    if is_table(location):
        [ids] = IdTable.open(setting, location).read([(column, column_setting)])
    else:
        with _reading(setting, location), open_stream(location) as stream:
            ids = _lines(stream.read())
    return id_list_of(setting, location, ids)


def check_id_list(
    setting: str, uri: str, storage: StorageConfig, column: str | int, column_setting: str
) -> Location:
    """Find a list's file, and its column where it is a table, without reading the ids.

    Raises:
        InputError: As `read_id_list`.
    """
    location = locate(uri, storage)
    if is_table(location):
        IdTable.open(setting, location).place(column, column_setting)
    else:
        with _reading(setting, location), location.open():
            pass
    return location


def id_list_of(setting: str, location: Location, ids: pa.Array) -> IdList:
    """A list of these ids, as text; null and blank ones are left out."""
    raw = pc.unique(ids.drop_null())
    stripped = pc.utf8_trim_whitespace(raw)
    is_kept = pc.not_equal(stripped, "")
    return IdList(setting, location, raw.filter(is_kept), stripped.filter(is_kept))


def is_table(location: Location) -> bool:
    """Whether a name says that a file has columns."""
    return _plain_name(location).endswith(_PARQUET + _JSON + _CSV + _TABS)


@dataclass(frozen=True, slots=True)
class IdTable:
    """A table with a column of ids, of which single columns are read."""

    setting: str
    location: Location
    names: tuple[str, ...]
    """Names of the columns, without the types that RecBole's headers carry."""

    @classmethod
    def open(cls, setting: str, location: Location) -> "IdTable":
        """Look at the names of the columns.

        Raises:
            InputError: The file is missing or unreadable.
        """
        with _reading(setting, location):
            return cls(setting, location, tuple(map(_without_type, _names(location))))

    def read(
        self,
        columns: Sequence[tuple[str | int, str]],
        values: Sequence[tuple[str | int, str]] = (),
    ) -> list[pa.Array]:
        """Read columns as text, null where there is no value.

        Args:
            columns: Name or position of each column of ids, and the setting that says so.
            values: The same of columns that may hold fractions.

        Raises:
            InputError: A column is missing or named twice, or the file is unreadable.
        """
        places = [self.place(column, setting) for column, setting in (*columns, *values)]
        with _reading(self.setting, self.location):
            found = _read(self.location, places)
            ids, others = found[: len(columns)], found[len(columns) :]
            return [*map(_as_text, ids), *(_as_text(column, True) for column in others)]

    def place(self, column: str | int, setting: str) -> int:
        """The position of a column that is given by name or position.

        Raises:
            InputError: It is missing or named twice.
        """
        name = str(column)
        if self.names.count(name) == 1:
            return self.names.index(name)
        if name in self.names:
            raise InputError(
                f"{self.setting}: {self.location}: column {name!r} ({setting}) occurs twice; "
                "rename one"
            )
        if name.isdigit() and int(name) < len(self.names):
            return int(name)
        raise InputError(
            f"{self.setting}: {self.location}: no column {name!r} ({setting}); found "
            f"{list(self.names)}. A file of one id a line and no header must not be named as a "
            "table: .txt, for example"
        )


@contextmanager
def _reading(setting: str, location: Location) -> Iterator[None]:
    """Within the block, what makes the file unreadable is an error that names it."""
    where = f"{setting}: {location}"
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{where}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{where}: is a directory; expected one file") from None
    except PermissionError as error:
        raise InputError(f"{where}: permission denied: {error}") from None
    except UnicodeDecodeError:
        raise InputError(_not_utf8(where)) from None
    except (pa.ArrowInvalid, json.JSONDecodeError) as error:
        if "UTF8" in str(error):
            raise InputError(_not_utf8(where)) from None
        raise InputError(f"{where}: not readable: {error}") from None
    except OSError as error:
        # Arrow's own errors about content have neither a number nor a class of their own.
        if type(error) is not OSError or error.errno is not None:
            raise
        raise InputError(f"{where}: the file is damaged or cut off: {error}") from None


def _not_utf8(where: str) -> str:
    return f"{where}: not a text file in UTF-8; convert it, with `iconv -f latin1 -t utf8` perhaps"


def _plain_name(location: Location) -> str:
    """The name in lower case, without the ending of a compression."""
    name = location.name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return name


def _without_type(name: str) -> str:
    return name.split(":")[0]


def _lines(content: bytes) -> pa.Array:
    """Lines end as Unix or Windows ends them, and with nothing else that Unicode calls an end."""
    lines = content.removeprefix(_BOM).decode().split("\n")
    return pa.array([line.removesuffix("\r") for line in lines], pa.string())


def _names(location: Location) -> list[str]:
    name = _plain_name(location)
    if name.endswith(_PARQUET):
        with location.open() as file:
            return list(pq.read_schema(file).names)
    if name.endswith(_JSON):
        return list(dict.fromkeys(key for record in _records(location) for key in record))
    with open_stream(location) as stream:
        # Arrow's own reader, as quotes and a byte order mark may surround a name.
        return list(pyarrow.csv.open_csv(stream, parse_options=_csv_dialect(location)).schema.names)


def _read(location: Location, places: Sequence[int]) -> list[pa.Array]:
    name = _plain_name(location)
    if name.endswith(_PARQUET):
        with location.open() as file, pq.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            table = opened.read([names[place] for place in places])
            return [one_chunk(table[names[place]]) for place in places]
    if name.endswith(_JSON):
        records = _records(location)
        keys = list(dict.fromkeys(key for record in records for key in record))
        return [
            pa.array([_json_text(record.get(keys[place])) for record in records], pa.string())
            for place in places
        ]
    names = [str(place) for place in range(len(_names(location)))]
    chosen = [names[place] for place in places]
    with open_stream(location) as stream:
        table = pyarrow.csv.read_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=1),
            parse_options=_csv_dialect(location),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(dict.fromkeys(chosen)),
                column_types=dict.fromkeys(chosen, pa.string()),
                strings_can_be_null=False,
            ),
        )
    return [one_chunk(table[name]) for name in chosen]


def _csv_dialect(location: Location) -> pyarrow.csv.ParseOptions:
    if _plain_name(location).endswith(_TABS):
        return pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
    with open_stream(location) as stream:
        header = stream.read(2**16).split(b"\n")[0]
    separators = [sep for sep in (",", ";", "\t") if sep.encode() in header]
    separator = separators[0] if separators else ","
    return pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)


def _records(location: Location) -> list[dict[str, object]]:
    with open_stream(location) as stream:
        lines = stream.read().removeprefix(_BOM).decode().split("\n")
    records = [json.loads(line) for line in lines if line.strip()]
    for record in records:
        if not isinstance(record, dict):
            raise json.JSONDecodeError("expected one object a line", str(record), 0)
    return records


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _as_text(column: pa.Array, may_have_fractions: bool = False) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _as_text(column.dictionary_decode(), may_have_fractions)
    if pa.types.is_floating(kind):  # integers with gaps: 7.0 is 7, and no rounding is hidden
        has_fractions = (
            may_have_fractions
            and not pc.all(pc.equal(column, pc.floor(column)), skip_nulls=True).as_py()
        )
        if not has_fractions:
            column = column.cast(pa.int64())
    return column.cast(pa.string())
