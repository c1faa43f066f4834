"""Rows of separated text: separators, quotes, headers, and what is wrong with them."""

import time

import pyarrow as pa
import pytest

from lightsans.config import ColumnsConfig
from lightsans.errors import ConfigError, InputError
from lightsans.reading import csv_files
from lightsans.reading.csv_files import CsvLayout, parse_stream
from lightsans.text.dialects import Dialect
from tests.logs_on_disk import (
    PLAIN,
    read_log,
    reading_fails,
    write_bytes,
    write_csv,
)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("separator", [",", "\t", "::", "||", "¦"])
def test_separators_may_be_of_several_characters(tmp_path, header, separator):
    path = write_csv(tmp_path / "a.csv", PLAIN, separator, header)
    columns = ColumnsConfig() if header else ColumnsConfig(user=0, item=1, timestamp=2)
    assert read_log(path, separator=separator, header=header, columns=columns).rows == PLAIN


def test_columns_are_found_by_name_or_position_and_others_ignored(tmp_path):
    text = b'when,"who",junk,what\n5,u,"a,b",i\n'
    path = write_bytes(tmp_path / "a.csv", text)
    by_name = ColumnsConfig(user="who", item="what", timestamp="when")
    assert read_log(path, columns=by_name).rows == [("u", "i", 5)]
    by_position = ColumnsConfig(user=1, item=3, timestamp=0, rating=None)
    assert read_log(path, columns=by_position).rows == [("u", "i", 5)]


def test_quotes_hold_separators_and_doubled_quotes(tmp_path):
    path = write_bytes(tmp_path / "a.csv", b'user_id,item_id,timestamp\n"a,b","say ""hi""",1\n')
    assert read_log(path).rows == [("a,b", 'say "hi"', 1)]
    path = write_bytes(tmp_path / "b.csv", b'user_id::item_id::timestamp\n"a::b"::\x1fc::1\n')
    assert read_log(path, separator="::").rows == [("a::b", "\x1fc", 1)]


def test_without_quote_char_quotes_are_plain_text(tmp_path):
    path = write_bytes(tmp_path / "a.csv", b'user_id,item_id,timestamp\n"a,5" disk,1\n')
    assert read_log(path, quote_char=None).rows == [('"a', '5" disk', 1)]


def test_values_that_span_lines_are_read_when_announced(tmp_path):
    text = b'user_id,item_id,timestamp\nu,"a\nb",1\nv\n"w\r\n","c",2\n'
    for name in ("a.csv", "a.csv.gz"):
        path = write_bytes(tmp_path / name, text)
        log = read_log(path, newlines_in_values=True)
        assert log.rows == [("u", "a\nb", 1), ("w\r\n", "c", 2)]
        assert log.order_keys == [0, 2]
        assert log.rejects == [(1, "wrong_number_of_fields")]
        many = write_bytes(tmp_path / f"many.{name}", text + text[26:] * 50)
        log = read_log(many, newlines_in_values=True, read_unit_bytes=64)
        assert len(log.rows) == 102
        assert log.order_keys == [3 * n + k for n in range(51) for k in (0, 2)]
        assert [position for position, _ in log.rejects] == [3 * n + 1 for n in range(51)]


def test_broken_rows_that_arrow_finds_ahead_are_told_once(monkeypatch):
    lists_of_broken = []

    def parse(source, layout, separator, block_bytes, broken, comments, name):
        lists_of_broken.append(broken)
        for value in (b"a", b"b", b""):
            yield {"user_id": pa.array([value])}

    monkeypatch.setattr(csv_files, "_parse", parse)
    layout = csv_files.CsvLayout(Dialect(",", '"'), 1, {"user_id": 0}, newlines_in_values=True)
    told, rows = [], csv_files.parse_stream(pa.BufferReader(b""), layout, 64, "a.csv")
    for piece in rows:
        told.append((piece.positions.tolist(), piece.broken))
        if len(told) == 1:  # the third row of the file, while the first is looked at
            lists_of_broken[0].append(2)
    assert told == [([0], []), ([1], [(2, "wrong_number_of_fields")]), ([], [])]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("lines", [b'u,"a\nb",1\nv,c,2\n', b'u,a,1\nv,"b,2\n', b'u,a,"1\n'])
def test_values_that_span_lines_unannounced_are_an_error(tmp_path, ending, lines):
    path = write_bytes(tmp_path / f"a.csv{ending}", b"user_id,item_id,timestamp\n" + lines)
    with pytest.raises(InputError, match=r"a quoted value spans lines") as caught:
        read_log(path)
    message = str(caught.value)
    assert str(path) in message
    assert ("bytes 26 to" if not ending else "from row 0") in message
    assert "data.newlines_in_values: true" in message
    assert "data.quote_char: null" in message


def test_a_quote_that_is_never_closed_swallows_no_rows_silently(tmp_path):
    text = b"user_id,item_id,timestamp\nu,a,1\n" + b'v,"b,2\n' + b"w,c,3\n" * 3
    path = write_bytes(tmp_path / "a.csv", text)
    with pytest.raises(InputError, match="never closed"):
        read_log(path, newlines_in_values=True)


def test_a_long_separator_and_values_over_lines_exclude_each_other():
    with pytest.raises(ConfigError, match=r"data.newlines_in_values needs a separator of one byte"):
        read_log([], separator="::", newlines_in_values=True)


def test_bad_rows_of_csv_are_refused_one_by_one(tmp_path):
    lines = [
        b"user_id,item_id,timestamp",
        b"good,i,1",
        b",i,1",
        b"u,,1",
        b"u,i,",
        b"u,i,soon",
        b"u,i,-5",
        b"u,i,99999999999999",
        b"u,i",
        b"u,i,1,2",
        b"\xff,i,1",
        b"u," + b"x" * 10_000 + b",1",
        b"last,j,2",
    ]
    log = read_log(write_bytes(tmp_path / "a.csv", b"\n".join(lines)))
    assert log.rows == [("good", "i", 1), ("last", "j", 2)]
    assert [reason for _, reason in log.rejects] == [
        "user_missing", "item_missing", "timestamp_missing", "timestamp_invalid",
        "timestamp_out_of_range", "timestamp_out_of_range", "wrong_number_of_fields",
        "wrong_number_of_fields", "not_utf8", "item_too_long",
    ]  # fmt: skip
    starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]
    assert [position for position, _ in log.rejects] == starts[2:12]


def test_a_late_id_of_letters_is_fine_as_text_and_refused_as_int64(tmp_path):
    path = write_csv(tmp_path / "a.csv", [(n, n, 1) for n in range(50)] + [("A12", 7, 2)])
    assert read_log(path, read_unit_bytes=100).rows[-1] == ("A12", "7", 2)
    log = read_log(path, user_id_type="int64", item_id_type="int64", read_unit_bytes=100)
    assert log.rows[-1] == (49, 49, 1)
    assert [reason for _, reason in log.rejects] == ["user_not_int"]


def test_a_file_of_only_a_header_has_no_rows(tmp_path):
    assert read_log(write_csv(tmp_path / "a.csv", [])).rows == []
    assert read_log(write_csv(tmp_path / "a.csv.gz", [])).rows == []
    assert read_log(write_csv(tmp_path / "b.csv", []), newlines_in_values=True).rows == []


def test_a_column_that_occurs_twice_is_an_error(tmp_path):
    path = write_bytes(tmp_path / "a.csv", b"user_id,user_id,item_id,timestamp\n")
    reading_fails(["'user_id' occurs twice", "data.columns.user"], path)


def test_a_first_line_that_is_a_row_is_no_header(tmp_path):
    positions = ColumnsConfig(user=0, item=1, timestamp=3, rating=2)
    for moment in ("881250949", "881250949000", "1997-12-04T15:55:49Z"):
        rows = f"196\t242\t3\t{moment}\n186\t302\t3\t1\n"
        path = write_bytes(tmp_path / "u.data", rows.encode())
        reading_fails([f"{moment!r} at position 3", "data.header: false"], path, columns=positions)
    for header in ("user,item,rating,when", "0,1,2,3"):  # names, or those that pandas gives
        path = write_bytes(tmp_path / "a.csv", f"{header}\nann,tea,3,20\n".encode())
        assert read_log(path, columns=positions).rows == [("ann", "tea", 20)]


@pytest.mark.parametrize("times", [1, 20_000])
def test_a_last_value_over_lines_needs_no_line_end_behind_it(tmp_path, times):
    rows = [("ann", "tea", 1), ("bob", "two\nlines", 2)] * times
    lines = [f'{user},"{item}",{time}' for user, item, time in rows]
    text = "\n".join(["user_id,item_id,timestamp", *lines])
    path = write_bytes(tmp_path / "a.csv", text.encode())
    for unit_bytes in (2**16, 2**25):
        log = read_log(path, newlines_in_values=True, read_unit_bytes=unit_bytes)
        assert log.rows == rows
        assert log.rejects == []


class Slow:
    """A stream without an end, whose first quote is never closed."""

    def __init__(self):
        self.num_read = 0

    def read(self, size):
        time.sleep(0.1)
        self.num_read += 1
        return b'"ann,tea,1\n' + b"bob,ham,2\n" * (size // 10)


def test_nothing_is_read_on_once_an_error_ends_the_reading():
    """Arrow's thread would hold up the end of the process, or for ever."""
    roles = {"user": 0, "item": 1, "timestamp": 2}
    layout, stream = CsvLayout(Dialect(",", '"'), 3, roles, True), Slow()
    with pytest.raises(InputError, match="never closed, perhaps"):
        list(parse_stream(stream, layout, 2**16, "a.csv"))
    num_read = stream.num_read
    time.sleep(0.5)
    assert stream.num_read == num_read
