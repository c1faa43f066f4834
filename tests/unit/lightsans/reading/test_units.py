"""Whole files through `plan_reading` and `read_unit`: every format, every kind of damage."""

import json
import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import ColumnsConfig, DataConfig, StorageConfig
from lightsans.errors import InputError
from lightsans.reading import units
from lightsans.reading.units import POSITION_BITS, describe_copies, plan_reading
from lightsans.storage.listing import list_files, list_inputs
from lightsans.storage.location import FileInfo, locate
from lightsans.storage.table_formats import TableRows, TableVersion
from tests.logs_on_disk import (
    PLAIN,
    read_log,
    reading_fails,
    write_bytes,
    write_csv,
    write_jsonl,
    write_parquet,
)


def test_small_files_share_a_read_unit(tmp_path):
    paths = [write_csv(tmp_path / f"{name}.csv", PLAIN[:1]) for name in "abc"]
    assert read_log(paths).num_units == 1
    assert read_log(paths, read_unit_bytes=1).num_units > 2


def test_a_read_unit_holds_no_more_files_than_a_task_should_ask_for(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "_MOST_FILES", 2)
    paths = [write_csv(tmp_path / f"{name}.csv", PLAIN[:1]) for name in "abcde"]
    assert read_log(paths).num_units == 3


def test_byte_order_mark_crlf_and_blank_lines_are_no_rows(tmp_path):
    text = b"\xef\xbb\xbf\r\nuser_id,item_id,timestamp\r\n\r\nu,i,1\r\n\n\r\nv,j,2"
    for name in ("a.csv", "a.csv.gz"):
        assert read_log(write_bytes(tmp_path / name, text)).rows == [("u", "i", 1), ("v", "j", 2)]
    lines = b'\xef\xbb\xbf{"user_id":"u","item_id":"i","timestamp":1}\r\n\r\n  \n'
    assert read_log(write_bytes(tmp_path / "a.jsonl", lines)).rows == [("u", "i", 1)]
    headless = write_bytes(tmp_path / "b.csv", b"\xef\xbb\xbfu,i,1\n")
    columns = ColumnsConfig(user=0, item=1, timestamp=2)
    assert read_log(headless, header=False, columns=columns).rows == [("u", "i", 1)]


def test_positions_are_byte_offsets_in_plain_text_and_row_numbers_elsewhere(tmp_path):
    text = b"user_id,item_id,timestamp\nu,i,1\n\nv,j\nw,k,3\n"
    for unit_bytes in (1, 1000):
        plain = read_log(write_bytes(tmp_path / "a.csv", text), read_unit_bytes=unit_bytes)
        assert plain.order_keys == [26, 37]
        assert plain.rejects == [(33, "wrong_number_of_fields")]
        zipped = read_log(write_bytes(tmp_path / "a.csv.gz", text), read_unit_bytes=unit_bytes)
        assert zipped.order_keys == [0, 2]
        assert zipped.rejects == [(1, "wrong_number_of_fields")]


def test_files_are_read_in_the_order_given_and_order_keys_say_so(tmp_path):
    b = write_csv(tmp_path / "b.csv", [("u", "i", 1)])
    a = write_csv(tmp_path / "a.csv", [("v", "j", 1)])
    listed = read_log([b, a])
    assert [row[0] for row in listed.rows] == ["u", "v"]
    assert [key >> POSITION_BITS for key in listed.order_keys] == [0, 1]
    assert [row[0] for row in read_log(tmp_path).rows] == ["v", "u"]


def test_an_id_of_ten_kilobytes_is_read_where_it_may_be_that_long(tmp_path):
    path = write_csv(tmp_path / "a.csv", [("u", "x" * 10_000, 1)])
    assert read_log(path, max_id_bytes=10_000, read_unit_bytes=100).rows[0][1] == "x" * 10_000


def test_an_empty_file_is_named(tmp_path):
    for name in ("a.csv", "a.jsonl", "a.parquet", "a.inter", "b.csv.gz"):
        (tmp_path / name).touch()
        reading_fails([str(tmp_path / name), "empty"], tmp_path / name)
    reading_fails(["holds no line"], write_bytes(tmp_path / "c.csv.gz", b"\n\r\n"))


def test_a_missing_column_is_named_with_what_there_is(tmp_path):
    text = b"userid,item_id,timestamp\nu,i,1\n"
    path = write_bytes(tmp_path / "a.csv", text)
    reading_fails([str(path), "no column 'user_id'", "'userid', 'item_id', 'timestamp'",
            "did you mean 'userid'?", "data.columns.user"], path)  # fmt: skip
    reading_fails(["data.separator"], path, separator=";")
    reading_fails(["no column 'rating'", "data.columns.rating"], path, min_rating=3.0,
           columns=ColumnsConfig(user="userid"))  # fmt: skip
    reading_fails(["no column 3"], path, columns=ColumnsConfig(user="userid", item=3))
    reading_fails(["no column 'item_id'"], write_bytes(tmp_path / "a.jsonl", b'{"user_id": 1}\n'))
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "a.parquet")
    reading_fails(["no column 'item_id'", "found 'user_id'"], tmp_path / "a.parquet")


def test_text_that_is_no_text_is_named(tmp_path):
    reading_fails(
        ["none of the first lines is a JSON object"], write_bytes(tmp_path / "a.json", b"[1,\n2]")
    )
    for begin, words in [
        (b"ORC", "ORC"), (b"Obj\x01", "Avro"), (b"SQLite format 3\0", "SQLite"),
        (b"<!DOCTYPE html>", "web page"), (b"version https://git-lfs.github.com", "git lfs pull"),
    ]:  # fmt: skip
        reading_fails([words], write_bytes(tmp_path / "b.csv", begin + b" more\n" * 9))


def test_ids_of_different_types_name_both_files_and_the_setting(tmp_path):
    numbers = write_parquet(tmp_path / "a.parquet", [(7, "x", 1)])
    text = write_parquet(tmp_path / "b.parquet", [("u", "x", 1)])
    reading_fails(
        [str(numbers), "int64", str(text), "string", "data.user_id_type"], [numbers, text]
    )
    csv = write_csv(tmp_path / "c.csv", [(7, "x", 1)])
    reading_fails(["int64", "string", "data.user_id_type"], [numbers, csv])
    assert len(read_log([numbers, text, csv], user_id_type="string").rows) == 3


def test_ids_in_columns_of_doubles_are_whole_numbers(tmp_path):
    """pandas makes doubles of integers with gaps."""
    path = write_parquet(tmp_path / "a.parquet", [(7.0, "x", 1), (None, "x", 2), (7.5, "x", 3)])
    assert read_log(path).rows == [(7, "x", 1)]
    assert read_log(path).rejects == [(1, "user_missing"), (2, "user_not_whole")]
    assert read_log(path, user_id_type="string").rows == [("7", "x", 1)]
    lines = write_jsonl(tmp_path / "a.jsonl", [(12345678901.0, "x", 1), (7.5, "x", 1)])
    assert read_log(lines).rows == [(12345678901, "x", 1)]
    assert read_log(lines, user_id_type="string").rows == [("12345678901", "x", 1)]


def test_a_rating_column_of_an_unusable_type_matters_only_when_needed(tmp_path):
    columns = {"user_id": ["u"], "item_id": ["i"], "timestamp": [1], "rating": [[5]]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read_log(tmp_path / "a.parquet").rows == [("u", "i", 1)]
    reading_fails(["'rating'", "data.columns.rating"], tmp_path / "a.parquet", min_rating=3.0)
    line = json.dumps({"user_id": "u", "item_id": "i", "timestamp": 1, "rating": {"stars": 5}})
    path = write_bytes(tmp_path / "a.jsonl", line.encode())
    assert read_log(path).rows == [("u", "i", 1)]
    reading_fails(["'rating'", "data.columns.rating"], path, min_rating=3.0)


def test_a_file_that_vanished_is_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/a.csv: no such file")):
        read_log(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no file matches"):
        read_log(tmp_path / "*.csv")


def test_copies_are_looked_for_among_files_with_rows_whose_directories_name_no_column(tmp_path):
    for user in ("u", "v"):
        path = tmp_path / "log" / f"who={user}" / "a.csv"
        path.parent.mkdir(parents=True)
        path.write_text("item_id,timestamp\ni,1\n")
    listing = list_inputs([str(tmp_path / "log")], StorageConfig())
    assert plan_reading(listing.files, DataConfig(columns=ColumnsConfig(user="who"))).alike() == []
    for name, count in (("a.csv", 50_000), ("b.csv", 50_000), ("c.csv", 0)):
        write_csv(tmp_path / name, [("u", "i", 1)] * count)
    listing = list_inputs([f"{tmp_path}/*.csv"], StorageConfig())
    alike = plan_reading(listing.files, DataConfig(read_unit_bytes=100_000)).alike()
    assert [file.location.name for file in alike] == ["a.csv", "b.csv"]


def test_copies_of_files_are_told_and_files_that_are_as_large_are_not(tmp_path):
    rows = "user_id,item_id,timestamp\n" + "u,i,1\n" * 30_000
    (tmp_path / "day").mkdir()
    for name in ("a.csv", "b.csv", "day/a (1).csv"):
        (tmp_path / name).write_text(rows)
    (tmp_path / "c.csv").write_text(rows[:-2] + "2\n")
    files = list_files(str(tmp_path), StorageConfig())
    said = describe_copies(files, "data.input") or ""
    assert "b.csv has the content of" in said
    assert "a.csv (and 1 more)" in said
    others = [file for file in files if file.location.name in ("a.csv", "c.csv")]
    assert describe_copies(others, "data.input") is None
    pinned = TableRows(TableVersion(kind="delta", uri="t", version=1), 1, None)
    assert describe_copies([replace(file, rows=pinned) for file in files], "x") is None


def test_copies_on_a_store_are_told_by_size_and_etag():
    files = [
        FileInfo(locate(f"memory://copies/{n}", StorageConfig()), 5, "ab"[n % 2]) for n in range(3)
    ]
    assert "memory://copies/2 has the content of" in (describe_copies(files, "x") or "")
    assert describe_copies(files[:2], "x") is None
