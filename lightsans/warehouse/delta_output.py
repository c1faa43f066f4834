"""Runs in a Delta table: a partition ``run_id=…`` for each, committed with a transaction of it.

Delta keeps the number of an application's newest transaction for as long as the table lives. Each
run is an application here and the time when it was finished the number, so a run that was committed
is known whatever became of its rows, and of two who commit it at once Delta refuses the second.
"""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lightsans.config import StorageConfig
from lightsans.config.kinds import TableMode
from lightsans.errors import ConfigError
from lightsans.storage.location import Location, locate
from lightsans.warehouse import delta
from lightsans.warehouse.access import delta_options, require_package
from lightsans.warehouse.output import RUN_ID, RunKey, TableFile, TableOutput


class DeltaOutput(TableOutput):
    """A Delta table that runs are written to.

    Args:
        uri: Its address.
        directory: The address without its scheme.
        storage: Access to stores.
    """

    without = (RUN_ID,)

    def __init__(self, uri: str, directory: str, storage: StorageConfig) -> None:
        super().__init__(uri)
        self._table = locate(directory, storage)

    def has(self, key: RunKey, mode: TableMode) -> bool:
        """See `TableOutput.has`."""
        opened = self._open()
        if opened is None or (opened.transaction_version(_application(key)) or -1) < key.made:
            return False
        return mode == "append" or _runs(opened) <= {key.run_id}

    def begin(self, key: RunKey, schema: pa.Schema) -> Location:
        """See `TableOutput.begin`."""
        opened = self._open()
        if opened is not None:
            self._require_fitting(opened, schema)
        return self._table / f"{RUN_ID}={key.run_id}"

    def try_commit(
        self, key: RunKey, mode: TableMode, schema: pa.Schema, files: Sequence[TableFile]
    ) -> Exception | None:
        """See `TableOutput.try_commit`."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        was_there = delta.is_table(self._table)
        try:
            self._commit(key, mode, schema, files)
        except CommitFailedError as error:
            return error
        except DeltaError as error:
            if was_there != delta.is_table(self._table):  # somebody else has made it
                return error
            raise ConfigError(
                f"score.table.uri={self.uri}: the table takes no rows: {error}"
            ) from error
        return None

    def _commit(
        self, key: RunKey, mode: TableMode, schema: pa.Schema, files: Sequence[TableFile]
    ) -> None:
        from deltalake import CommitProperties, Schema, Transaction
        from deltalake.transaction import create_table_with_add_actions

        properties = CommitProperties(
            custom_metadata={"lightsans.run_id": key.run_id},
            app_transactions=[Transaction(_application(key), key.made)],
        )
        actions, columns = [_action(file, key) for file in files], Schema.from_arrow(schema)
        opened = self._open()
        if opened is None:
            create_table_with_add_actions(
                self._table.uri,
                columns,
                actions,
                "error",
                [RUN_ID],
                storage_options=delta_options(self._table),
                commit_properties=properties,
            )
            return
        self._require_fitting(opened, schema)
        of_run = [(RUN_ID, "=", key.run_id)] if mode == "append" else None
        is_new = mode == "append" and key.run_id not in _runs(opened)
        opened.create_write_transaction(
            actions,
            "append" if is_new else "overwrite",
            columns,
            [RUN_ID],
            None if is_new else of_run,
            commit_properties=properties,
        )

    def _open(self) -> Any:
        """The newest version of the table; None where there is none yet."""
        require_package("Delta", self.uri)
        return delta.open_delta(self._table, None) if delta.is_table(self._table) else None

    def _require_fitting(self, opened: Any, schema: pa.Schema) -> None:
        partitions = opened.metadata().partition_columns
        if partitions != [RUN_ID]:
            raise ConfigError(
                f"score.table.uri={self.uri}: a table for runs has the one partition column "
                f"{RUN_ID}, and this one has {', '.join(partitions) or 'none'}; name another table"
            )
        self.require_columns(pa.schema(opened.schema().to_arrow()), schema)


def _application(key: RunKey) -> str:
    return f"lightsans/{key.run_id}"


def _runs(opened: Any) -> set[str | None]:
    """The runs of which the table holds files."""
    actions = pa.table(opened.get_add_actions())
    if not actions.num_rows:
        return set()
    return {partition[RUN_ID] for partition in actions["partition"].to_pylist()}


def _action(file: TableFile, key: RunKey) -> Any:
    from deltalake.transaction import AddAction

    return AddAction(
        path=f"{RUN_ID}={key.run_id}/{file.location.name}",
        size=file.bytes,
        partition_values={RUN_ID: key.run_id},
        modification_time=key.made * 1000,
        data_change=True,
        stats=json.dumps({"numRecords": file.rows}),
    )
