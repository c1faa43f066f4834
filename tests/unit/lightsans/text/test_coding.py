"""Text files as they are stored: compressions, encodings, JSON over lines, and files that lie."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import ColumnsConfig
from lightsans.text.coding import likely_encodings
from tests.logs_on_disk import read_log, reading_fails, write_bytes

TEXT = "user_id,item_id,timestamp\nü1,i1,10\n张三,i2,20\n"
ROWS = [("ü1", "i1", 10), ("张三", "i2", 20)]


def zipped(*members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return content.getvalue()


PACKED = {
    "gzip": gzip.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "zip": zipped(("logs/", ""), ("logs/a.csv", TEXT), ("__MACOSX/._a.csv", "x")),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.bz2", "part-00000", "a.txt"])
def test_a_compression_is_recognised_whatever_the_name(tmp_path, kind, name):
    (tmp_path / name).write_bytes(PACKED[kind])
    assert read_log(tmp_path / name, read_unit_bytes=20).rows == ROWS


def test_text_that_is_named_as_compressed_is_read_as_text(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(TEXT.encode())
    assert read_log(tmp_path / "a.csv.gz").rows == ROWS


@pytest.mark.parametrize("name", ["part-0", "a.csv", "a.json"])
def test_parquet_is_recognised_whatever_the_name(tmp_path, name):
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [5]})
    pq.write_table(table, tmp_path / name)
    assert read_log(tmp_path / name).rows == [("u", "i", 5)]


def test_an_archive_of_several_files_names_them(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(("a.csv", TEXT), ("b.csv", TEXT)))
    reading_fails(["expected one file", "'a.csv', 'b.csv'", "unpack"], tmp_path / "a.zip")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    assert read_log(tmp_path / "a.csv", read_unit_bytes=20).rows == ROWS


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16-le", "utf-8"])
def test_other_encodings_are_a_setting(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    log = read_log(tmp_path / "a.csv", encoding=encoding)
    assert log.rows == ROWS
    assert log.rejects == []


@pytest.mark.parametrize(
    ("users", "encoding"),
    [(["Zoë", "José", "Åsa"], "latin-1"), (["张三", "李四", "王五"], "gb18030")],
)
def test_text_in_another_encoding_names_the_place_and_a_likely_one(tmp_path, users, encoding):
    lines = "user_id,item_id,timestamp\n" + "".join(f"{user},i,1\n" for user in users)
    (tmp_path / "a.csv").write_bytes(lines.encode(encoding))
    reading_fails(["is not utf-8: byte", "data.encoding", encoding], tmp_path / "a.csv")
    assert likely_encodings(lines.encode(encoding))[0] == encoding
    assert [row[0] for row in read_log(tmp_path / "a.csv", encoding=encoding).rows] == users


def test_a_header_in_another_encoding_is_told_as_that(tmp_path):
    (tmp_path / "a.csv").write_bytes("用户,商品,时间\nu,i,1\n".encode("gb18030"))
    reading_fails(["not utf-8: byte 0", "gb18030"], tmp_path / "a.csv")


def test_bytes_that_the_encoding_does_not_have_refuse_their_row_alone(tmp_path):
    content = "user_id,item_id,timestamp\n张,i,1\n".encode("gb18030") + b"\xff,i,2\nv,i,3\n"
    log = read_log(write_bytes(tmp_path / "a.csv", content), encoding="gb18030")
    assert [row[0] for row in log.rows] == ["张", "v"]
    assert log.rejects == [(1, "not_utf8")]


RECORDS = [
    {"user_id": f"u{n}", "item_id": f"[{n}]{{", "timestamp": n, "more": {"a": [n, "\n"]}}
    for n in range(50)
]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl.gz", "export"])
def test_arrays_and_objects_over_lines_are_read_as_json_lines(tmp_path, indent, name):
    expected = [(f"u{n}", f"[{n}]{{", n) for n in range(50)]
    array = json.dumps(RECORDS, indent=indent).encode()
    assert read_log(write_bytes(tmp_path / name, array)).rows == expected
    objects = "\n".join(json.dumps(record, indent=indent) for record in RECORDS).encode()
    assert read_log(write_bytes(tmp_path / name, objects)).rows == expected


def test_an_array_that_breaks_off_names_the_place(tmp_path):
    array = json.dumps(RECORDS).encode()[:-30]
    reading_fails(["not readable as JSON from character"], write_bytes(tmp_path / "a.json", array))


def test_the_format_goes_by_content_where_the_name_says_something_else(tmp_path):
    line = b'{"user_id": "u", "item_id": "i", "timestamp": 1}\n'
    assert read_log(write_bytes(tmp_path / "a.csv", line)).rows == [("u", "i", 1)]
    table = b"user_id,item_id,timestamp\nu,i,1\n"
    assert read_log(write_bytes(tmp_path / "a.json", table)).rows == [("u", "i", 1)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_text_that_is_named_as_parquet_is_read_as_text(tmp_path, pack):
    (tmp_path / "a.parquet").write_bytes(pack(TEXT.encode()))
    assert read_log(tmp_path / "a.parquet").rows == ROWS
    reading_fails(["not readable as parquet"], tmp_path / "a.parquet", format="parquet")


def test_what_systems_leave_in_an_archive_is_no_second_file(tmp_path):
    members = [(".DS_Store", "x"), ("a.csv", TEXT), ("README.txt", "x"), ("_SUCCESS", "")]
    (tmp_path / "a.zip").write_bytes(zipped(*members))
    assert read_log(tmp_path / "a.zip").rows == ROWS
    (tmp_path / "b.zip").write_bytes(zipped((".a.csv", TEXT)))
    assert read_log(tmp_path / "b.zip").rows == ROWS
    (tmp_path / "c.zip").write_bytes(zipped())
    reading_fails(["expected one file in the archive, found nothing"], tmp_path / "c.zip")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_told_as_that(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    reading_fails(["the text is not utf-8", "data.encoding", encoding], tmp_path / "a.csv")
    columns = ColumnsConfig(user=0, item=1, timestamp=2)
    rows = TEXT.partition("\n")[2].encode(encoding)
    (tmp_path / "b.csv").write_bytes(rows)
    reading_fails([encoding], tmp_path / "b.csv", header=False, columns=columns)


PARQUET = io.BytesIO()
pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [5]}), PARQUET)
FOREIGN = {
    "a.pkl": (pickle.dumps({"user_id": [1]}), "a pickle of Python"),
    "a.npy": (b"\x93NUMPY\x01\0v\0{'descr'", "a NumPy array"),
    "a.h5": (b"\x89HDF\r\n\x1a\n\0\0", "in the HDF5 format"),
    "a.rds": (gzip.compress(b"X\n\0\0\0\x02\0"), "saved by R"),
    "a.7z": (b"7z\xbc\xaf\x27\x1c\0\0", "a 7z archive"),
    "a.rar": (b"Rar!\x1a\x07\0", "a RAR archive"),
    "a.csv.snappy": (b"\xff\x06\0\0sNaPpY\0", "compressed by snappy"),
    "a.parquet.gz": (gzip.compress(PARQUET.getvalue()), "parquet that was compressed as a whole"),
    "a.parquet": (b"Obj\x01\x04\x14avro.codec", "in the Avro format"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_are_no_text_are_told_by_their_kind(tmp_path, name):
    content, kind = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    reading_fails([name, f"the file is {kind}"], tmp_path / name)


@pytest.mark.parametrize("between", ["", " ", ",", ",\n", " , "])
def test_objects_on_one_line_and_with_commas_between_are_rows(tmp_path, between):
    text = between.join(json.dumps(record) for record in RECORDS[:4])
    rows = [(f"u{n}", f"[{n}]{{", n) for n in range(4)]
    assert read_log(write_bytes(tmp_path / "a.json", text.encode())).rows == rows


@pytest.mark.parametrize(
    "content",
    [gzip.compress(gzip.compress(TEXT.encode())), gzip.compress(bz2.compress(TEXT.encode()))],
    ids=["gzip", "bz2"],  # gzip writes the time, which is another one in another process
)
def test_what_is_compressed_twice_is_told(tmp_path, content):
    (tmp_path / "a.csv.gz").write_bytes(content)
    reading_fails(["a.csv.gz", "compressed twice"], tmp_path / "a.csv.gz")


def test_lzma_of_before_xz_is_told(tmp_path):
    (tmp_path / "a").write_bytes(lzma.compress(TEXT.encode(), format=lzma.FORMAT_ALONE))
    reading_fails(["LZMA as it was before xz", "gzip"], tmp_path / "a")


@pytest.mark.parametrize("header", [True, False])
def test_the_mark_of_utf_8_wins_over_another_encoding(tmp_path, header):
    columns = ColumnsConfig() if header else ColumnsConfig(user=0, item=1, timestamp=2)
    text = ("user_id,item_id,timestamp\n" if header else "") + "ü,é,1\n"
    path = write_bytes(tmp_path / "a.csv", text.encode("utf-8-sig"))
    log = read_log(path, encoding="latin-1", header=header, columns=columns)
    assert log.rows == [("ü", "é", 1)]


def test_text_that_is_no_utf_16_is_told_as_that(tmp_path):
    reading_fails(
        ["not readable as utf-16", "data.encoding"],
        write_bytes(tmp_path / "a.csv", TEXT.encode()),
        encoding="utf-16",
    )


def test_an_archive_of_another_method_is_told(tmp_path):
    content = bytearray(zipped(("a.csv", TEXT)))
    for header, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.find(header) + at] = 9  # Deflate64
    path = write_bytes(tmp_path / "a.zip", bytes(content))
    reading_fails(["a.zip", "Deflate64", "unpack it"], path)


@pytest.mark.parametrize("end", ["", ",", ",\n", "\n"])
def test_an_array_that_is_cut_off_between_two_objects_is_told(tmp_path, end):
    objects = ",\n".join(json.dumps(record) for record in RECORDS[:4])
    path = write_bytes(tmp_path / "a.json", f"[{objects}{end}".encode())
    reading_fails(["a.json", "an array is not closed", "cut off"], path)
    assert len(read_log(write_bytes(path, f"[{objects}{end}]\n[]".encode())).rows) == 4
