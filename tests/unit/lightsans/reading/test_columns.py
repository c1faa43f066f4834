"""Columns by name, position, RecBole's type or partition; what is missing is told at once."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.errors import InputError
from tests.logs_on_disk import read_log, reading_fails, write_csv, write_parquet

COLUMNS = {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}
ROWS = [("ann", "a", 10), ("bob", "b", 20)]


def columns(**changed):
    from lightsans.config.data import ColumnsConfig

    return ColumnsConfig(**{**COLUMNS, **changed})


def test_all_missing_columns_are_told_in_one_message(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("userid,store_id,when\n1,2,3\n")
    with pytest.raises(InputError) as caught:
        read_log(path)
    message = str(caught.value)
    assert "there is no column 'user_id' and no column 'item_id' and no column 'timest" in message
    assert "found 'userid', 'store_id', 'when'; did you mean 'userid'?" in message
    assert "Set data.columns.user and data.columns.item and data.columns.timestamp" in message


@pytest.mark.parametrize(
    ("column", "name", "is_suggested"),
    [
        ("user_id", "UserID", True),
        ("timestamp", "time", True),
        ("item_id", "items", True),
        ("user_id", "store_id", False),
        ("item_id", "site_id", False),
        ("user_id", "id", False),
    ],
)
def test_a_suggestion_is_a_name_for_the_same_thing(tmp_path, column, name, is_suggested):
    path = tmp_path / "a.csv"
    names = [name if known == column else known for known in COLUMNS.values()]
    path.write_text(",".join(names) + "\n1,2,3\n")
    with pytest.raises(InputError) as caught:
        read_log(path)
    assert (f"did you mean {name!r}?" in str(caught.value)) == is_suggested


@pytest.mark.parametrize("named", ["user_id", "user_id:token"])
@pytest.mark.parametrize("header", ["user_id", "user_id:token"])
def test_a_type_of_recboles_headers_does_not_matter(tmp_path, named, header):
    for name, separator in (("a.csv", ","), ("b.inter", "\t")):
        path = tmp_path / name
        path.write_text(f"{header},item_id,timestamp\nann,a,10\n".replace(",", separator))
        assert read_log(path, columns=columns(user=named)).rows == [("ann", "a", 10)]


def test_a_name_with_a_colon_of_its_own_stays(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user:eu,user:us,item_id,timestamp\nann,bob,a,10\n")
    assert read_log(path, columns=columns(user="user:us")).rows == [("bob", "a", 10)]


def test_one_of_two_parquet_columns_of_a_name_is_given_by_position(tmp_path):
    names = ["user_id", "item_id", "user_id", "timestamp"]
    arrays = [pa.array(["x", "y"]), pa.array(["a", "b"]), pa.array(["ann", "bob"])]
    table = pa.Table.from_arrays([*arrays, pa.array([10, 20])], names=names)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"occurs twice; .*data\.columns\.user as a position"):
        read_log(tmp_path / "a.parquet")
    assert read_log(tmp_path / "a.parquet", columns=columns(user=2)).rows == ROWS
    assert read_log(tmp_path / "a.parquet", columns=columns(user=0)).rows[0] == ("x", "a", 10)


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_partitions_are_columns(tmp_path, write):
    ending = {"write_csv": "csv", "write_parquet": "parquet"}[write.__name__]
    for user in ("a%2Fb%20%C3%BC", "007", "__HIVE_DEFAULT_PARTITION__"):
        directory = tmp_path / f"log/shop=1/who={user}"
        directory.mkdir(parents=True)
        write(directory / f"part-0.{ending}", [("unused", "a", 10)])
    log = read_log(tmp_path / "log", columns=columns(user="who"))
    assert log.rows == [("007", "a", 10), ("a/b \u00fc", "a", 10)]
    assert [reason for _, reason in log.rejects] == ["user_missing"]
    one = read_log(tmp_path / f"log/shop=1/who=007/part-0.{ending}", columns=columns(user="who"))
    assert one.rows == [("007", "a", 10)]


def test_partitions_are_dates_and_integers_where_that_is_asked_for(tmp_path):
    directory = tmp_path / "dt=2026-01-02/item=7"
    directory.mkdir(parents=True)
    (directory / "a.jsonl").write_text('{"user_id": 1}\n{"user_id": 2}\n')
    named = columns(item="item", timestamp="dt")
    log = read_log(tmp_path, columns=named, item_id_type="int64")
    assert log.rows == [(1, 7, 1767312000.0), (2, 7, 1767312000.0)]


def test_a_column_of_the_file_comes_before_a_partition_of_its_name(tmp_path):
    (tmp_path / "user_id=x").mkdir()
    write_csv(tmp_path / "user_id=x/a.csv", ROWS)
    assert read_log(tmp_path).rows == ROWS


def test_rows_that_only_directories_describe_are_refused(tmp_path):
    (tmp_path / "user_id=x/item_id=y/timestamp=5").mkdir(parents=True)
    (tmp_path / "user_id=x/item_id=y/timestamp=5/a.csv").write_text("z\n1\n")
    with pytest.raises(InputError, match="all columns that are needed are in the names"):
        read_log(tmp_path)


@pytest.mark.parametrize("settings", [{}, {"newlines_in_values": True}])
def test_a_csv_file_of_one_column_may_quote_its_values(tmp_path, settings):
    directory = tmp_path / "item_id=x/timestamp=5"
    directory.mkdir(parents=True)
    (directory / "a.csv").write_text('user_id\n"ann"\nbob\n"c,""d"\n')
    log = read_log(tmp_path, **settings)
    assert log.rows == [("ann", "x", 5), ("bob", "x", 5), ('c,"d', "x", 5)]
    (directory / "a.csv").write_text('user_id\n"ann"\n"bob\n')
    with pytest.raises(InputError, match="quote"):
        read_log(tmp_path, **settings)


def test_nested_columns_are_no_suggestion_and_are_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"user": {"id": 1}, "items": [1, 2], "timestamp": 5}\n')
    with pytest.raises(InputError) as caught:
        read_log(path)
    message = str(caught.value)
    assert "did you mean" not in message
    assert "data.separator" not in message
    assert "Within 'user' and 'items' are objects or lists: flatten them" in message


def test_of_very_many_columns_the_first_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{n}" for n in range(2_000)) + "\n")
    with pytest.raises(InputError, match=r"'c0', 'c1', .*'c29', and 1,970 more\. Set data"):
        read_log(path)


def test_all_columns_of_a_wrong_type_are_told_in_one_message(tmp_path):
    table = pa.table(
        {"user_id": [True], "item_id": [["a"]], "timestamp": pa.array([1], "time32[s]")}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError) as caught:
        read_log(tmp_path / "a.parquet")
    for said in ("'user_id' (user) holds bool", "'item_id' (item) holds list", "holds time32"):
        assert said in str(caught.value)


def test_the_problems_of_all_files_are_told_in_one_message(tmp_path):
    header = "user_id,item_id,timestamp\n"
    for number in range(8):
        (tmp_path / f"{number}.csv").write_text(header.replace("item", f"thing{number}"))
    (tmp_path / "8.csv").write_text(f"{header}u,i,5\n")
    with pytest.raises(InputError) as caught:
        read_log(tmp_path)
    first, *files, last = str(caught.value).splitlines()
    assert (first, last) == ("8 files cannot be used:", "and 3 more files")
    assert [
        f"{n}. {tmp_path}/{n - 1}.csv: there is no column 'item_id'; found" in line
        for n, line in enumerate(files, start=1)
    ] == [True] * 5


def test_types_of_users_and_items_that_differ_are_told_together(tmp_path):
    write_parquet(tmp_path / "a.parquet", [(1, "a", 10)])
    write_parquet(tmp_path / "b.parquet", [("u", 2, 10)])
    with pytest.raises(InputError) as caught:
        read_log(tmp_path)
    assert "user ids are int64 in" in str(caught.value)
    assert "item ids are string in" in str(caught.value)


@pytest.mark.parametrize(
    ("named", "settings"),
    [
        ({"user": 0, "item": "user_id"}, "data.columns.user and data.columns.item are both"),
        ({"user": "0", "item": 0}, "data.columns.user and data.columns.item are both"),
        ({"rating": 0}, "data.columns.user and data.columns.rating are both"),
    ],
)
def test_a_column_is_one_thing_however_it_is_named(tmp_path, named, settings):
    path = write_csv(tmp_path / "a.csv", ROWS)
    reading_fails([settings, "column 'user_id'"], path, columns=columns(**named))
