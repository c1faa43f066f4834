"""Parquet files of recommendation runs: one part becomes one or more; `reader` reads them back.

    part-00000.parquet                       a part
    part-00000-00000.parquet, …              with a largest number of users per file
    source=model/part-00000.parquet, …       in directories by a column, as Hive names them

Which files a part has depends on its content and the layout alone, so writing it again after an
interruption replaces all that was there.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.config.kinds import LAYOUTS, Layout
from lightsans.recommendations.tables import to_long
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import RunFile


@dataclass(frozen=True, slots=True)
class FileLayout:
    """Layout of the rows; see the settings of the same names."""

    layout: Layout
    partition_by: str | None
    max_users_per_file: int | None
    users_per_row_group: int


class PartFiles:
    """Writes the rows of one part; use it as a context. Each file appears whole or not at all.

    Args:
        run: The run's directory.
        part: The part's name.
        schema: Schema of the wide rows.
        layout: How they are written.
        metadata: Entries of the footers.
        before_finishing: Called before a file is moved into its place; may raise to prevent it.
        item_columns: Columns of the wide rows that are lists beside the items.
    """

    def __init__(
        self,
        run: Location,
        part: str,
        schema: pa.Schema,
        layout: FileLayout,
        metadata: Mapping[str, str],
        before_finishing: Callable[[], None] = lambda: None,
        item_columns: Collection[str] = (),
    ) -> None:
        self._run, self._part, self._layout = run, part, layout
        self._before_finishing = before_finishing
        self._metadata = dict(metadata)
        self._is_long = LAYOUTS[layout.layout].has_row_per_item
        if self._is_long:
            schema = to_long(schema.empty_table(), item_columns).schema
        self._schema, self._item_columns = schema, item_columns
        self._pending: list[pa.Table] = []
        self._users_in_file = self._num_files = 0
        self._open: dict[str, _File] = {}
        self.files: list[RunFile] = []
        """The finished files."""

    def __enter__(self) -> "PartFiles":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                # Readers of a part without rows still find its columns.
                self._flush()
                if not self._open and not self.files:
                    self._file("")
                self._finish_files()
            except BaseException as late:
                self._discard(late)
                raise
        else:
            self._discard(error)

    def _discard(self, error: BaseException) -> None:
        """Remove what is open: files that are left by an error never appear."""
        for file in self._open.values():
            file.stack.__exit__(type(error), error, error.__traceback__)
        self._open.clear()

    def write(self, wide: pa.Table) -> None:
        """Add rows."""
        most = self._layout.max_users_per_file
        while wide.num_rows:
            if most is not None and self._users_in_file == most:
                self._flush()
                self._finish_files()
            room = wide.num_rows if most is None else most - self._users_in_file
            rows, wide = wide.slice(0, room), wide.slice(room)
            self._users_in_file += rows.num_rows
            self._pending.append(rows)
            if sum(table.num_rows for table in self._pending) >= self._layout.users_per_row_group:
                self._flush()

    def _flush(self) -> None:
        """Write what is pending as row groups, one per file."""
        if not self._pending:
            return
        rows, self._pending = pa.concat_tables(self._pending), []
        if self._is_long:
            rows = to_long(rows, self._item_columns)
        column = self._layout.partition_by
        if column is None:
            self._file("").write(rows)
            return
        for value in sorted(pc.unique(rows[column]).to_pylist()):
            chosen = rows.filter(pc.equal(rows[column], value))
            self._file(f"{column}={value}").write(chosen.drop_columns(column))

    def _file(self, directory: str) -> "_File":
        if directory not in self._open:
            name = self._part
            if self._layout.max_users_per_file is not None:
                name = name.replace(".parquet", f"-{self._num_files:05d}.parquet")
            path = f"{directory}/{name}" if directory else name
            column = self._layout.partition_by
            is_partition = column is not None and directory != ""
            names = [n for n in self._schema.names if not (is_partition and n == column)]
            schema = pa.schema([self._schema.field(n) for n in names])
            self._open[directory] = _File(self._run / path, path, schema)
        return self._open[directory]

    def _finish_files(self) -> None:
        while self._open:
            directory, file = next(iter(self._open.items()))
            self.files.append(file.finish(self._metadata, self._before_finishing))
            del self._open[directory]
        self._users_in_file = 0
        self._num_files += 1


class _File:
    """One file that is being written aside."""

    def __init__(self, location: Location, path: str, schema: pa.Schema) -> None:
        self._path, self._rows = path, 0
        self.stack = ExitStack()
        self._aside = self.stack.enter_context(location.open_atomic())
        self._writer = pq.ParquetWriter(self._aside, schema, compression="zstd")
        # Closed before the file is moved into its place.
        self.stack.callback(self._writer.close)

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        self._rows += rows.num_rows

    def finish(self, metadata: Mapping[str, str], before_finishing: Callable[[], None]) -> RunFile:
        """Move it into its place; what the manifest says about it."""
        self._writer.add_key_value_metadata(dict(metadata))
        self._writer.close()
        described = RunFile(
            path=self._path,
            rows=self._rows,
            bytes=self._aside.stat().st_size,
            sha256=sha256(self._aside),
        )
        before_finishing()
        self.stack.close()
        return described


def sha256(path: Path) -> str:
    """The checksum of a local file, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(run: Location) -> None:
    """Remove what processes that were killed had begun to write on a local disk."""
    if run.is_local:
        for path in Path(run.path).rglob(".*.tmp"):
            path.unlink(missing_ok=True)
