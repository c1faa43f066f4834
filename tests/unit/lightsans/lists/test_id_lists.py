"""Lists of ids in every form that people keep them in."""

import bz2
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import ColumnsConfig, DataConfig, RunConfig
from lightsans.errors import InputError
from lightsans.lists.id_lists import as_integers, describe_found, read_id_list, require_some
from lightsans.lists.tables import open_table
from lightsans.reading.columns import Wanted


def read(path, column="user_id", **settings):
    data = DataConfig(columns=ColumnsConfig(user=column), **settings)
    return read_id_list("data.exclude_users", str(path), RunConfig(data=data), "user")


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


BAD = {
    "ragged.csv": (b"user_id,x\n1,2\n3\n", "not readable: wrong_number_of_fields"),
    "latin.csv": ("user_id,x\nJürgen,2\n".encode("latin-1"), "not a text file in UTF-8"),
    "latin.txt": ("Jürgen\n".encode("latin-1"), "the text is not utf-8: .*set data.encoding"),
    "no.parquet": (b"PAR2\x15\x04", "not readable as parquet"),
    "utf16.txt": ("ann\n".encode("utf-16-le"), "the text is not utf-8: .*utf-16-le"),
    "cut.txt.gz": (gzip.compress(b"ann\n" * 1000)[:30], "the file is damaged or cut off"),
    "other.csv": (b"id,x\n1,2\n", r"there is no column 'user_id'; found 'id', 'x'.*\.txt, for"),
    "twice.csv": (b"user_id,user_id\n1,2\n", "column 'user_id' occurs twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_said_with_setting_and_file(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"data\.exclude_users: .*{name}.*: ({message})"):
        read(tmp_path / name)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"data\.exclude_users: .*none\.txt: no such file"):
        read(tmp_path / "none.txt")


def test_only_the_columns_that_are_needed_are_read(tmp_path, monkeypatch):
    wide = pa.table({"item_id": ["a"], "vector": [[1.0] * 8], "sold": [True], "text": ["long"]})
    pq.write_table(wide, tmp_path / "items.parquet")
    read_names = []
    original = pq.ParquetFile.iter_batches

    def spy(self, *args, columns=None, **rest):
        read_names.extend(columns)
        return original(self, *args, columns=columns, **rest)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    table = open_table("score.item_table", f"{tmp_path}/items.parquet", RunConfig())
    wanted = {"item": Wanted("item_id", "a setting"), "sold": Wanted("sold", "another")}
    columns = table.read(wanted)
    assert {role: column.to_pylist() for role, column in columns.items()} == {
        "item": ["a"],
        "sold": ["true"],
    }
    assert read_names == ["item_id", "sold"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), (" 007 ", 7), ("12345678901.0", 12345678901), ("1.2e3", 1200), ("-7", -7)],
)
def test_a_listed_integer_is_the_same_integer_of_a_log_however_it_is_written(
    tmp_path, text, number
):
    (tmp_path / "list.csv").write_text(f"user_id\n{text}\nann\n7.5\n1e99\nnan\n")
    listed = read(tmp_path / "list.csv")
    assert listed.of_type(pa.int64()).to_pylist() == [number]
    assert listed.num_found(pa.array([number, 5])) == 1


@pytest.mark.parametrize(
    "content",
    ["user_id\nann\nbob\n", '"user_id"\r\nann\r\nbob\r\n', "reason,user_id\nx,ann\ny,bob\n"],
)
def test_a_header_in_a_file_that_is_not_named_as_a_table_is_none_of_the_ids(tmp_path, content):
    (tmp_path / "list.txt").write_text(content)
    assert read(tmp_path / "list.txt").ids.to_pylist() == ["ann", "bob"]


def test_lines_with_separators_are_ids_where_no_header_says_otherwise(tmp_path):
    (tmp_path / "list.txt").write_text("ann,1\nbob,2\n")
    assert read(tmp_path / "list.txt").ids.to_pylist() == ["ann,1", "bob,2"]


def test_a_list_may_be_a_directory_of_parts(tmp_path):
    (tmp_path / "list").mkdir()
    for number, ids in enumerate((["ann", "bob"], ["bob", "cid"])):
        pq.write_table(pa.table({"user_id": ids}), tmp_path / f"list/part-{number}.parquet")
    (tmp_path / "list/_SUCCESS").touch()
    (tmp_path / "list/part-2.parquet").touch()
    assert read(tmp_path / "list").ids.to_pylist() == ["ann", "bob", "cid"]


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list", "list.csv.gz"])
@pytest.mark.parametrize("content", ["", "\n\n", "user_id\n"])
def test_an_empty_list_is_a_warning_and_one_that_matches_nobody_an_error(tmp_path, name, content):
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    listed = read(tmp_path / name)
    assert len(listed) == 0
    assert "lists no id" in require_some(listed, 0, "in the log", "a setting", allow=False)
    (tmp_path / name).write_bytes(b"user_id\nann\n")
    if not name.endswith(".gz"):
        listed = read(tmp_path / name)
        with pytest.raises(
            InputError, match=r"none of its 1 ids was found in the log; .*a setting"
        ):
            require_some(listed, 0, "in the log", "a setting", allow=False)
        assert "none of its 1 ids" in require_some(listed, 0, "in the log", "x", allow=True)
        assert require_some(listed, 1, "in the log", "a setting", allow=False) == ""


def test_without_a_header_the_log_and_the_list_have_positions(tmp_path):
    (tmp_path / "list.csv").write_text("x,007\ny,42\n")
    columns = ColumnsConfig(user=1, item=0, timestamp=2, rating=None)
    data = DataConfig(columns=columns, header=False)
    listed = read_id_list(
        "data.exclude_users", f"{tmp_path}/list.csv", RunConfig(data=data), "user"
    )
    assert listed.ids.to_pylist() == ["007", "42"]


@pytest.mark.parametrize(
    "content",
    [
        "007\nann\n".encode("utf-16"),
        b"007\rann\r",
        b'"007"\n"ann"\n',
        b'"user_id"\r\n"007"\r\n"ann"\r\n',
        b'\xef\xbb\xbf"007"\n\n"ann"',
    ],
)
def test_lines_are_ids_in_utf_16_with_quotes_and_of_old_macs_too(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    assert read(tmp_path / "list.txt").raw.to_pylist() == ["007", "ann"]


def test_quotes_around_some_lines_only_are_part_of_the_ids(tmp_path):
    (tmp_path / "list.txt").write_text('"007"\nann\n')
    assert read(tmp_path / "list.txt").raw.to_pylist() == ['"007"', "ann"]
    (tmp_path / "list.txt").write_text('"00""7"\n')
    assert read(tmp_path / "list.txt").raw.to_pylist() == ['00"7']
    assert read(tmp_path / "list.txt", quote_char=None).raw.to_pylist() == ['"00""7"']


@pytest.mark.parametrize(
    ("column", "kind"),
    [([True, False], "bool"), ([["u"], ["v"]], "list"), ([{"id": "u"}, {"id": "v"}], "struct")],
)
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_column_that_holds_no_ids_is_refused_as_in_a_log(tmp_path, column, kind, ending):
    path = tmp_path / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"user_id": column}), path)
    else:
        path.write_text("".join(json.dumps({"user_id": each}) + "\n" for each in column))
        kind = kind.replace("list", "struct")
    with pytest.raises(InputError, match=rf"'user_id' \(user\) holds {kind}.*expected text, whole"):
        read_id_list("a list", str(path), RunConfig(data=DataConfig()), "user")


@pytest.mark.parametrize("column", [0, 7, "7"])
def test_a_first_id_that_is_the_position_of_the_column_is_no_header(tmp_path, column):
    (tmp_path / "list.txt").write_text(f"{column}\n8\n")
    assert read(tmp_path / "list.txt", column).raw.to_pylist() == [str(column), "8"]
    (tmp_path / "list.txt").write_text("user_id\n8\n")
    assert read(tmp_path / "list.txt", "user_id").raw.to_pylist() == ["8"]


def test_only_decimal_numbers_are_integers():
    texts = pa.array(["0x10", "1_0", "", None, " 7 ", "007", "+7", "7.0", "7e0", "7.5"])
    assert as_integers(texts).to_pylist() == [None] * 4 + [7] * 5 + [None]
    assert as_integers(pa.array(["0x10"])).to_pylist() == [None]
