"""Whole files through `plan_reading` and `read_unit`: every format, every kind of damage."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import ColumnsConfig
from lightsans.errors import ConfigError, InputError
from lightsans.reading.units import POSITION_BITS
from tests.logs_on_disk import read_log, write_bytes, write_csv, write_jsonl, write_parquet

ROWS = [("u1", "i1", 10), ("u2", "i,2", 20), ("ü3", "i3", 30.25), ("007", "i1", 20)]
PLAIN = [(user, item.replace(",", ";"), time) for user, item, time in ROWS]


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".zst", ".lz4"])
@pytest.mark.parametrize("unit_bytes", [1, 17, 2**20])
def test_text_is_read_alike_whatever_its_compression_and_pieces(tmp_path, ending, unit_bytes):
    csv = write_csv(tmp_path / f"a.csv{ending}", PLAIN)
    assert read_log(csv, read_unit_bytes=unit_bytes).rows == PLAIN
    jsonl = write_jsonl(tmp_path / f"a.jsonl{ending}", ROWS)
    assert read_log(jsonl, read_unit_bytes=unit_bytes).rows == ROWS


def test_uncompressed_text_is_cut_and_compressed_text_is_not(tmp_path):
    assert read_log(write_csv(tmp_path / "a.csv", PLAIN), read_unit_bytes=20).num_units > 1
    assert read_log(write_csv(tmp_path / "a.csv.gz", PLAIN), read_unit_bytes=20).num_units == 1


def test_small_files_share_a_read_unit(tmp_path):
    paths = [write_csv(tmp_path / f"{name}.csv", PLAIN[:1]) for name in "abc"]
    assert read_log(paths).num_units == 1
    assert read_log(paths, read_unit_bytes=1).num_units > 2


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(
        gzip.compress(b"user_id,item_id,timestamp\nu,i,1\n") + gzip.compress(b"v,j,2\n")
    )
    assert read_log(path).rows == [("u", "i", 1), ("v", "j", 2)]


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


def test_byte_order_mark_crlf_and_blank_lines_are_no_rows(tmp_path):
    text = b"\xef\xbb\xbf\r\nuser_id,item_id,timestamp\r\n\r\nu,i,1\r\n\n\r\nv,j,2"
    for name in ("a.csv", "a.csv.gz"):
        assert read_log(write_bytes(tmp_path / name, text)).rows == [("u", "i", 1), ("v", "j", 2)]
    lines = b'\xef\xbb\xbf{"user_id":"u","item_id":"i","timestamp":1}\r\n\r\n  \n'
    assert read_log(write_bytes(tmp_path / "a.jsonl", lines)).rows == [("u", "i", 1)]
    headless = write_bytes(tmp_path / "b.csv", b"\xef\xbb\xbfu,i,1\n")
    columns = ColumnsConfig(user=0, item=1, timestamp=2)
    assert read_log(headless, header=False, columns=columns).rows == [("u", "i", 1)]


def test_inter_files_have_typed_headers_tabs_and_plain_quotes(tmp_path):
    text = b'rating:float\titem_id:token\tuser_id:token\ttimestamp:float\n5\t"i,1\t007\t1e1\n'
    assert read_log(write_bytes(tmp_path / "a.inter", text)).rows == [("007", '"i,1', 10)]


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


def test_an_id_of_ten_kilobytes_is_read_where_it_may_be_that_long(tmp_path):
    path = write_csv(tmp_path / "a.csv", [("u", "x" * 10_000, 1)])
    assert read_log(path, max_id_bytes=10_000, read_unit_bytes=100).rows[0][1] == "x" * 10_000


def test_a_late_id_of_letters_is_fine_as_text_and_refused_as_int64(tmp_path):
    path = write_csv(tmp_path / "a.csv", [(n, n, 1) for n in range(50)] + [("A12", 7, 2)])
    assert read_log(path, read_unit_bytes=100).rows[-1] == ("A12", "7", 2)
    log = read_log(path, user_id_type="int64", item_id_type="int64", read_unit_bytes=100)
    assert log.rows[-1] == (49, 49, 1)
    assert [reason for _, reason in log.rejects] == ["user_not_int"]


def raises(message, paths, **settings):
    """Reading fails with a message that has all the words in it."""
    with pytest.raises(InputError) as caught:
        read_log(paths, **settings)
    for part in message:
        assert part in str(caught.value), str(caught.value)


def test_an_empty_file_is_named(tmp_path):
    for name in ("a.csv", "a.jsonl", "a.parquet", "a.inter", "b.csv.gz"):
        (tmp_path / name).touch()
        raises([str(tmp_path / name), "empty"], tmp_path / name)
    raises(["holds no line"], write_bytes(tmp_path / "c.csv.gz", b"\n\r\n"))


def test_a_file_of_only_a_header_has_no_rows(tmp_path):
    assert read_log(write_csv(tmp_path / "a.csv", [])).rows == []
    assert read_log(write_csv(tmp_path / "a.csv.gz", [])).rows == []
    assert read_log(write_csv(tmp_path / "b.csv", []), newlines_in_values=True).rows == []


def test_a_missing_column_is_named_with_what_there_is(tmp_path):
    text = b"userid,item_id,timestamp\nu,i,1\n"
    path = write_bytes(tmp_path / "a.csv", text)
    raises([str(path), "no column 'user_id'", "'userid', 'item_id', 'timestamp'",
            "did you mean 'userid'?", "data.columns.user"], path)  # fmt: skip
    raises(["data.separator"], path, separator=";")
    raises(["no column 'rating'", "data.columns.rating"], path, min_rating=3.0,
           columns=ColumnsConfig(user="userid"))  # fmt: skip
    raises(["no column 3"], path, columns=ColumnsConfig(user="userid", item=3))
    raises(["no column 'item_id'"], write_bytes(tmp_path / "a.jsonl", b'{"user_id": 1}\n'))
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "a.parquet")
    raises(["no column 'item_id'", "found 'user_id'"], tmp_path / "a.parquet")


def test_a_column_that_occurs_twice_is_an_error(tmp_path):
    path = write_bytes(tmp_path / "a.csv", b"user_id,user_id,item_id,timestamp\n")
    raises(["'user_id' occurs twice", "data.columns.user"], path)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".lz4"])
def test_a_truncated_file_is_named(tmp_path, ending):
    rows = [(f"u{n * n}", n, n) for n in range(5000)]
    path = write_csv(tmp_path / f"a.csv{ending}", rows)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    raises([str(path), "damaged or cut off", "Truncated"], path)
    path.write_bytes(b"not compressed at all, but named so" * 10)
    raises([str(path), "damaged or cut off"], path)


def test_a_truncated_or_damaged_parquet_file_is_named(tmp_path):
    rows = [(f"u{n * n}", n, n) for n in range(5000)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    raises([str(path), "not readable as parquet"], path)
    path.write_bytes(content[:100] + bytes(2000) + content[2100:])  # the footer is whole
    raises([str(path)], path)


def test_text_that_is_no_text_is_named(tmp_path):
    raises(["UTF-16"], write_bytes(tmp_path / "a.csv", "user_id,item_id".encode("utf-16")))
    raises(
        ["none of the first lines is a JSON object"], write_bytes(tmp_path / "a.json", b"[1,\n2]")
    )
    raises(["does not tell the format", "data.format"], write_bytes(tmp_path / "a.dat", b"x"))


def test_a_line_without_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("lightsans.reading.text_pieces.MAX_LINE_BYTES", 1000)
    text = b"user_id,item_id,timestamp\nu,i,1\n" + b"x" * 200_000
    for name in ("a.csv", "a.csv.gz"):
        path = write_bytes(tmp_path / name, text)
        raises([str(path), "a line is longer than 1,000 bytes"], path, read_unit_bytes=30)


def test_ids_of_different_types_name_both_files_and_the_setting(tmp_path):
    numbers = write_parquet(tmp_path / "a.parquet", [(7, "x", 1)])
    text = write_parquet(tmp_path / "b.parquet", [("u", "x", 1)])
    raises([str(numbers), "int64", str(text), "string", "data.user_id_type"], [numbers, text])
    csv = write_csv(tmp_path / "c.csv", [(7, "x", 1)])
    raises(["int64", "string", "data.user_id_type"], [numbers, csv])
    assert len(read_log([numbers, text, csv], user_id_type="string").rows) == 3


def test_float_ids_need_a_decision(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [(7.0, "x", 1), (None, "x", 2), (7.5, "x", 3)])
    raises([str(path), "'user_id'", "double", "data.user_id_type", "int64"], path)
    assert read_log(path, user_id_type="int64").rows == [(7, "x", 1)]
    assert read_log(path, user_id_type="string").rows == [("7", "x", 1), ("7.5", "x", 3)]
    raises(["double", "data.user_id_type"], write_jsonl(tmp_path / "a.jsonl", [(7.5, "x", 1)]))


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
    raises([repr(column), str(kind).split("<")[0], f"data.columns.{role}"], tmp_path / "a.parquet")


def test_a_rating_column_of_an_unusable_type_matters_only_when_needed(tmp_path):
    columns = {"user_id": ["u"], "item_id": ["i"], "timestamp": [1], "rating": [[5]]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read_log(tmp_path / "a.parquet").rows == [("u", "i", 1)]
    raises(["'rating'", "data.columns.rating"], tmp_path / "a.parquet", min_rating=3.0)
    line = json.dumps({"user_id": "u", "item_id": "i", "timestamp": 1, "rating": {"stars": 5}})
    path = write_bytes(tmp_path / "a.jsonl", line.encode())
    assert read_log(path).rows == [("u", "i", 1)]
    raises(["'rating'", "data.columns.rating"], path, min_rating=3.0)


def test_a_file_that_vanished_is_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/a.csv: no such file")):
        read_log(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no file matches"):
        read_log(tmp_path / "*.csv")
