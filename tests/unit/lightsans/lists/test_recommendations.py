"""Lists that somebody else made, wide and long, in files of several kinds."""

import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config.file import load_config
from lightsans.errors import InputError
from lightsans.lists.recommendations import open_lists

EXPECTED = {"a": ["7", "3"], "b": ["5"]}


def read(path, *settings):
    config = load_config(None, list(settings)).config
    found = open_lists("evaluate.recommendations", str(path), config).read()
    ends = found.offsets.tolist()
    items = found.items.to_pylist()
    lists = [items[first:end] for first, end in itertools.pairwise(ends)]
    return dict(zip(found.user_ids.to_pylist(), lists, strict=True))


@pytest.mark.parametrize(
    "lines",
    [
        "user_id,item_ids\na,7|3\nb,5\n",
        'user_id,items\na,"[7, 3]"\nb,[5]\n',
        "user_id,recommendations\na,7 3\nb,5\n",
        "user_id;items\na;7,3\nb;5\n",
        "user_id,items\na,\"['7', '3']\"\nb,['5']\n",
        "user_id,item_id,rank\na,3,2\nb,5,1\na,7,1\n",
        "user_id,item_id,score\na,3,.2\nb,5,.1\na,7,.9\n",
        "user_id,item_id\na,7\nb,5\na,3\n",
        "user_id,item_id,rank,score\na,3,10,.9\na,7,9,.1\nb,5,1,.1\n",
        "user_id,items\na,7|3|7\nb,5|\n,4\na,9\n",
    ],
)
def test_lists_of_a_csv_are_read_whatever_their_layout(tmp_path, lines):
    file = tmp_path / "lists.csv"
    file.write_text(lines)
    assert read(file) == EXPECTED


def test_lists_of_json_lines_are_lists_or_text(tmp_path):
    file = tmp_path / "lists.jsonl"
    for a, b in ([[7, 3], [5]], [["7", "3"], ["5"]], ["7|3", "5"], ["[7, 3]", [5]]):
        rows = ({"user_id": user, "items": items} for user, items in (("a", a), ("b", b)))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert read(file) == EXPECTED


def test_lists_of_objects_are_told_with_the_way_out(tmp_path):
    file = tmp_path / "lists.parquet"
    lists = pa.array([[{"item_id": 7, "rating": 0.9}]])  # as Spark's ALS writes them
    pq.write_table(pa.table({"user_id": ["a"], "recommendations": lists}), file)
    with pytest.raises(InputError, match=r"holds list<.*; expected lists of ids: take the ids"):
        read(file)


def test_lists_of_parquet_are_lists_of_any_ids(tmp_path):
    for items in ([[7, 3], [5]], [["7", "3"], ["5"]], [[7.0, 3.0], [5.0]]):
        file = tmp_path / "lists.parquet"
        pq.write_table(pa.table({"user_id": ["a", "b"], "item_ids": items}), file)
        assert read(file) == EXPECTED
    pq.write_table(pa.table({"user_id": ["a", "b"], "item_ids": [[7, None, 3], [5]]}), file)
    assert read(file) == EXPECTED


def test_a_user_without_a_list_has_none(tmp_path):
    file = tmp_path / "lists.parquet"
    table = pa.table({"user_id": ["c", "a", "b"], "item_ids": [[], [7, 3], [5]]})
    pq.write_table(table, file)
    assert read(file) == EXPECTED


def test_a_directory_of_our_own_runs_is_read(tmp_path):
    for number, (user, items) in enumerate(EXPECTED.items()):
        table = pa.table({"user_id": [user], "item_ids": [items], "source": ["model"]})
        pq.write_table(table, tmp_path / f"part-{number:05d}.parquet")
    assert read(tmp_path) == read(tmp_path / "part-*.parquet") == EXPECTED


def test_columns_may_be_partitions_but_no_names_of_files(tmp_path):
    for rank, lines in ((1, "a,7\nb,5\n"), (2, "a,3\n")):
        file = tmp_path / f"rank={rank}" / "items=all.csv"
        file.parent.mkdir()
        file.write_text(f"user_id,item_id\n{lines}")
    assert read(tmp_path) == EXPECTED


def test_columns_have_the_names_of_the_log(tmp_path):
    file = tmp_path / "lists.csv"
    file.write_text("who,film\na,7\na,3\nb,5\n")
    assert read(file, "data.columns.user=who", "data.columns.item=film") == EXPECTED


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("who,items\na,7\n", "no column of users: 'user_id' .* found 'who', 'items'"),
        (
            "user_id,film\na,7\n",
            "no column of items: lists in 'item_ids', .* or 'item_id'",
        ),
        (
            "user_id,item_id,rank\na,7,first\n",
            "column 'rank' orders the lists, and holds what is",
        ),
        ("user_id,item_id,score\na,7,\n", "column 'score' orders the lists, and 1 rows have none"),
    ],
)
def test_what_holds_no_lists_is_refused(tmp_path, lines, message):
    file = tmp_path / "lists.csv"
    file.write_text(lines)
    with pytest.raises(InputError, match=message):
        read(file)


def test_a_column_of_something_else_is_refused(tmp_path):
    file = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"user_id": ["a"], "item_ids": [{"x": 1}]}), file)
    with pytest.raises(
        InputError, match=r"^evaluate\.recommendations: .*: a column of lists holds struct"
    ):
        read(file)
