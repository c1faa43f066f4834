"""Search for the ids of users in tables and in text."""

import gzip
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import StorageConfig
from lightsans.lists.id_lists import id_list_of
from lightsans.lists.id_search import IdSearch
from lightsans.storage.location import locate


def search(*ids: str) -> IdSearch:
    return IdSearch(id_list_of("--users", locate("users.txt", StorageConfig()), pa.array(ids)))


def parquet(table: pa.Table) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file)
    return io.BytesIO(file.getvalue())


USERS = [
    pa.array(["ann", "7"]),
    pa.array(["ann", "7"]).dictionary_encode(),
    pa.array([b"ann", b"7"]),
    pa.array([["ann"], ["7"]]),
    pa.array([{"id": "ann"}, {"id": "7"}]),
]


@pytest.mark.parametrize("column", USERS, ids=lambda column: str(column.type))
def test_short_ids_are_found_whole_in_columns_of_users_of_every_type(column):
    table = pa.table({"user_id": column, "item_id": pa.array(["x", "y"])})
    assert search("ann", "7", "8", "an").in_file(parquet(table)) == {"ann", "7"}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3)])
def test_ids_are_found_beside_bytes_that_are_no_text(kind):
    column = pa.array([b"\xff\xfe\xfd", b"ann"], kind)
    assert search("ann").in_column("user_id", column) == {"ann"}


def test_integers_are_found_in_columns_of_users_and_long_ones_in_columns_of_unknown_names():
    table = pa.table({"user_id": [7, 8], "item_id": [123456789012, 9], "other": [9, 987654321098]})
    found = search("7", "9", "123456789012", "987654321098").in_file(parquet(table))
    assert found == {"7", "987654321098"}


def test_integers_of_64_bits_without_a_sign_are_compared_by_value():
    column = pa.array(np.array([7, 2**64 - 1], np.uint64))
    assert search("7", "-1").in_column("user_id", column) == {"7"}


def test_other_columns_and_the_footer_are_text():
    table = pa.table({"values": [json.dumps({"user": "erased-1"})]})
    table = table.replace_schema_metadata({"note": "of erased-2"})
    assert search("erased-1", "erased-2").in_file(parquet(table)) == {"erased-1", "erased-2"}


TEXTS = {
    "by itself": (b"of erased-1.", True),
    "quoted": (b'"erased-1"', True),
    "at the end": (b"erased-1", True),
    "the beginning of another": (b"erased-12", False),
    "joined": (b"erased-1-2", False),
    "the end of another": (b"x-erased-1", False),
    "in an address": (b"erased-1@example.org", False),
}


@pytest.mark.parametrize(("text", "is_found"), TEXTS.values(), ids=TEXTS)
def test_an_id_is_found_in_text_where_it_stands_by_itself(text, is_found):
    assert search("erased-1").in_text(text) == ({"erased-1"} if is_found else set())


def test_an_id_is_found_as_json_html_and_addresses_write_it():
    looked_for = search("zoë & <co>")
    for text in ('"zo\\u00eb & <co>"', "zoë &amp; &lt;co&gt;", "/zo%C3%AB%20%26%20%3Cco%3E/"):
        assert looked_for.in_text(text.encode()) == {"zoë & <co>"}, text


def test_short_ids_and_numbers_are_not_looked_for_in_text():
    looked_for = search("ann", "20261127", "202611271")
    assert looked_for.in_text(b"ann 20261127 202611271") == {"202611271"}
    assert looked_for.num_short == 2


def test_compressed_files_and_archives_are_looked_into():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a", b"x" * 1000 + b" erased-1")
    zstd = pa.BufferOutputStream()
    with pa.CompressedOutputStream(zstd, "zstd") as stream:
        stream.write(b"x" * 1000 + b" erased-1")
    for content in (archive.getvalue(), zstd.getvalue().to_pybytes(), gzip.compress(b"erased-1")):
        assert search("erased-1").in_file(io.BytesIO(content)) == {"erased-1"}


def test_an_id_across_two_blocks_is_found(monkeypatch):
    monkeypatch.setattr("lightsans.lists.id_search._BLOCK", 7)
    assert search("erased-1").in_file(io.BytesIO(b"abcde erased-1 fgh")) == {"erased-1"}


def test_ids_in_text_are_replaced():
    looked_for = search("erased-1", "erased-1b")
    text = b"erased-1 erased-1b erased-1c erased-1"
    assert looked_for.without(text, b"[gone]") == b"[gone] [gone] erased-1c [gone]"
