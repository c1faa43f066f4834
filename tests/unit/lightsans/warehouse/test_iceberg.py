"""Iceberg tables, written by pyiceberg; positional and equality deletes are added by hand."""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
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

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.table_formats import TableVersion
from lightsans.warehouse.tables import added_since, list_table_or_files, pinned_inputs, tables_of
from tests.logs_on_disk import read_log

STORAGE = StorageConfig()
LATER = 77


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("shop")
    yield catalog.create_table("shop.log", schema=rows(0).schema)
    catalog.close()


def rows(first: int, count: int = 4) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "user_id": [f"u{n % 2}" for n in numbers],
            "item_id": [f"i{n}" for n in numbers],
            "timestamp": list(numbers),
        }
    )


def directory(table: Table) -> str:
    return str(table.location()).removeprefix("file://")


def address(table: Table) -> str:
    return f"iceberg://{directory(table)}"


def items(name: str) -> list[str]:
    return sorted(item for _, item, _ in read_log(name).rows)


def snapshot(table: Table) -> int:
    found = table.current_snapshot()
    assert found is not None
    return found.snapshot_id


def new_files(table: Table, before: int) -> list[str] | None:
    files = list_table_or_files(address(table), STORAGE)
    [now] = tables_of(files)
    earlier = TableVersion(kind="iceberg", uri=directory(table), version=before)
    added = added_since(now, earlier, files)
    return None if added is None else [file.location.uri for file in added]


def test_the_rows_of_the_newest_snapshot_are_read_and_those_of_any_other_by_id(table):
    table.append(rows(0))
    first = snapshot(table)
    table.append(rows(4))
    table.delete("timestamp = 5")
    assert items(address(table)) == ["i0", "i1", "i2", "i3", "i4", "i6", "i7"]
    assert items(f"{address(table)}@v{first}") == ["i0", "i1", "i2", "i3"]
    assert items(f"iceberg://{table.metadata_location}") == items(address(table))


def test_files_stand_in_the_order_of_commits(table):
    for first in (8, 4, 0):
        table.append(rows(first))
    files = list_table_or_files(address(table), STORAGE)
    assert [file.rows.commit for file in files if file.rows] == [1, 2, 3]
    assert pinned_inputs(files) == (f"{address(table)}@v{snapshot(table)}",)


def test_rows_that_were_appended_are_new_and_deletes_mean_that_everything_is_read(table):
    table.append(rows(0))
    first = snapshot(table)
    table.append(rows(4))
    second = snapshot(table)
    [added] = new_files(table, first) or []
    assert pq.read_table(added).column("item_id").to_pylist() == ["i4", "i5", "i6", "i7"]
    assert new_files(table, second) == []
    assert new_files(table, 1234) is None, "no such snapshot, or an expired one"
    table.delete("timestamp = 5")
    assert new_files(table, first) is None


class _DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def add_deletes(table: Table, content: DataFileContent, path: Path, deletes: pa.Table) -> None:
    """Write a file of deletes, and commit it."""
    pq.write_table(deletes, path)
    commit_deletes(table, content, path, FileFormat.PARQUET, deletes.num_rows)


def commit_deletes(
    table: Table, content: DataFileContent, path: Path, kind: FileFormat, count: int
) -> None:
    """Commit a file of deletes: its manifest, a list with the manifests of before, metadata."""
    before = table.current_snapshot()
    assert before is not None
    number = (before.sequence_number or 0) + 1
    file = DataFile.from_args(
        _table_format_version=2,
        content=content,
        file_path=str(path),
        file_format=kind,
        partition=Record(),
        record_count=count,
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


def change_metadata(table: Table, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the newest metadata file as a writer of another format would have written it."""
    newest = max(Path(directory(table)).glob("metadata/*.metadata.json"))
    metadata = json.loads(newest.read_text())
    change(metadata)
    newest.write_text(json.dumps(metadata))


def make_third(metadata: dict[str, Any]) -> None:
    metadata.update({"format-version": 3, "next-row-id": 8})
    for each in metadata["snapshots"]:
        each["first-row-id"] = 0


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


def test_a_default_is_the_value_of_a_column_that_joined_later(table):
    table.append(rows(0))
    with table.update_schema() as change:
        change.add_column("kind", StringType())
    table.append(rows(4).append_column("kind", pa.array(["buy", "view", "buy", "view"])))

    def set_default(value: object, kind: str) -> None:
        def change(metadata: dict[str, Any]) -> None:
            make_third(metadata)
            field = metadata["schemas"][-1]["fields"][-1]
            field.update({"initial-default": value, "type": kind})

        change_metadata(table, change)

    set_default("buy", "string")
    read = read_log(address(table), where="kind = 'buy'")
    assert sorted(item for _, item, _ in read.rows) == ["i0", "i1", "i2", "i3", "i4", "i6"]
    set_default("2026-01-01", "date")
    with pytest.raises(InputError, match=r"column kind has the default .*of type date.*parquet"):
        list_table_or_files(address(table), STORAGE)


def test_types_that_are_not_known_are_told_in_one_line(table):
    table.append(rows(0))

    def change(metadata: dict[str, Any]) -> None:
        make_third(metadata)
        metadata["schemas"][-1]["fields"][0]["type"] = "variant2"

    change_metadata(table, change)
    with pytest.raises(InputError, match="cannot be read as an Iceberg table") as caught:
        list_table_or_files(address(table), STORAGE)
    assert "\n" not in str(caught.value)


def test_equality_deletes_are_refused_with_the_way_out(table, tmp_path):
    table.append(rows(0))
    deletes = pa.table({"item_id": ["i0"]})
    add_deletes(table, DataFileContent.EQUALITY_DELETES, tmp_path / "d.parquet", deletes)
    with pytest.raises(InputError, match=r"has equality deletes.*plain parquet"):
        list_table_or_files(address(table), STORAGE)


def test_a_renamed_column_is_refused(table):
    table.append(rows(0))
    with table.update_schema() as change:
        change.rename_column("item_id", "product")
    with pytest.raises(InputError, match="item_id and product are one"):
        list_table_or_files(address(table), STORAGE)


def test_a_column_that_joined_later_is_null_in_the_files_of_before(table):
    table.append(rows(0))
    with table.update_schema() as change:
        change.add_column("kind", StringType())
    table.append(rows(4).append_column("kind", pa.array(["buy", "view", "buy", "view"])))
    name = address(table)
    assert items(name) == [f"i{n}" for n in range(8)]
    read = read_log(name, where="kind = 'buy'")
    assert sorted(item for _, item, _ in read.rows) == ["i4", "i6"]


def test_a_column_that_has_the_name_of_a_dropped_one_is_refused(table):
    """Files of before would give the values of the dropped one under that name."""
    with table.update_schema() as change:
        change.add_column("kind", StringType())
    table.append(rows(0).append_column("kind", pa.array(["a", "b", "c", "d"])))
    with table.update_schema() as change:
        change.delete_column("kind")
    with table.update_schema() as change:
        change.add_column("kind", StringType())
    with pytest.raises(InputError, match="column kind was dropped and another one has its name"):
        list_table_or_files(address(table), STORAGE)


def test_a_data_file_that_is_gone_is_named_with_its_version(table):
    table.append(rows(0))
    [file] = list_table_or_files(address(table), STORAGE)
    Path(file.location.path).unlink()
    with pytest.raises(
        InputError, match=rf"no such file, and version {snapshot(table)} of the iceberg"
    ):
        list_table_or_files(address(table), STORAGE)


def test_a_table_of_the_first_format_is_read_in_the_order_of_its_snapshots(table):
    old = table.catalog.create_table(
        "shop.old", schema=rows(0).schema, properties={"format-version": "1"}
    )
    for first in (8, 4, 0):
        old.append(rows(first))
    files = list_table_or_files(address(old), STORAGE)
    assert [file.rows.commit for file in files if file.rows] == [1, 2, 3]
    firsts = [pq.read_table(file.location.path)["item_id"][0].as_py() for file in files]
    assert firsts == ["i8", "i4", "i0"]
    assert len(items(address(old))) == 12


def test_the_directory_of_data_files_is_not_read_as_plain_files(table):
    table.append(rows(0))
    with pytest.raises(InputError, match=rf"within the iceberg table .*name {address(table)},"):
        list_table_or_files(f"{directory(table)}/data", STORAGE)


def test_damaged_metadata_and_manifests_that_are_gone_are_told_in_one_line(table):
    table.append(rows(0))
    for file in Path(directory(table)).glob("metadata/snap-*.avro"):
        file.unlink()
    with pytest.raises(InputError, match=rf"snapshot {snapshot(table)} needs a manifest") as caught:
        list_table_or_files(address(table), STORAGE)
    assert "\n" not in str(caught.value)
    newest = Path(table.metadata_location.removeprefix("file://"))
    newest.write_text(newest.read_text()[:100])
    with pytest.raises(InputError, match="cannot be read as an Iceberg table") as caught:
        list_table_or_files(address(table), STORAGE)
    assert "\n" not in str(caught.value)


def test_two_metadata_files_of_one_number_are_for_the_catalog_to_tell_apart(table):
    table.append(rows(0))
    newest = Path(table.metadata_location.removeprefix("file://"))
    newest.with_name(newest.name[:6] + "other.metadata.json").write_bytes(newest.read_bytes())
    with pytest.raises(InputError, match="only its catalog knows"):
        list_table_or_files(address(table), STORAGE)
    assert items(f"iceberg://{newest}") == ["i0", "i1", "i2", "i3"]


def test_what_is_no_table_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"nothing: no Iceberg table"):
        list_table_or_files(f"iceberg://{tmp_path}/nothing", STORAGE)
