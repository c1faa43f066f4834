"""Rows of finished recommendation runs, read back wide whatever their layout."""

import operator
from collections.abc import Iterator, Sequence

import pyarrow as pa

from lightsans.dataset.bucket_cursor import BucketCursor, read_batches
from lightsans.recommendations.tables import to_wide
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.parts import ListedFile
from lightsans.storage.schemas import id_type, long_recommendations_schema, recommendations_schema


def wide_schema(manifest: DatasetManifest | RunManifest) -> pa.Schema:
    """Schema of the wide rows of a run, or of the dataset with this manifest."""
    return recommendations_schema(id_type(manifest.user_id_type), id_type(manifest.item_id_type))


class RunRows:
    """Rows of some parts of a finished run, wide whatever its layout, in order of bucket.

    Args:
        run: The run's directory.
        manifest: Its manifest.
        parts: Names of the parts, in order.
        num_rows: How many rows of a file are decoded at once.
    """

    def __init__(
        self, run: Location, manifest: RunManifest, parts: Sequence[str], num_rows: int
    ) -> None:
        self._schema = wide_schema(manifest)
        self._is_long = manifest.is_long
        item_type = self._schema.field("item_ids").type.value_type
        user_type = self._schema.field("user_id").type
        long_schema = long_recommendations_schema(user_type, item_type)
        self._stored = long_schema if self._is_long else self._schema
        if self._is_long:
            num_rows *= manifest.k
        files: dict[str, list[ListedFile]] = {}
        for part in manifest.parts:
            if part.name in parts:
                for file in part.files:
                    directory = file.path.rpartition("/")[0]
                    files.setdefault(directory, []).append(ListedFile.of(run, file))
        self._cursors = [
            BucketCursor(self._read(directory, listed, num_rows))
            for directory, listed in files.items()
        ]

    def between(self, first: int, last: int) -> pa.Table:
        """The rows of some buckets; buckets may not fall from call to call."""
        found = [cursor.between(first, last) for cursor in self._cursors]
        tables = [table for table in found if table is not None]
        if not tables:
            return self._schema.empty_table()
        rows = pa.concat_tables(tables)
        return to_wide(rows, self._schema) if self._is_long else rows

    def _read(self, directory: str, files: list[ListedFile], num_rows: int) -> Iterator[pa.Table]:
        column, _, value = directory.partition("=")
        names = [name for name in self._stored.names if name != column]
        for file in sorted(files, key=operator.attrgetter("uri")):
            for table in read_batches(file, names, num_rows):
                if column:
                    constant = pa.repeat(value, table.num_rows)
                    table = table.append_column(column, constant)
                yield table.select(self._stored.names).cast(self._stored)
