"""Which files a dataset is made of, and which are new to one that others were made of.

Partitions prune by time where a setting says that they are event time, and only there.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lightsans.config import DataConfig, RunConfig, StorageConfig
from lightsans.errors import ConfigError, InputError
from lightsans.reading.rejects import RowCounts
from lightsans.storage.location import FileInfo, locate
from lightsans.warehouse.tables import list_table_or_files
from pipelines.preprocess.base import Base
from pipelines.preprocess.inputs import (
    input_entries,
    input_tables,
    list_log,
    new_files,
    new_rows,
)
from pipelines.preprocess.records import Interactions
from tests.factories import local
from tests.manifests import dataset_manifest

JANUARY_2 = 1_767_312_000_000_000
VALUES = ["dt=2026-01-01", "dt=2026-01-02", "dt=2026-01-03", "dt=__HIVE_DEFAULT_PARTITION__"]
STORAGE = StorageConfig()
NOTHING = Interactions(RowCounts(), "string", "string", [])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for value in VALUES:
        (tmp_path / value).mkdir()
        (tmp_path / value / "a.csv").write_text("x")
    return tmp_path


def listed(log: Path, as_of: int | None, **settings: Any) -> list[str]:
    data = DataConfig(input=(str(log),), as_of="unused", **settings)
    return [file.location.parent.name for file in list_log(RunConfig(data=data), as_of)]


def test_partitions_from_as_of_on_are_left_out_where_they_are_event_time(log, capfd):
    missing, *dates = sorted(VALUES, key=lambda value: "_" not in value)
    assert listed(log, JANUARY_2) == [*dates, missing]
    assert listed(log, None, partition_time="dt") == [*dates, missing]
    assert listed(log, JANUARY_2, partition_time="dt") == [dates[0], missing]
    assert "2 files are left out: their partitions dt begin at" in capfd.readouterr().err
    assert listed(log, JANUARY_2 + 1, partition_time="dt") == [*dates[:2], missing]


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        ("20260101", True),
        ("20260102", False),
        ("2026-01", True),
        ("202602", False),
        ("2025", True),
        ("2026-01-01-23", True),
        ("2026010123", True),
        ("2026-01-02T00", False),
        ("2026-01-01 23%3A59%3A59", True),
        ("2026-01-01T23%3A00%3A00-05%3A00", False),
    ],
)
def test_times_of_partitions_have_many_forms(tmp_path, value, is_kept):
    for name in (f"dt={value}", "dt=1999-01-01"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("x")
    found = listed(tmp_path, JANUARY_2, partition_time="dt")
    assert (f"dt={value}" in found) == is_kept
    assert "dt=1999-01-01" in found


def test_a_partition_of_local_days_begins_by_the_clock_of_the_log(log):
    in_berlin = JANUARY_2 - 3600 * 10**6
    found = listed(log, in_berlin, partition_time="dt", timezone="Europe/Berlin")
    assert found[0] == "dt=2026-01-01"
    assert "dt=2026-01-02" not in found
    assert "dt=2026-01-02" in listed(
        log, in_berlin + 1, partition_time="dt", timezone="Europe/Berlin"
    )


def test_a_partition_that_is_not_there_or_no_time_is_an_error(log):
    with pytest.raises(ConfigError, match=r"data\.partition_time=day: no file .*found dt$"):
        listed(log, JANUARY_2, partition_time="day")
    (log / "dt=soon").mkdir()
    (log / "dt=soon/a.csv").write_text("x")
    with pytest.raises(InputError, match=r"dt=soon \(data\.partition_time\) is no date or time"):
        listed(log, JANUARY_2, partition_time="dt")


def base_of(*files: FileInfo) -> Base:
    manifest = dataset_manifest(input=input_entries(None, files))
    return Base(locate("/root/datasets/abc", STORAGE), manifest, NOTHING)


def on_s3(uri: str, etag: str, size: int = 10) -> FileInfo:
    return FileInfo(locate(uri, STORAGE), size, etag)


def test_a_moved_object_is_not_added_again(capfd):
    base = base_of(on_s3("s3://old/logs/a.csv", "d41d8c"), on_s3("s3://old/logs/b.csv", "0cc175"))
    moved = on_s3("s3://new/a.csv", "d41d8c")
    renamed = on_s3("s3://new/renamed.csv", "0cc175")
    new = on_s3("s3://new/c.csv", "92eb5f")
    assert new_files(base, [moved, renamed, new]) == [new]
    said = capfd.readouterr().err
    assert "2 files lie elsewhere" in said
    assert "s3://old/logs/a.csv is now s3://new/a.csv" in said


def test_the_same_content_in_another_partition_is_new_where_that_is_a_column():
    data = {"columns": {"user": "user_id", "timestamp": "dt"}, "where": "shop = '7'"}
    old = [on_s3("s3://b/dt=1/shop=7/a.csv", "d41d8c"), on_s3("s3://b/dt=2/shop=7/a.csv", "d41d8c")]
    base = base_of(*old)
    by_day = replace(base, manifest=replace(base.manifest, data=data))
    moved = on_s3("s3://c/dt=1/shop=7/arrived=3/a.csv", "d41d8c")
    new = on_s3("s3://b/dt=3/shop=7/a.csv", "d41d8c")
    other = on_s3("s3://b/dt=1/shop=8/a.csv", "d41d8c")
    assert new_files(by_day, [*old, moved, new, other]) == [new, other]
    assert new_files(base, [*old, moved, new, other]) == []


def test_a_moved_local_file_is_known_by_its_time(tmp_path):
    old = tmp_path / "old.csv"
    old.write_text("user_id,item_id\n")
    base = base_of(local(old).info())
    new = tmp_path / "elsewhere" / "new.csv"
    new.parent.mkdir()
    shutil.move(old, new)
    assert new_files(base, [local(new).info()]) == []


def test_times_of_whole_seconds_need_the_same_name(tmp_path):
    """As tar and many copies leave them: two files of one second and one size may differ."""
    for name in ("monday.csv", "tuesday.csv", "else/monday.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("user_id,item_id\n")
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    monday, tuesday, again = (
        local(tmp_path / name).info() for name in ("monday.csv", "tuesday.csv", "else/monday.csv")
    )
    assert new_files(base_of(monday), [tuesday, again]) == [tuesday]


def test_a_file_that_may_be_a_moved_one_is_refused_while_the_old_one_is_gone(tmp_path):
    """Name and size agree, the time does not: copied without it, or a new day of equal size."""
    old, new = tmp_path / "day1" / "log.csv", tmp_path / "day2" / "log.csv"
    for path, time in ((old, 1_700_000_000.5), (new, 1_800_000_000.5)):
        path.parent.mkdir()
        path.write_text("user_id,item_id\n")
        os.utime(path, (time, time))
    base, found = base_of(local(old).info()), local(new).info()
    assert new_files(base, [found]) == [found]  # both are there: two files
    old.unlink()
    with pytest.raises(InputError, match=r"day2/log\.csv: dataset abc was made of .*day1/log\.csv"):
        new_files(base, [found])


def test_a_base_of_a_table_reads_what_was_appended_since_or_everything(tmp_path, capfd):
    table = str(tmp_path / "log")
    for number in (0, 1):
        rows = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [number]})
        write_deltalake(table, rows, mode="append")
    earlier = list_table_or_files(f"delta://{table}@v0", STORAGE)
    files = list_table_or_files(table, STORAGE)
    base = base_of(*earlier)
    manifest = replace(base.manifest, tables=input_tables(None, earlier))
    base = replace(base, manifest=manifest)
    plain = on_s3("s3://new/c.csv", "92eb5f")
    [added, beside] = new_rows(base, [*files, plain]) or []
    assert added.rows
    assert (added.rows.commit, beside) == (1, plain)
    recorded = input_tables(base, files) or ()
    assert [version.address for version in recorded] == [f"delta://{table}@v1"]
    DeltaTable(table).delete("timestamp = 1")
    assert new_rows(base, list_table_or_files(table, STORAGE)) is None
    assert "has lost or changed rows since its version 0" in capfd.readouterr().err


def test_a_table_that_a_base_does_not_know_is_new(tmp_path):
    table = str(tmp_path / "log")
    rows = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [0]})
    write_deltalake(table, rows)
    files = list_table_or_files(table, STORAGE)
    assert new_rows(base_of(on_s3("s3://old/a.csv", "d41d8c")), files) == files
