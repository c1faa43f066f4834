"""The item table: categories, numbers and vectors in every form that files have them in."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import DataConfig, ItemFeaturesConfig, RunConfig
from lightsans.dataset.feature_coding import DESCRIBED
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.lists.feature_table import open_feature_table, read_feature_table
from lightsans.lists.tables import open_table
from lightsans.reading.columns import Wanted
from tests.factories import vocabulary_of

COLUMNS = {
    "categorical": ("genre",),
    "numeric": ("price",),
    "vector": ("title",),
    "separators": {"genre": "|"},
}


def read(path, **features):
    wanted = ItemFeaturesConfig(**(features or COLUMNS))
    data = DataConfig(item_table=str(path), item_features=wanted)
    config = RunConfig(data=data)
    table = open_feature_table(config)
    assert table is not None
    return read_feature_table(config, table)


def test_nan_is_no_category(tmp_path):
    columns = {"item_id": ["a", "b", "c"], "genre": [18.0, float("nan"), None]}
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    found = read(tmp_path / "items.parquet", categorical=("genre",))
    assert found.columns["categorical.genre"].to_pylist() == [["18"], [], []]
    wanted = {"genre": Wanted("genre", "a rule")}
    config = RunConfig()
    text = open_table("a table", str(tmp_path / "items.parquet"), config).read(wanted)["genre"]
    assert text.to_pylist() == ["18", None, None]


def as_csv(path):
    lines = [
        "item_id,genre,price,title",
        'b,Drama|War,1.5,"[1, 2]"',
        "a, War ||War,,0.5 -1",
        "c,,NA,",
    ]
    path.write_text("\n".join(lines) + "\n")


def as_jsonl(path):
    rows = [
        {"item_id": "b", "genre": ["Drama", "War"], "price": 1.5, "title": [1, 2]},
        {"item_id": "a", "genre": ["War", None, "War"], "price": None, "title": [0.5, -1]},
        {"item_id": "c", "genre": None, "price": None, "title": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_parquet(path):
    vectors = pa.array([[1, 2], [0.5, -1], None], pa.list_(pa.float64(), 2))
    genres = pa.array([["Drama", "War"], ["War"], None], pa.large_list(pa.large_string()))
    prices = pa.array([1.5, None, float("nan")])
    columns = {"item_id": ["b", "a", "c"], "genre": genres, "price": prices, "title": vectors}
    pq.write_table(pa.table(columns), path)


def as_recbole(path):
    path.write_text("item_id:token\tgenre:token_seq\tprice:float\ttitle:float_seq\n"
                    "b\tDrama|War\t1.5\t1 2\na\tWar\t\t0.5 -1\nc\t\t\t\n")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "write"),
    [("t.csv", as_csv), ("t.jsonl", as_jsonl), ("t.parquet", as_parquet), ("t.item", as_recbole)],
)
def test_every_format_gives_the_same_features_in_the_order_of_the_items(tmp_path, name, write):
    write(tmp_path / name)
    items, table, warning = read(tmp_path / name).join(vocabulary_of("x", "a"), False)
    assert warning == ""
    assert items.raw_item_ids.to_pylist() == ["x", "a", "b", "c"]
    assert items.counts.tolist() == [1, 1, 0, 0]
    assert items.is_listed is not None
    assert items.is_listed.tolist() == [False, True, True, True]
    assert table.to_pydict() == {
        DESCRIBED: [False, True, True, True],
        "categorical.genre": [[], ["War"], ["Drama", "War"], []],
        "numeric.price": [None, None, 1.5, None],
        "vector.title": [None, [0.5, -1.0], [1.0, 2.0], None],
    }


def test_ids_are_those_of_the_log(tmp_path):
    (tmp_path / "t.csv").write_text("item_id,price\n7.0,1\n 8,2\n")
    table = read(tmp_path / "t.csv", numeric=("price",))
    numbers = Vocabulary(pa.array([8, 7]), np.ones(2, np.int64))
    assert table.join(numbers, False)[0].raw_item_ids.to_pylist() == [8, 7]
    assert table.join(vocabulary_of("8"), False)[0].raw_item_ids.to_pylist() == ["8", "7.0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("price\n1,2\n", r"column 'genre'|no column genre"),
        ("genre,price,title\na,x,cheap,1 2\n", r"column 'price' .*numeric.*numbers.*cheap"),
        ("genre,price,title\na,x,inf,1 2\n", r"column 'price' .*inf is not finite"),
        ("genre,price,title\na,x,1,1 b\n", r"column 'title' .*vector.*lists of numbers"),
        (
            "genre,price,title\na,x,1,1 2\nb,x,1,1 2 3\n",
            r"column 'title' .*has 3 numbers for item 'b', and 2 for another",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_column_and_item(tmp_path, content, message):
    (tmp_path / "t.csv").write_text("item_id," + content)
    with pytest.raises(InputError, match=rf"data\.item_table: .*t\.csv.*{message}"):
        read(tmp_path / "t.csv")


def test_rows_that_cannot_be_told_apart_or_fit_no_item_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("item_id,price\n1,1\n1.0,2\n")
    table = read(tmp_path / "t.csv", numeric=("price",))
    with pytest.raises(InputError, match="item 1 has more than one row"):
        table.join(Vocabulary(pa.array([1]), np.ones(1, np.int64)), False)
    (tmp_path / "t.csv").write_text("item_id,price\na,1\n1,2\n")
    table = read(tmp_path / "t.csv", numeric=("price",))
    with pytest.raises(InputError, match="item 'a' is no whole number"):
        table.join(Vocabulary(pa.array([1]), np.ones(1, np.int64)), False)


def test_a_table_of_other_items_is_a_slip_unless_it_is_allowed(tmp_path):
    (tmp_path / "t.csv").write_text("item_id,price\na,1\n")
    table = read(tmp_path / "t.csv", numeric=("price",))
    with pytest.raises(InputError, match=r"none of its 1 ids .* data\.allow_unmatched: true"):
        table.join(vocabulary_of("x"), False)
    items, _, warning = table.join(vocabulary_of("x"), True)
    assert items.raw_item_ids.to_pylist() == ["x", "a"]
    assert "none of its 1 ids was found in the log" in warning
