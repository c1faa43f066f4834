"""Csv as people and programs write it: separators, comments, escapes, row names."""

import pytest

from lightsans.config import ColumnsConfig
from tests.logs_on_disk import read_log, reading_fails, write_bytes

ROWS = [("u1", "i1", 10), ("u2", "i2", 20)]
POSITIONS = ColumnsConfig(user=0, item=1, timestamp=2)


def lines(*rows):
    return "".join(f"{row}\n" for row in rows).encode()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", " ", "   "])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "part-0", "a.inter"])
def test_a_separator_is_found_where_none_is_set(tmp_path, separator, name):
    rows = [["user_id", "item_id", "timestamp"], ["u1", "i1", "10"], ["u2", "i2", "20"]]
    path = write_bytes(tmp_path / name, lines(*(separator.join(row) for row in rows)))
    assert read_log(path, read_unit_bytes=12).rows == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", " "])
def test_a_separator_is_found_without_a_header(tmp_path, separator):
    rows = [["u1", "i1", "10", "2020-01-01"], ["u2", "i2", "20", "2020-01-02"]]
    path = write_bytes(tmp_path / "u.data", lines(*(separator.join(row) for row in rows)))
    assert read_log(path, header=False, columns=POSITIONS).rows == ROWS


def test_blanks_and_commas_within_values_do_not_mislead(tmp_path):
    text = lines("user_id;item_id;timestamp;title", "u;a, b;2020-01-01 10:00:00;x, y, z")
    log = read_log(write_bytes(tmp_path / "a.csv", text))
    assert log.rows == [("u", "a, b", 1577872800)]


def test_aligned_columns_have_runs_of_blanks(tmp_path):
    text = lines("  user_id   item_id  timestamp", '     u1   "i  1"         10  ')
    assert read_log(write_bytes(tmp_path / "a.txt", text)).rows == [("u1", "i  1", 10)]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_line_that_says_the_separator_is_no_header(tmp_path, first):
    text = lines(first, "user_id;item_id;timestamp", "u1;i1;10")
    assert read_log(write_bytes(tmp_path / "a.csv", text)).rows == ROWS[:1]


def test_comments_are_no_rows(tmp_path):
    text = lines(
        "# made on Monday", "#", "user_id,item_id,timestamp", "u1,i1,10", "# 1", "u2,i2,20"
    )
    log = read_log(write_bytes(tmp_path / "a.csv", text))
    assert (log.rows, log.rejects) == (ROWS, [])
    log = read_log(write_bytes(tmp_path / "b.csv", text), newlines_in_values=True)
    assert (log.rows, log.rejects) == (ROWS, [])


def test_a_header_may_begin_as_a_comment_and_ids_with_a_hash(tmp_path):
    text = lines("# user_id\titem_id\ttimestamp", "#1\ti1\t10")
    assert read_log(write_bytes(tmp_path / "a.tsv", text)).rows == [("#1", "i1", 10)]
    text = lines("#1,i1,10", "2,i2,20")
    log = read_log(write_bytes(tmp_path / "b.csv", text), header=False, columns=POSITIONS)
    assert log.rows == [("#1", "i1", 10), ("2", "i2", 20)]


def test_row_names_of_r_and_separators_at_line_ends_are_columns_without_a_name(tmp_path):
    text = lines('"user_id" "item_id" "timestamp"', '"1" "u1" "i1" 10', '"2" "u2" "i2" 20')
    assert read_log(write_bytes(tmp_path / "a.txt", text)).rows == ROWS
    text = lines("user_id,item_id,timestamp", "u1,i1,10,", "u2,i2,20,")
    assert read_log(write_bytes(tmp_path / "a.csv", text)).rows == ROWS


SPARK = lines("user_id,item_id,timestamp", r'u,"5\" disk, x",1', r"v,\N,2", r'"C:\\",i,3', "w,j,4")


@pytest.mark.parametrize("newlines", [False, True])
def test_escapes_are_a_setting(tmp_path, newlines):
    path = write_bytes(tmp_path / "a.csv", SPARK)
    log = read_log(path, escape="\\", newlines_in_values=newlines)
    assert log.rows == [("u", '5" disk, x', 1), ("C:\\", "i", 3), ("w", "j", 4)]
    assert [reason for _, reason in log.rejects] == ["item_missing"]


def test_quotes_after_a_backslash_are_refused_where_no_escape_is_set(tmp_path):
    """Read by the rules of csv the id would be ``5\\ disk"``."""
    text = lines("user_id,item_id,timestamp", r'u,"5\" disk",1', r'v,"C:\",2', r'w,"a\""b",3')
    path = write_bytes(tmp_path / "a.csv", text)
    log = read_log(path)
    assert log.rows == [("v", "C:\\", 2), ("w", 'a\\"b', 3)]
    assert log.rejects == [(26, "escaped_quote")]
    reading_fails(["data.escape"], path, newlines_in_values=True)


@pytest.mark.parametrize(
    "rows",
    [
        ["u1,i1,10,5.0", "u2,i2,20,4.0"],  # a column was appended, and its name was not
        ["'u,1','i1',10", "'u,2','i2',20"],
        ["7,i1,10,1", "7,i2,20,1"],
        ["1,i1,10,1", "2,i2,20,1", "2,i3,30,1"],
        ["5,i1,10,1"],
    ],
)
def test_a_field_more_than_the_header_shifts_no_column_but_behind_row_names(tmp_path, rows):
    """Taken for row names, users would be items and items would be times."""
    log = read_log(write_bytes(tmp_path / "a.csv", lines("user_id,item_id,timestamp", *rows)))
    assert log.rows == []
    assert {reason for _, reason in log.rejects} == {"wrong_number_of_fields"}
    assert len(log.rejects) == len(rows)


@pytest.mark.parametrize("names", [["1", "2"], ["3", "17"]])
def test_row_names_of_a_filtered_table_have_gaps(tmp_path, names):
    rows = [f'"{name}",u{at},i{at},{at}0' for at, name in enumerate(names, start=1)]
    text = lines('"","user_id","item_id","timestamp"', *rows)
    assert read_log(write_bytes(tmp_path / "a.csv", text)).rows == ROWS
    text = lines('"user_id","item_id","timestamp"', *rows)
    assert read_log(write_bytes(tmp_path / "b.csv", text)).rows == ROWS


@pytest.mark.parametrize("separator", [",", ";"])
def test_quotes_behind_a_blank_are_quotes(tmp_path, separator):
    rows = ["user_id, item_id, timestamp", '"u1", "i,1; x", 10', '"u2", "i2", 20']
    rows = [row.replace(", ", f"{separator} ") for row in rows]
    log = read_log(write_bytes(tmp_path / "a.csv", lines(*rows)))
    assert [(user, time) for user, _, time in log.rows] == [("u1", 10), ("u2", 20)]
    assert log.rows[0][1].startswith("i,1")


def test_the_separator_of_hive_is_found(tmp_path):
    text = lines("u1\x01i1\x0110", "u2\x01i2\x0120")
    path = write_bytes(tmp_path / "000000_0", text)
    assert read_log(path, header=False, columns=POSITIONS).rows == ROWS


def test_a_title_above_the_header_is_told_with_the_line_of_the_names(tmp_path):
    text = lines("Sales of May, all shops", "", "user_id,item_id,timestamp", "u1,i1,10")
    path = write_bytes(tmp_path / "a.csv", text)
    reading_fails(["the names of the columns stand in line 2", "'Sales of May", "#"], path)
