"""Parquet: positions over row groups, types of ids, files without rows."""

import pyarrow.parquet as pq
import pytest

from tests.logs_on_disk import read_log, write_parquet


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
