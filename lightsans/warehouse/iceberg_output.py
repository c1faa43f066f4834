"""Runs in an Iceberg table: the files of one are added by one commit, which the summary names.

A run is known by the summary of its snapshot, and once that has expired by the names of its files.
Where maintenance has rewritten those, too, the rows of the run are replaced by the same rows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from lightsans.config import StorageConfig
from lightsans.config.kinds import TableMode
from lightsans.errors import ConfigError
from lightsans.storage.location import Location, locate
from lightsans.warehouse.access import require_package, uri_of
from lightsans.warehouse.catalogs import (
    describe_configuration,
    find_catalog,
    open_catalog,
    told,
)
from lightsans.warehouse.output import RUN_ID, RunKey, TableFile, TableOutput

_RUN, _MADE = "lightsans.run-id", "lightsans.made"


class IcebergOutput(TableOutput):
    """An Iceberg table of a catalog that runs are written to; its namespace is made where needed.

    Args:
        uri: Its address.
        name: The address without its scheme.
        storage: Access to stores.

    Raises:
        ConfigError: The address names no catalog of pyiceberg's configuration.
    """

    def __init__(self, uri: str, name: str, storage: StorageConfig) -> None:
        super().__init__(uri)
        require_package("Iceberg", uri)
        found = find_catalog(name)
        if found is None:
            raise ConfigError(
                f"score.table.uri={uri}: an Iceberg table is written through its catalog; expected "
                f"iceberg://CATALOG/namespace.table with a catalog of {describe_configuration()}"
            )
        self._name, self._storage = found, storage
        self._catalog = open_catalog(found, storage)
        self._staged: Any = None

    def has(self, key: RunKey, mode: TableMode) -> bool:
        """See `TableOutput.has`."""
        with told(self._name):
            table = self._open()
            if table is None:
                return False
            if mode == "append" and any(_is_of(each, key) for each in _ancestors(table)):
                return True
            moved = next((each for each in _ancestors(table) if not _only_moves(each)), None)
            if moved is not None and _is_of(moved, key):
                return True
            names = [task.file.file_path.rsplit("/", 1)[-1] for task in table.scan().plan_files()]
            of_run = [name.startswith(f"{key.run_id}-{key.digest}-") for name in names]
            return any(of_run) if mode == "append" else bool(of_run) and all(of_run)

    def begin(self, key: RunKey, schema: pa.Schema) -> Location:
        """See `TableOutput.begin`."""
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        with told(self._name):
            table = self._open()
            if table is None:
                self._catalog.create_namespace_if_not_exists(self._name.name.rpartition(".")[0])
                self._staged = self._catalog.create_table_transaction(self._name.name, schema)
                metadata = self._staged.table_metadata
                return _data_directory(metadata, self._storage)
            self.require_columns(schema_to_pyarrow(table.schema(), include_field_ids=False), schema)
            return _data_directory(table.metadata, self._storage)

    def try_commit(
        self, key: RunKey, mode: TableMode, schema: pa.Schema, files: Sequence[TableFile]
    ) -> Exception | None:
        """See `TableOutput.try_commit`."""
        from pyiceberg.exceptions import (
            CommitFailedException,
            TableAlreadyExistsError,
            ValidationException,
        )

        try:
            with told(self._name):
                self._commit(key, mode, files)
        except (CommitFailedException, TableAlreadyExistsError, ValidationException) as error:
            return error
        return None

    def _commit(self, key: RunKey, mode: TableMode, files: Sequence[TableFile]) -> None:
        from pyiceberg.expressions import AlwaysTrue

        table = self._open()
        summary = {_RUN: key.run_id, _MADE: str(key.made)}
        change = self._staged if table is None else table.transaction()
        if table is not None:
            gone = _of_run(key) if mode == "append" else AlwaysTrue()
            if any(True for _ in table.scan(row_filter=gone).plan_files()):
                change.delete(gone, snapshot_properties=summary)
        if files:
            change.add_files([uri_of(file.location) for file in files], summary)
        change.commit_transaction()

    def _open(self) -> Any:
        """The table as it is now; None where there is none yet."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            return self._catalog.load_table(self._name.name)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None


def _of_run(key: RunKey) -> Any:
    from pyiceberg import expressions

    equal_to: Any = expressions.EqualTo  # its types forbid what its documentation shows
    return equal_to(RUN_ID, key.run_id)


def _ancestors(table: Any) -> Iterator[Any]:
    """Snapshots from the newest to the oldest that is still there."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)


def _is_of(snapshot: Any, key: RunKey) -> bool:
    said = snapshot.summary.additional_properties if snapshot.summary else {}
    return said.get(_RUN) == key.run_id and int(said.get(_MADE, -1)) >= key.made


def _only_moves(snapshot: Any) -> bool:
    """Whether rows stay the same, as with compaction."""
    return bool(snapshot.summary and snapshot.summary.operation.value == "replace")


def _data_directory(metadata: Any, storage: StorageConfig) -> Location:
    told_of = metadata.properties.get("write.data.path")
    return locate(told_of or f"{metadata.location.rstrip('/')}/data", storage)
