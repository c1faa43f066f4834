"""Pieces of text files."""

import gzip

import pytest

from lightsans.errors import InputError
from lightsans.text.pieces import read_lines
from tests.factories import local
from tests.logs_on_disk import (
    PLAIN,
    ROWS,
    read_log,
    reading_fails,
    write_bytes,
    write_csv,
    write_jsonl,
)


def test_fewer_bytes_than_planned_are_an_error_that_names_the_file(tmp_path):
    path = write_bytes(tmp_path / "log.csv", b"a,b\n" * 10)
    location = local(path)
    with pytest.raises(InputError, match=r"log\.csv: the file became shorter"):
        read_lines(location, 0, 60, 0, 60)


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


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(
        gzip.compress(b"user_id,item_id,timestamp\nu,i,1\n") + gzip.compress(b"v,j,2\n")
    )
    assert read_log(path).rows == [("u", "i", 1), ("v", "j", 2)]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".lz4"])
def test_a_truncated_file_is_named(tmp_path, ending):
    rows = [(f"u{n * n}", n, n) for n in range(5000)]
    path = write_csv(tmp_path / f"a.csv{ending}", rows)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    reading_fails([str(path), "damaged or cut off", "Truncated"], path)
    path.write_bytes(b"\x80 no text, and not compressed" * 10)
    reading_fails([str(path), "damaged or cut off"], path)


def test_a_line_without_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("lightsans.text.pieces.MAX_LINE_BYTES", 1000)
    text = b"user_id,item_id,timestamp\nu,i,1\n" + b"x" * 200_000
    for name in ("a.csv", "a.csv.gz"):
        path = write_bytes(tmp_path / name, text)
        reading_fails([str(path), "a line is longer than 1,000 bytes"], path, read_unit_bytes=30)
