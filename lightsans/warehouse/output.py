"""Tables that finished runs are written to: files of a run's rows, then one commit of all of them.

A run's files count from their commit on; until then no reader of the table sees any of them. Their
names say of which run they are and what is in it, so a process that was killed leaves files that
the next one writes again, and a run that was made anew never touches files that a commit names.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.config.kinds import TableMode
from lightsans.errors import ConfigError, InputError, StorageError
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import RunManifest

RUN_ID, AS_OF = "run_id", "as_of"
"""Columns of such a table beside those of a run."""
_AS_OF_TYPE = pa.timestamp("us", "UTC")
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RunKey:
    """Identity of a run, and of its making."""

    run_id: str
    made: int
    """Time of its end in seconds since 1970: a later one when it was made anew."""
    digest: str
    """Beginning of the SHA-256 of what is in its files."""

    @classmethod
    def of(cls, manifest: RunManifest) -> "RunKey":
        """Key of a finished run."""
        content = hashlib.sha256()
        for part in manifest.parts:
            for file in part.files:
                content.update(f"{file.path} {file.sha256}\n".encode())
        made = int(datetime.fromisoformat(str(manifest.created_at)).timestamp())
        return cls(manifest.id, made, content.hexdigest()[:12])

    def columns(self, as_of: datetime | None) -> dict[str, object]:
        """Values of the columns beside those of the run; ``as_of``, the moment of its dataset."""
        return {RUN_ID: self.run_id, AS_OF: as_of}

    def file_name(self, path: str) -> str:
        """Name of a file in the table, for one of the run."""
        stem = path.removesuffix(".parquet").replace("/", "-").replace("=", "-")
        return f"{self.run_id}-{self.digest}-{stem}.parquet"


@dataclass(frozen=True, slots=True)
class TableFile:
    """Parquet file that was written for a table."""

    location: Location
    rows: int
    bytes: int


class TableOutput(ABC):
    """A table that runs are written to.

    Args:
        uri: Its address.
    """

    without: tuple[str, ...] = ()
    """Columns of the table that its files lack."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @abstractmethod
    def has(self, key: RunKey, mode: TableMode) -> bool:
        """Whether this making of a run has been committed, as a look at the table now shows.

        With ``replace`` it must be all that the table holds.
        """

    @abstractmethod
    def begin(self, key: RunKey, schema: pa.Schema) -> Location:
        """The directory for files of a run.

        Raises:
            ConfigError: The table is there and has other columns.
        """

    def commit(
        self, key: RunKey, mode: TableMode, schema: pa.Schema, files: Sequence[TableFile]
    ) -> None:
        """Make files the rows of a run, in place of all others of this run or of the table.

        Raises:
            ConfigError: The table takes no such rows.
            StorageError: Others write to the table all the time, or it is out of reach.
        """
        overtaken: Exception | None = None
        for _ in range(_ATTEMPTS):
            if self.has(key, mode):
                return
            overtaken = self.try_commit(key, mode, schema, files)
            if overtaken is None:
                return
        raise StorageError(
            f"score.table.uri={self.uri}: others commit to the table all the time ({overtaken}); "
            "run the same command again"
        )

    @abstractmethod
    def try_commit(
        self, key: RunKey, mode: TableMode, schema: pa.Schema, files: Sequence[TableFile]
    ) -> Exception | None:
        """Commit files as `commit` says, or return the error that somebody else was faster."""

    def file_schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns of the table that its files hold."""
        return pa.schema([field for field in schema if field.name not in self.without])

    def require_columns(self, there: pa.Schema, schema: pa.Schema) -> None:
        """Refuse a table with other columns than a run has.

        Raises:
            ConfigError: The message names the columns.
        """
        found, wanted = (
            {field.name: str(plain_type(field.type)) for field in each} for each in (there, schema)
        )
        wrong = [
            f"{name} is {found.get(name, 'not there')} and would be {wanted.get(name, 'missing')}"
            for name in sorted({*found, *wanted})
            if found.get(name) != wanted.get(name)
        ]
        if wrong:
            raise ConfigError(
                f"score.table.uri={self.uri}: the table has other columns than this run: "
                f"{'; '.join(wrong)}. Name another table, or remove this one"
            )


def table_schema(schema: pa.Schema, partition: Mapping[str, pa.DataType]) -> pa.Schema:
    """Columns of a table for files of a run.

    Args:
        schema: Schema of the files.
        partition: Columns that their directories name instead.

    Raises:
        ConfigError: A column has a name that the table needs.
    """
    taken = sorted({*schema.names, *partition} & {RUN_ID, AS_OF})
    if taken:
        raise ConfigError(
            f"score.table: a column of the run is called {taken[0]}, as one of the table is; leave "
            "it out of score.item_columns and score.user_columns"
        )
    fields = [pa.field(field.name, plain_type(field.type)) for field in schema]
    fields += [pa.field(name, kind) for name, kind in partition.items()]
    return pa.schema([*fields, pa.field(RUN_ID, pa.string()), pa.field(AS_OF, _AS_OF_TYPE)])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column in a table, which has neither unsigned nor small integers."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", plain_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, plain_type(each.type)) for each in kind])
    if pa.types.is_integer(kind):
        return pa.int64() if kind in (pa.int64(), pa.uint64(), pa.uint32()) else pa.int32()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    others = (
        (pa.types.is_float16, pa.float32()),
        (pa.types.is_date64, pa.date32()),
        (pa.types.is_large_string, pa.string()),
        (pa.types.is_string_view, pa.string()),
        (pa.types.is_large_binary, pa.binary()),
        (pa.types.is_null, pa.string()),
    )
    return next((plain for is_kind, plain in others if is_kind(kind)), kind)


def write_table_file(
    source: Location, target: Location, schema: pa.Schema, constants: Mapping[str, object]
) -> TableFile:
    """Write the rows of a run's file as a table has them, a row group at a time.

    Args:
        source: File of the run.
        target: File of the table.
        schema: Columns of the new file.
        constants: Values of columns that the file of the run lacks.

    Raises:
        InputError: A value does not fit the type of the table's column.
    """
    rows = 0
    with source.open() as opened, target.open_atomic() as aside:
        read = pq.ParquetFile(opened)
        with pq.ParquetWriter(aside, schema, compression="zstd") as writer:
            for number in range(read.num_row_groups):
                table = read.read_row_group(number)
                for name, value in constants.items():
                    if name in schema.names:
                        column = pa.repeat(pa.scalar(value, schema.field(name).type), len(table))
                        table = table.append_column(name, column)
                try:
                    table = table.select(schema.names).cast(schema)
                except pa.ArrowInvalid as error:
                    raise InputError(f"{source}: does not fit the table: {error}") from None
                writer.write_table(table)
                rows += table.num_rows
        size = aside.stat().st_size
    return TableFile(target, rows, size)
