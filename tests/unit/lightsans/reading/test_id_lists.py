"""Lists of ids in every form that people keep them in."""

import bz2
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.reading.id_lists import IdTable, describe_found, read_id_list
from tests.factories import local

STORAGE = StorageConfig()


def read(path, column="user_id"):
    return read_id_list("data.exclude_users", str(path), STORAGE, column, "data.columns.user")


TEXTS = {
    "list.txt": "007\n1e3\n\n42\n42\n",
    "list": "007\r\n1e3\r\n42",
    "bom.txt": "\ufeff007\n1e3\n42\n",
    "plain.csv": "user_id,reason\n007,x\n1e3,y\n42,z\n,none\n",
    "quoted.csv": '"user_id","reason"\n"007","a, b"\n"1e3","two\nlines"\n"42",""\n',
    "bom.csv": '\ufeff"user_id","reason"\n"007",x\n1e3,y\n42,z\n',
    "semicolons.csv": '"reason";"user_id"\nx;"007"\ny;1e3\nz;42\n',
    "UPPER.CSV": "user_id\n007\n1e3\n42\n",
    "tabs.tsv": "reason\tuser_id\nx\t007\ny\t1e3\nz\t42\n",
    "typed.user": "user_id:token\tage:float\n007\t1\n1e3\t2\n42\t3\n",
    "lines.jsonl": '{"user_id": "007"}\n{"user_id": "1e3", "x": 1}\n\n{"user_id": 42}\n{"x": 2}\n',
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)]
)
def test_ids_stay_text_in_every_form(tmp_path, name, ending, pack):
    content = TEXTS[name].encode()
    (tmp_path / f"{name}{ending}").write_bytes(pack(content))
    listed = read(tmp_path / f"{name}{ending}")
    assert listed.ids.to_pylist() == ["007", "1e3", "42"]
    assert len(listed) == 3


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["7", None, "42"]),
        pa.array(["7", "42"]).dictionary_encode(),
        pa.array([7, 42]),
        pa.array([7.0, None, 42.0]),
        pa.array([b"7", b"42"]),
    ],
)
def test_parquet_of_any_type_becomes_text(tmp_path, column):
    table = pa.table({"user_id": column, "other": column})
    pq.write_table(table, tmp_path / "list.pq")
    assert read(tmp_path / "list.pq").ids.to_pylist() == ["42", "7"]


def test_large_ids_in_floats_keep_their_digits(tmp_path):
    pq.write_table(pa.table({"user_id": [12345678901.0]}), tmp_path / "list.parquet")
    assert read(tmp_path / "list.parquet").ids.to_pylist() == ["12345678901"]


def test_a_column_may_be_given_by_position(tmp_path):
    (tmp_path / "list.csv").write_text("name,who\nx,007\n")
    assert read(tmp_path / "list.csv", 1).ids.to_pylist() == ["007"]


def test_lines_are_cut_at_line_feeds_only(tmp_path):
    ids = ["ann\x85x", "b\u2028c", "d\x0be", "f\rg", "h\x1ci"]
    (tmp_path / "list.txt").write_bytes("\n".join(ids).encode())
    assert sorted(read(tmp_path / "list.txt").ids.to_pylist()) == sorted(ids)


def test_an_id_stands_for_itself_and_for_itself_without_blanks(tmp_path):
    (tmp_path / "list.txt").write_text(" bob\nann \n  \neve\n")
    listed = read(tmp_path / "list.txt")
    assert len(listed) == 3
    assert listed.ids.to_pylist() == [" bob", "ann", "ann ", "bob", "eve"]
    assert listed.num_found(pa.array([" bob", "ann", "other"])) == 2
    assert describe_found(listed, 2, "users") == (
        "data.exclude_users: 2 of 3 listed users were found"
    )


def test_ids_become_integers_where_the_log_has_integers(tmp_path):
    (tmp_path / "list.txt").write_text(" 7\n42\n")
    listed = read(tmp_path / "list.txt")
    assert sorted(listed.of_type(pa.int64()).to_pylist()) == [7, 42]
    assert listed.num_found(pa.array([7, 8])) == 1
    (tmp_path / "list.txt").write_text("ann\n")
    with pytest.raises(InputError, match=r"data\.exclude_users: .*of type int64.*ann"):
        read(tmp_path / "list.txt").of_type(pa.int64())


BAD = {
    "ragged.csv": (b"user_id,x\n1,2\n3\n", "not readable: .*[Ee]xpected 2 columns"),
    "latin.csv": ("user_id,x\nJürgen,2\n".encode("latin-1"), "not a text file in UTF-8"),
    "latin-header.csv": ("user_id,größe\na,2\n".encode("latin-1"), "not a text file in UTF-8"),
    "latin.txt": ("Jürgen\n".encode("latin-1"), "not a text file in UTF-8"),
    "utf16.txt": ("ann\n".encode("utf-16"), "not a text file in UTF-8"),
    "empty.csv": (b"", "not readable"),
    "no.parquet": (b"user_id\n1\n", "not readable"),
    "no.jsonl": (b"user_id\n1\n", "not readable"),
    "cut.txt.gz": (gzip.compress(b"ann\n" * 1000)[:30], "the file is damaged or cut off"),
    "other.csv": (b"id,x\n1,2\n", r"no column 'user_id' \(data\.columns\.user\); found"),
    "twice.csv": (b"user_id,user_id\n1,2\n", "column 'user_id' .* occurs twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_said_with_setting_and_file(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"data\.exclude_users: .*{name}: ({message})"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["dir", "dir.csv", "dir.parquet"])
def test_a_directory_is_no_list(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"data\.exclude_users: .*{name}: is a directory"):
        read(tmp_path / name)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"data\.exclude_users: .*none\.txt: no such file"):
        read(tmp_path / "none.txt")


def test_only_the_columns_that_are_needed_are_read(tmp_path, monkeypatch):
    wide = pa.table({"item_id": ["a"], "vector": [[1.0] * 8], "sold": [True], "text": ["long"]})
    pq.write_table(wide, tmp_path / "items.parquet")
    read_names = []
    original = pq.ParquetFile.read

    def spy(self, columns=None, **rest):
        read_names.extend(columns)
        return original(self, columns, **rest)

    monkeypatch.setattr(pq.ParquetFile, "read", spy)
    location = local(tmp_path / "items.parquet")
    table = IdTable.open("score.item_table", location)
    ids, sold = table.read([("item_id", "a setting"), ("sold", "another")])
    assert (ids.to_pylist(), sold.to_pylist()) == (["a"], ["true"])
    assert read_names == ["item_id", "sold"]
