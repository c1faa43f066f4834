"""Columns of tables of items and users beside recommendations."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config.file import load_config
from lightsans.errors import ConfigError, InputError
from lightsans.recommendations.beside import beside_identity, read_beside, require_known_items
from lightsans.recommendations.tables import to_long
from lightsans.recommendations.writer import FileLayout, PartFiles
from lightsans.storage.schemas import recommendations_schema
from tests.factories import local, vocabulary_of

SCHEMA = recommendations_schema(pa.string(), pa.int64())
WIDE = pa.table(
    [["a", "b"], [[7, 8], [9]], [[2.0, 1.0], [3.0]], ["model", "popular"]], names=SCHEMA.names
).cast(SCHEMA)


def config_of(directory, *settings):
    items, users = directory / "films.csv", directory / "people.parquet"
    items.write_text("item_id,title,year\n8,Eight,1998\n7,Seven,1997\n7,Again,0\n")
    joined = pa.table({"user_id": ["a", "c"], "age": pa.array([30, 40], pa.int8())})
    pq.write_table(joined, users)
    given = [
        f"score.item_table={items}", "score.item_columns=[title, year]",
        f"score.user_table={users}", "score.user_columns=[age]",
    ]  # fmt: skip
    return load_config(None, [*given, *settings]).config


def test_wide_rows_have_lists_of_items_columns_and_values_of_users(tmp_path):
    beside = read_beside(config_of(tmp_path))
    assert beside is not None
    made = beside.extend(WIDE)
    assert made.schema == beside.extended_schema(SCHEMA)
    assert made.select(SCHEMA.names).equals(WIDE)
    assert made["title"].to_pylist() == [["Seven", "Eight"], [None]]
    assert made["year"].to_pylist() == [["1997", "1998"], [None]]  # text: the table is a csv
    assert made["age"].to_pylist() == [30, None]
    assert made.schema.field("age").type == pa.int8()  # as in parquet


def test_lists_and_objects_of_json_lines_are_their_text(tmp_path):
    file = tmp_path / "films.jsonl"
    rows = [{"item_id": 7, "title": ["Seven", "Sept"], "year": {"of": 1997}}, {"item_id": 8}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    beside = read_beside(config_of(tmp_path, f"score.item_table={file}"))
    assert beside is not None
    made = beside.extend(WIDE)
    assert made["title"].to_pylist() == [['["Seven", "Sept"]', None], [None]]
    assert made["year"].to_pylist() == [['{"of": 1997}', None], [None]]


def test_a_row_without_an_id_takes_nobody_s_place(tmp_path):
    config = config_of(tmp_path, "data.missing_values=['']")  # None is an id like others
    rows = {"user_id": pa.array([None, "", "None", "None"]), "age": [1, 2, 3, 4]}
    pq.write_table(pa.table(rows), tmp_path / "people.parquet")
    beside = read_beside(config)
    assert beside is not None
    made = beside.extend(WIDE.set_column(0, "user_id", pa.array(["None", "b"])))
    assert made["age"].to_pylist() == [3, None]


def test_an_id_stands_for_itself_and_for_the_same_without_blanks(tmp_path):
    config = config_of(tmp_path)
    rows = {"user_id": ["b ", " a", "a"], "age": [1, 2, 3]}
    pq.write_table(pa.table(rows), tmp_path / "people.parquet")
    beside = read_beside(config)
    assert beside is not None
    for users, ages in (([" a", "b"], [2, 1]), (["a", "b "], [3, 1])):
        made = beside.extend(WIDE.set_column(0, "user_id", pa.array(users)))
        assert made["age"].to_pylist() == ages


def test_long_rows_have_one_value_each(tmp_path):
    beside = read_beside(config_of(tmp_path))
    assert beside is not None
    long = to_long(beside.extend(WIDE), ["title", "year"])
    assert long["title"].to_pylist() == ["Seven", "Eight", None]
    assert long["age"].to_pylist() == [30, 30, None]


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_files_of_both_layouts_hold_the_columns(tmp_path, layout):
    beside = read_beside(config_of(tmp_path))
    assert beside is not None
    run = local(tmp_path / "run")
    schema, shape = beside.extended_schema(SCHEMA), FileLayout(layout, None, None, 100)
    of_items = {"title", "year"}
    with PartFiles(run, "part-0.parquet", schema, shape, {}, item_columns=of_items) as files:
        files.write(beside.extend(WIDE))
    with PartFiles(run, "empty.parquet", schema, shape, {}, item_columns=of_items):
        pass
    read, empty = (run / "part-0.parquet").read_table(), (run / "empty.parquet").read_table()
    assert read.column_names[-3:] == ["title", "year", "age"]
    assert read.num_rows == (2 if layout == "wide" else 3)
    assert empty.schema.equals(read.schema)


def test_tables_are_part_of_the_id_and_without_columns_there_is_nothing(tmp_path):
    config, plain = config_of(tmp_path), load_config(None, []).config
    assert read_beside(plain) is None
    assert beside_identity(plain, {}) is None
    before = beside_identity(config, {})
    (tmp_path / "films.csv").write_text("item_id,title,year\n8,Other,1998\n")
    assert before != beside_identity(config, {})
    other = config_of(tmp_path, "score.item_columns=[title]")
    assert beside_identity(other, {}) not in (before, beside_identity(config, {}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("score.item_columns=[titel]", "no column 'titel'"),
        ("score.item_columns=[score]", "'score', which a row of recommendations has already"),
        ("score.item_columns=[age]", "'age', which a row of recommendations has already"),
        ("score.user_columns=[]", "score.user_columns=.* need each other"),
    ],
)
def test_columns_that_cannot_be_are_refused(tmp_path, settings, message):
    with pytest.raises((ConfigError, InputError), match=message):
        read_beside(config_of(tmp_path, settings))


def test_a_table_of_other_items_is_refused(tmp_path):
    config = config_of(tmp_path)
    beside = read_beside(config)
    assert beside is not None
    require_known_items(beside, vocabulary_of("x", "7"), config)
    with pytest.raises(InputError, match="none of its 2 ids was found among the items"):
        require_known_items(beside, vocabulary_of("x"), config)


def test_integers_of_the_log_are_found_in_text(tmp_path):
    (tmp_path / "numbers.csv").write_text("user_id,age\n7.0,50\n")
    table = tmp_path / "numbers.csv"
    settings = [f"score.user_table={table}", "score.user_columns=[age]"]
    beside = read_beside(load_config(None, settings).config)
    assert beside is not None
    users = WIDE.set_column(0, "user_id", pa.array([7, 8]))
    assert beside.extend(users)["age"].to_pylist() == ["50", None]
