"""Iceberg tables, written by pyiceberg; what it cannot write is put into their metadata by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table
from pyiceberg.types import StringType

from lightsans.errors import InputError
from lightsans.warehouse.tables import list_table_or_files, pinned_inputs
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
from tests.logs_on_disk import read_log, rows


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with new_table(tmp_path) as made:
        yield made


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
