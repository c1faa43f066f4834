"""Parquet: positions over row groups, types of ids, files without rows."""

import datetime
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.errors import EmptyFileError
from lightsans.reading.units import plan_reading
from lightsans.storage.listing import list_files
from tests.logs_on_disk import (
    read_log,
    reading_fails,
    write_parquet,
)


@pytest.mark.parametrize("unit_bytes", [1, 2**20])
def test_parquet_positions_are_row_numbers_over_row_groups(tmp_path, unit_bytes):
    rows = [(f"u{n}", n, n) for n in range(10)]
    log = read_log(write_parquet(tmp_path / "a.parquet", rows, 3), read_unit_bytes=unit_bytes)
    assert log.rows == rows
    assert log.order_keys == list(range(10))
    assert log.num_units == (4 if unit_bytes == 1 else 1)


def test_parquet_ids_keep_their_type_or_take_the_configured_one(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [(7, "007", 1), (8, "x", 2)])
    assert read_log(path).rows == [(7, "007", 1), (8, "x", 2)]
    log = read_log(path, user_id_type="string", item_id_type="int64")
    assert log.rows == [("7", 7, 1)]
    assert log.rejects == [(1, "item_not_int")]


def test_a_parquet_file_without_rows_or_with_null_columns_agrees_with_others(tmp_path):
    full = write_parquet(tmp_path / "a.parquet", [(7, "x", 1)])
    empty = write_parquet(tmp_path / "b.parquet", [(7, "x", 1)])
    pq.write_table(pq.read_table(full).slice(0, 0), empty)
    nulls = write_parquet(tmp_path / "c.parquet", [(None, "x", 1)])
    log = read_log([nulls, full, empty])
    assert log.rows == [(7, "x", 1)]
    assert log.rejects == [(0, "user_missing")]


def test_a_truncated_or_damaged_parquet_file_is_named(tmp_path):
    rows = [(f"u{n * n}", n, n) for n in range(5000)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    reading_fails([str(path), "not readable as parquet"], path)
    path.write_bytes(content[:100] + bytes(2000) + content[2100:])  # the footer is whole
    reading_fails([str(path)], path)


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("user_id", 7, pa.time64("us")),
        ("item_id", True, pa.bool_()),
        ("item_id", ["a"], pa.list_(pa.string())),
        ("timestamp", True, pa.bool_()),
        ("timestamp", 5, pa.time64("us")),
        ("timestamp", {"a": 1}, pa.struct([("a", pa.int64())])),
    ],
)
def test_columns_of_unusable_types_are_named(tmp_path, column, value, kind):
    columns = {"user_id": ["u"], "item_id": ["i"], "timestamp": [1]}
    columns[column] = pa.array([value], kind)
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    role = column.removesuffix("_id")
    reading_fails(
        [repr(column), str(kind).split("<")[0], f"data.columns.{role}"], tmp_path / "a.parquet"
    )


@pytest.mark.parametrize(
    ("times", "is_late"),
    [
        (pa.array([100, 200]), True),
        (pa.array([99, 200]), False),
        (pa.array([100, None]), False),
        (pa.array([100.0, 200.0]), False),
        (pa.array(["100", "200"]), False),
        (pa.array([100_000, 200_000], pa.timestamp("ms")), True),
        (pa.array([100 * 10**9, 200 * 10**9], pa.timestamp("ns", "Europe/Berlin")), True),
        (pa.array([99 * 10**9 + 1, 200 * 10**9], pa.timestamp("ns")), False),
    ],
)
def test_a_file_is_left_out_only_where_its_footer_proves_that_it_is_late(tmp_path, times, is_late):
    columns = {"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": times, "l": [[1], [2]]}
    pq.write_table(pa.table(columns), tmp_path / "late.parquet", row_group_size=1)
    early = {"user_id": ["a"], "item_id": ["x"], "timestamp": times.slice(0, 1), "l": [[1]]}
    pq.write_table(pa.table(early), tmp_path / "early.parquet", write_statistics=False)
    files = list_files(str(tmp_path), StorageConfig())
    plan = plan_reading(files, DataConfig(as_of="a time"), first_index=5, as_of=100 * 10**6)
    assert [Path(uri).name for uri in plan.after_as_of] == ["late.parquet"] * is_late
    read = [piece.file_index for unit in plan.units for piece in unit.slices]
    assert sorted(set(read)) == [5, 6][: 2 - is_late]
    assert plan_reading(files, DataConfig()).after_as_of == ()


def test_part_files_without_a_line_are_left_out_unless_there_is_no_other(tmp_path):
    (tmp_path / "a.csv").write_text("\n\n")
    (tmp_path / "b.csv").write_text("user_id,item_id,timestamp\n")
    (tmp_path / "c.csv").write_text("user_id,item_id,timestamp\nann,x,5\n")
    files = list_files(str(tmp_path), StorageConfig())
    plan = plan_reading(files, DataConfig())
    assert plan.num_empty == 1
    assert [piece.file_index for unit in plan.units for piece in unit.slices] == [2]
    with pytest.raises(EmptyFileError, match=r"a\.csv: the file holds no line"):
        plan_reading(files[:1], DataConfig())


def test_times_that_nanoseconds_cannot_hold_are_refused_and_do_not_wrap(tmp_path):
    """Spark and Impala write int96, which Arrow would read as nanoseconds from 1677 to 2262."""
    years = [datetime.datetime(year, 1, 1) for year in (2001, 2600, 1000)]
    columns = {"user_id": ["u"] * 3, "item_id": ["i"] * 3}
    columns["timestamp"] = pa.array(years, pa.timestamp("us"))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, use_deprecated_int96_timestamps=True)
    log = read_log(path)
    assert log.rows == [("u", "i", 978_307_200)]
    assert log.rejects == [(1, "timestamp_out_of_range"), (2, "timestamp_out_of_range")]


@pytest.mark.parametrize("kind", [pa.uuid(), pa.binary(16), pa.large_string(), pa.string_view()])
def test_ids_of_every_kind_of_text_are_read(tmp_path, kind):
    text = "01234567-89ab-cdef-0123-456789abcdef"
    value = text if pa.types.is_unicode(kind) or "string" in str(kind) else UUID(text).bytes
    columns = {name: pa.array([value, None], kind) for name in ("user_id", "item_id")}
    pq.write_table(pa.table({**columns, "timestamp": [1, 2]}), tmp_path / "a.parquet")
    assert read_log(tmp_path / "a.parquet").rows == [(text, text, 1)]


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_text_is_read_in_every_encoding(tmp_path, encoding):
    """Spark's and DuckDB's second version of parquet writes differences."""
    table = pa.table({"user_id": ["u", "v"], "item_id": ["i", "j"], "timestamp": [1, 2]})
    encodings = dict.fromkeys(["user_id", "item_id"], encoding)
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, use_dictionary=False, column_encoding=encodings)
    assert read_log(path).rows == [("u", "i", 1), ("v", "j", 2)]
