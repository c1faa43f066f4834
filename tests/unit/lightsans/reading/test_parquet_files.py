"""Parquet: positions over row groups, types of ids, files without rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
        ("user_id", 7, pa.decimal128(10, 2)),
        ("item_id", True, pa.bool_()),
        ("item_id", ["a"], pa.list_(pa.string())),
        ("timestamp", True, pa.bool_()),
        ("timestamp", 5, pa.decimal128(10, 2)),
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
