"""Delete files of Iceberg, which pyiceberg does not write: put into a table by hand."""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import StringType
from pyroaring import BitMap

from lightsans.errors import InputError
from lightsans.warehouse.tables import list_table_or_files
from tests.iceberg_tables import (
    STORAGE,
    address,
    change_metadata,
    directory,
    items,
    make_third,
    new_files,
    new_table,
    snapshot,
)
from tests.logs_on_disk import rows

LATER = 77


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with new_table(tmp_path) as made:
        yield made


class _DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def add_deletes(
    table: Table,
    content: DataFileContent,
    path: Path,
    deletes: pa.Table,
    equality_ids: list[int] | None = None,
) -> None:
    """Write a file of deletes, and commit it."""
    pq.write_table(deletes, path)
    commit_deletes(table, content, path, FileFormat.PARQUET, deletes.num_rows, equality_ids)


def commit_deletes(
    table: Table,
    content: DataFileContent,
    path: Path,
    kind: FileFormat,
    count: int,
    equality_ids: list[int] | None = None,
    later_by: int = 1,
) -> None:
    """Commit a file of deletes: its manifest, a list with the manifests of before, metadata."""
    before = table.current_snapshot()
    assert before is not None
    number = (before.sequence_number or 0) + later_by
    file = DataFile.from_args(
        _table_format_version=2,
        content=content,
        file_path=str(path),
        file_format=kind,
        partition=Record(),
        record_count=count,
        equality_ids=equality_ids,
        file_size_in_bytes=path.stat().st_size,
    )
    entry = ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED,
        snapshot_id=LATER,
        sequence_number=number,
        file_sequence_number=number,
        data_file=file,
    )
    output: Any = table.io.new_output(f"{path}.manifest.avro")
    with _DeletesWriter(table.spec(), table.schema(), output, LATER, "deflate") as writer:
        writer.add_entry(entry)
    manifests = [*before.manifests(table.io), writer.to_manifest_file()]
    listed = table.io.new_output(f"{path}.list.avro")
    with write_manifest_list(2, listed, LATER, before.snapshot_id, number, "deflate") as lists:
        lists.add_manifests(manifests)
    metadata = json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())
    metadata["snapshots"].append(
        {
            "snapshot-id": LATER,
            "parent-snapshot-id": before.snapshot_id,
            "sequence-number": number,
            "timestamp-ms": before.timestamp_ms + 1,
            "manifest-list": f"{path}.list.avro",
            "summary": {"operation": "overwrite"},
            "schema-id": table.schema().schema_id,
        }
    )
    metadata["current-snapshot-id"], metadata["last-sequence-number"] = LATER, number
    metadata["refs"]["main"]["snapshot-id"] = LATER
    target = Path(directory(table)) / "metadata" / "99999-later.metadata.json"
    target.write_text(json.dumps(metadata))


def test_positional_deletes_take_out_rows_of_files_that_were_there(table, tmp_path):
    table.append(rows(0))
    first = snapshot(table)
    [file] = list_table_or_files(address(table), STORAGE)
    deletes = pa.table({"file_path": [f"file://{file.location.uri}"] * 2, "pos": [0, 2]})
    add_deletes(table, DataFileContent.POSITION_DELETES, tmp_path / "d.parquet", deletes)
    assert items(address(table)) == ["i1", "i3"]
    [marked] = list_table_or_files(address(table), STORAGE)
    assert marked.rows
    assert marked.rows.fingerprint
    assert new_files(table, first) is None


def write_vectors(path: Path, vectors: dict[str, list[int]]) -> None:
    """Write a Puffin file with a deletion vector for each data file."""
    content, blobs = b"PFA1", []
    for name, numbers in vectors.items():
        bitmap = BitMap(numbers).serialize()
        body = b"\xd1\xd3\x39\x64" + struct.pack("<QI", 1, 0) + bitmap
        blob = struct.pack(">I", len(body)) + body + struct.pack(">I", zlib.crc32(body))
        place = {"offset": len(content), "length": len(blob)}
        about = {"referenced-data-file": name, "cardinality": str(len(numbers))}
        numbers_of = {"snapshot-id": -1, "sequence-number": -1, "fields": []}
        blobs.append({"type": "deletion-vector-v1", **place, **numbers_of, "properties": about})
        content += blob
    footer = json.dumps({"blobs": blobs}).encode()
    path.write_bytes(
        content + b"PFA1" + footer + struct.pack("<I", len(footer)) + bytes(4) + b"PFA1"
    )


def test_deletion_vectors_of_the_third_format_take_out_their_rows(table, tmp_path):
    table.append(rows(0))
    table.append(rows(4))
    first = snapshot(table)
    files = [f"file://{file.location.uri}" for file in list_table_or_files(address(table), STORAGE)]
    path = tmp_path / "d.puffin"
    write_vectors(path, {files[0]: [0, 3], files[1]: [1]})
    commit_deletes(table, DataFileContent.POSITION_DELETES, path, FileFormat.PUFFIN, 3)
    change_metadata(table, make_third)
    assert items(address(table)) == ["i1", "i2", "i4", "i6", "i7"]
    assert new_files(table, first) is None
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"d\.puffin: cannot be read as deletion vectors"):
        list_table_or_files(address(table), STORAGE)


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        ({"item_id": ["i0", "i6", "no"]}, ["i1", "i2", "i3", "i4", "i5", "i7"]),
        ({"user_id": ["u0"], "item_id": ["i1"]}, [f"i{n}" for n in range(8)]),
        ({"timestamp": [2, 5], "user_id": ["u0", "u0"]}, [f"i{n}" for n in (0, 1, 3, 4, 5, 6, 7)]),
        ({"kind": [None]}, ["i4", "i5", "i6", "i7"]),
        ({"kind": ["buy"], "user_id": ["u0"]}, ["i0", "i1", "i2", "i3", "i5", "i7"]),
    ],
)
def test_equality_deletes_take_out_rows_with_their_values(table, tmp_path, columns, left):
    table.append(rows(0))
    with table.update_schema() as change:
        change.add_column("kind", StringType())
    table.append(rows(4).append_column("kind", pa.array(["buy", "view", "buy", "view"])))
    first = snapshot(table)
    names = [table.schema().find_field(name).field_id for name in columns]
    typed = {n: pa.array(c, pa.string()) if n == "kind" else c for n, c in columns.items()}
    deletes = pa.table(typed)
    add_deletes(table, DataFileContent.EQUALITY_DELETES, tmp_path / "d.parquet", deletes, names)
    assert items(address(table)) == left
    assert items(f"{address(table)}@v{first}") == [f"i{n}" for n in range(8)]
    assert new_files(table, first) is None


def test_a_column_that_was_dropped_since_is_compared_and_an_unknown_one_refused(table, tmp_path):
    with table.update_schema() as change:
        change.add_column("kind", StringType())
    table.append(rows(0).append_column("kind", pa.array(["buy", "view", "buy", "view"])))
    number = table.schema().find_field("kind").field_id
    with table.update_schema() as change:
        change.delete_column("kind")
    deletes, content = pa.table({"kind": ["buy"]}), DataFileContent.EQUALITY_DELETES
    add_deletes(table, content, tmp_path / "d.parquet", deletes, [number])
    assert items(address(table)) == ["i1", "i3"]
    add_deletes(table, content, tmp_path / "e.parquet", deletes, [99])
    with pytest.raises(InputError, match=r"e\.parquet: it compares column 99"):
        list_table_or_files(address(table), STORAGE)


def test_equality_deletes_spare_rows_of_their_own_commit(table, tmp_path):
    """An upsert deletes by value and adds the new row at once."""
    table.append(rows(0))
    deletes = pa.table({"item_id": ["i0"]})
    name = [table.schema().find_field("item_id").field_id]
    path = tmp_path / "d.parquet"
    pq.write_table(deletes, path)
    kind = DataFileContent.EQUALITY_DELETES
    commit_deletes(table, kind, path, FileFormat.PARQUET, 1, name, later_by=0)
    assert items(address(table)) == ["i0", "i1", "i2", "i3"]
