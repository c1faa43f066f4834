"""Delta tables, written by delta-rs; deletion vectors are put into its log by hand."""

import base64
import json
import struct
import uuid
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyroaring import BitMap

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.table_formats import TableVersion
from lightsans.warehouse import delta
from lightsans.warehouse.tables import added_since, list_table_or_files, pinned_inputs, tables_of
from tests.logs_on_disk import read_log
from tests.logs_on_disk import rows as plain_rows

STORAGE = StorageConfig()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "my log"


def rows(first: int, count: int = 4) -> pa.Table:
    days = [f"d {n % 2}/é" for n in range(first, first + count)]
    return plain_rows(first, count).append_column("day", pa.array(days))


def items(address: object) -> list[str]:
    return sorted(item for _, item, _ in read_log(str(address)).rows)


def version(table: Path, number: int) -> TableVersion:
    return TableVersion(kind="delta", uri=str(table), version=number)


def new_items(table: Path, before: int) -> list[str] | None:
    files = list_table_or_files(str(table), STORAGE)
    [now] = tables_of(files)
    added = added_since(now, version(table, before), files)
    return None if added is None else sorted({file.location.name for file in added})


def test_the_rows_of_the_newest_version_are_read_and_those_of_any_other_by_number(table):
    write_deltalake(table, rows(0), partition_by=["day"])
    write_deltalake(table, rows(4), mode="append")
    DeltaTable(table).delete("timestamp = 5")
    assert items(table) == ["i0", "i1", "i2", "i3", "i4", "i6", "i7"]
    assert items(f"delta://{table}@v1") == [f"i{n}" for n in range(8)]
    assert items(f"DELTA://{table}@v0") == ["i0", "i1", "i2", "i3"], (
        "as any scheme, in capitals too"
    )


def test_a_partition_that_files_lack_is_a_column(table):
    write_deltalake(table, rows(0), partition_by=["day"])
    files = list_table_or_files(f"delta://{table}", STORAGE)
    days = [file.rows.partition["day"] for file in files if file.rows and file.rows.partition]
    assert days == ["d 0/é", "d 1/é"]


def test_partitions_are_what_the_log_says_whatever_their_directories_are_called(table):
    values = ["a b", "x/y", "é%20", "a#?*[1]", "=q", None]
    written = pa.table({"day": values, "hour": list(range(6))})
    for name in ("user_id", "item_id", "timestamp"):
        written = written.append_column(name, rows(0, 6)[name])
    write_deltalake(table, written, partition_by=["day", "hour"])
    found = [file.rows.partition for file in list_table_or_files(str(table), STORAGE) if file.rows]
    pairs = sorted(((p["hour"], p["day"]) for p in found if p), key=str)
    assert pairs == [(str(number), value) for number, value in enumerate(values)]
    assert items(table) == [f"i{n}" for n in range(6)]


def test_a_column_that_joined_later_is_null_in_the_files_of_before(table):
    write_deltalake(table, rows(0))
    more = rows(4).append_column("kind", pa.array(["buy", "view", "buy", "view"]))
    write_deltalake(table, more, mode="append", schema_mode="merge")
    assert items(table) == [f"i{n}" for n in range(8)]
    read = read_log(str(table), where="kind = 'buy'")
    assert sorted(item for _, item, _ in read.rows) == ["i4", "i6"]


def test_files_stand_in_the_order_of_commits_then_paths(table):
    for first in (0, 4, 8):
        write_deltalake(table, rows(first), mode="append", partition_by=["day"])
    files = list_table_or_files(str(table), STORAGE)
    commits = [file.rows.commit for file in files if file.rows]
    assert commits == [0, 0, 1, 1, 2, 2]
    assert [file.location.uri for file in files[:2]] == sorted(f.location.uri for f in files[:2])
    assert pinned_inputs(files) == (f"delta://{table}@v2",)


def test_rows_that_were_appended_are_new_and_compaction_adds_none(table):
    write_deltalake(table, rows(0))
    write_deltalake(table, rows(4), mode="append")
    DeltaTable(table).optimize.compact()
    assert new_items(table, 1) == []
    assert new_items(table, 0) is None, "the new rows are in a file with those of before"
    write_deltalake(table, rows(8), mode="append")
    newest = max(table.glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    assert new_items(table, 2) == [newest.name]
    assert new_items(table, 3) == []


def test_deletes_and_a_log_that_was_cut_mean_that_everything_is_read(table):
    write_deltalake(table, rows(0))
    write_deltalake(table, rows(4), mode="append")
    write_deltalake(table, rows(8), mode="append")
    assert new_items(table, 0) is not None
    (table / "_delta_log" / f"{1:020}.json").rename(table / "cut.json")
    assert new_items_of_log(table, 0) is None
    (table / "cut.json").rename(table / "_delta_log" / f"{1:020}.json")
    DeltaTable(table).delete("timestamp = 5")
    assert new_items(table, 2) is None


def new_items_of_log(table: Path, before: int) -> set[str] | None:
    return delta.added_since(str(table), STORAGE, before, 2)


def test_rows_of_a_deletion_vector_are_not_read(table):
    write_deltalake(table, rows(0, 6))
    delete_by_vector(table, [1, 4])
    assert items(table) == ["i0", "i2", "i3", "i5"]
    assert new_items(table, 0) is None


def delete_by_vector(table: Path, positions: list[int]) -> None:
    """Commit a deletion vector as Delta's protocol says it: a roaring array in a file."""
    log = table / "_delta_log" / f"{0:020}.json"
    [add] = [line["add"] for line in map(json.loads, log.read_text().splitlines()) if "add" in line]
    bitmap = BitMap(positions).serialize()
    content = struct.pack("<iqi", 1681511377, 1, 0) + bitmap
    identity = uuid.uuid4()
    body = struct.pack(">i", len(content)) + content + struct.pack(">I", zlib.crc32(content))
    (table / f"deletion_vector_{identity}.bin").write_bytes(b"\x01" + body)
    vector = {
        "storageType": "u",
        "pathOrInlineDv": base64.b85encode(identity.bytes).decode(),
        "offset": 1,
        "sizeInBytes": len(content),
        "cardinality": len(positions),
    }
    # Z85 has the digits of base 85 in another order.
    ours = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    vector["pathOrInlineDv"] = str(vector["pathOrInlineDv"]).translate(str.maketrans(ours, z85))
    features = ["deletionVectors"]
    actions = [
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": features,
            }
        },
        {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**add, "deletionVector": vector, "dataChange": True}},
    ]
    lines = "\n".join(json.dumps(action) for action in actions)
    (table / "_delta_log" / f"{1:020}.json").write_text(lines)


def test_what_is_no_table_or_no_version_is_an_error_that_names_it(table, tmp_path):
    with pytest.raises(InputError, match=r"nothing: cannot be read as a Delta table"):
        list_table_or_files(f"delta://{tmp_path}/nothing", STORAGE)
    write_deltalake(table, rows(0))
    with pytest.raises(InputError, match="version 7"):
        list_table_or_files(f"delta://{table}@v7", STORAGE)
    DeltaTable(table).delete()
    with pytest.raises(InputError, match="has no rows"):
        list_table_or_files(str(table), STORAGE)


def test_times_without_a_zone_partitions_of_users_and_logs_of_checkpoints_are_read(table):
    moments = pa.array([1_600_000_000_000_000 + n for n in range(4)], pa.timestamp("us"))
    columns = rows(0).set_column(2, "timestamp", moments)
    for _ in range(2):
        write_deltalake(table, columns, mode="append", partition_by=["user_id"])
        DeltaTable(table).create_checkpoint()
    (table / "_delta_log" / f"{0:020}.json").unlink()
    assert items(table) == ["i0", "i0", "i1", "i1", "i2", "i2", "i3", "i3"]
    assert {user for user, _, _ in read_log(str(table)).rows} == {"u0", "u1"}
    assert {time for _, _, time in read_log(str(table)).rows} == {
        1_600_000_000 + n / 1e6 for n in range(4)
    }


def test_a_version_whose_files_were_vacuumed_leads_to_the_newest(table):
    write_deltalake(table, rows(0))
    write_deltalake(table, rows(4), mode="overwrite")
    DeltaTable(table).vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(
        InputError, match=rf"version 0 of .* needs it.*delta://{table} is the newest"
    ):
        list_table_or_files(f"delta://{table}@v0", STORAGE)
    assert items(table) == ["i4", "i5", "i6", "i7"]


def test_a_log_with_a_gap_or_half_an_entry_is_told_in_one_line(table):
    for first in (0, 4, 8):
        write_deltalake(table, rows(first), mode="append")
    entry = table / "_delta_log" / f"{1:020}.json"
    content = entry.read_text()
    for damage in (entry.unlink, lambda: entry.write_text(content[:-30])):
        damage()
        with pytest.raises(InputError, match="cannot be read as a Delta table") as caught:
            list_table_or_files(str(table), STORAGE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["@2020-01-01", "@3", "@v-1", "@vx"])
def test_a_version_that_is_no_number_is_told_how_one_is_named(table, version):
    write_deltalake(table, rows(0))
    with pytest.raises(InputError, match="named by its number: @v3"):
        list_table_or_files(f"delta://{table}{version}", STORAGE)
    with pytest.raises(InputError, match="cannot be read"):
        list_table_or_files(f"delta://{table}@v{10**20}", STORAGE)


def test_a_partition_of_a_table_is_not_read_as_plain_files(table):
    """Its directory may hold files that a delete has taken out of the table."""
    write_deltalake(table, rows(0), partition_by=["day"])
    for directory in table.glob("day=*"):
        with pytest.raises(InputError, match=rf"within the delta table .*name delta://{table}"):
            list_table_or_files(str(directory), STORAGE)


def test_a_directory_that_holds_a_table_leads_to_its_address(table):
    write_deltalake(table, rows(0))
    with pytest.raises(InputError, match=f"name it as delta://{table}"):
        list_table_or_files(str(table.parent), STORAGE)


def split_checkpoint(log: Path, version: int, parts: int) -> None:
    """Write a checkpoint in several files, as Spark does for large tables."""
    whole = log / f"{version:020}.checkpoint.parquet"
    content = pq.read_table(whole)
    whole.unlink()
    for part in range(parts):
        first, last = (content.num_rows * (part + n) // parts for n in (0, 1))
        name = f"{version:020}.checkpoint.{part + 1:010}.{parts:010}.parquet"
        pq.write_table(content.slice(first, last - first), log / name)
    hint = {"version": version, "size": content.num_rows, "parts": parts}
    (log / "_last_checkpoint").write_text(json.dumps(hint))


def write_second_checkpoint(log: Path, version: int) -> None:
    """Write a checkpoint of the second version in place of one of the first: with sidecars."""
    whole = log / f"{version:020}.checkpoint.parquet"
    content = pq.read_table(whole)
    whole.unlink()
    adds = content.filter(pc.is_valid(content["add"])).select(["add"])
    protocol: dict[str, object] = {"minReaderVersion": 3, "minWriterVersion": 7}
    protocol |= {name: ["v2Checkpoint"] for name in ("readerFeatures", "writerFeatures")}
    lines = (log / f"{0:020}.json").read_text().splitlines()
    [metadata] = [json.loads(line) for line in lines if "metaData" in line]
    actions = [{"checkpointMetadata": {"version": version}}, {"protocol": protocol}, metadata]
    (log / "_sidecars").mkdir()
    for row in range(adds.num_rows):
        file = log / "_sidecars" / f"3a0d65cd-4056-49b8-937b-95f9e3ee90e{row}.parquet"
        pq.write_table(adds.slice(row, 1), file)
        about = {"path": file.name, "sizeInBytes": file.stat().st_size, "modificationTime": 1}
        actions.append({"sidecar": about})
    name = f"{version:020}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json"
    (log / name).write_text("\n".join(json.dumps(action) for action in actions))
    (log / "_last_checkpoint").write_text(json.dumps({"version": version, "size": 9}))


@pytest.mark.parametrize("kind", ["parts", "sidecars"])
def test_checkpoints_of_several_files_are_read_and_one_that_lacks_a_file_is_an_error(table, kind):
    for first in (0, 4, 8):
        write_deltalake(table, rows(first), mode="append")
    DeltaTable(table).create_checkpoint()
    log = table / "_delta_log"
    if kind == "parts":
        split_checkpoint(log, 2, 3)
    else:
        write_second_checkpoint(log, 2)
    for version in (0, 1):
        (log / f"{version:020}.json").unlink()
    assert items(table) == sorted(f"i{n}" for n in range(12))
    files = list_table_or_files(str(table), STORAGE)
    order = [pq.read_table(file.location.path)["item_id"][0].as_py() for file in files]
    assert order == ["i0", "i4", "i8"], "by time, where the log no longer says the commit"
    lost = "*.checkpoint.*.0000000003.parquet" if kind == "parts" else "_sidecars/*0.parquet"
    next(log.glob(lost)).unlink()
    (log / f"{2:020}.json").unlink()
    with pytest.raises(InputError, match="cannot be read as a Delta table") as caught:
        list_table_or_files(str(table), STORAGE)
    assert "\n" not in str(caught.value)


def add_features(table: Path, *features: str) -> None:
    """Commit a protocol that asks readers and writers to know features."""
    version = len(list((table / "_delta_log").glob("*.json")))
    protocol: dict[str, object] = {"minReaderVersion": 3, "minWriterVersion": 7}
    protocol |= {"readerFeatures": features, "writerFeatures": features}
    entry = table / "_delta_log" / f"{version:020}.json"
    entry.write_text(json.dumps({"protocol": protocol}))


@pytest.mark.parametrize(
    "feature", ["typeWidening", "vacuumProtocolCheck", "timestampNtz", "v2Checkpoint"]
)
def test_features_that_files_are_read_without_are_no_hindrance(table, feature):
    write_deltalake(table, rows(0))
    add_features(table, feature)
    assert items(table) == ["i0", "i1", "i2", "i3"]


@pytest.mark.parametrize(
    "features", [["madeUp"], ["catalogManaged"], ["deletionVectors", "vacuumProtocolCheck"]]
)
def test_features_that_are_not_known_are_refused_with_the_way_out(table, features):
    write_deltalake(table, rows(0))
    add_features(table, *features)
    with pytest.raises(InputError, match="write its newest version to plain parquet") as caught:
        list_table_or_files(str(table), STORAGE)
    assert "\n" not in str(caught.value)
