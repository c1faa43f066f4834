"""Which items may be recommended: lists and tables of items, without Ray."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import RunConfig, ScoreConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.recommendations.eligible_items import EligibleItems
from lightsans.recommendations.item_choice import read_item_choice

ITEMS = Vocabulary(pa.array(["007", "a b", "c", "d", "e"]), np.array([5, 4, 3, 2, 1]))


def read(**settings: Any) -> EligibleItems:
    eligible = read_item_choice(RunConfig(score=ScoreConfig(**settings))).eligible
    assert eligible is not None
    return eligible


def write_csv(path, rows):
    path.write_text("item_id,sold\n" + "".join(f"{item},{sold}\n" for item, sold in rows))


def write_item(path, rows):
    path.write_text(
        "item_id:token\tsold:token\n" + "".join(f"{item}\t{sold}\n" for item, sold in rows)
    )


def write_parquet(path, rows):
    items, sold = zip(*rows, strict=True)
    known = [{"yes": True, "No": False, "": None}[word] for word in sold]
    pq.write_table(pa.table({"item_id": items, "sold": known}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("items.csv", write_csv), ("items.item", write_item), ("items.parquet", write_parquet)],
)
def test_a_table_says_by_a_column_what_may_be_recommended(tmp_path, name, write):
    rows = [("007", "yes"), ("a b", "No"), ("d", "yes"), ("new", "yes"), ("e", "")]
    write(tmp_path / name, rows)
    eligible = read(item_table=f"{tmp_path}/{name}", eligible_column="sold")
    assert eligible.item_ids(ITEMS).tolist() == [1, 4]
    assert eligible.describe(ITEMS) == (
        "2 of 5 items are eligible; 1 of 3 ids of score.item_table are unknown to the model"
    )


def test_an_item_must_be_allowed_by_every_list_and_denied_by_none(tmp_path):
    (tmp_path / "allow.txt").write_text("\ufeff007\n a b \n\nc\nc\n")
    (tmp_path / "deny.txt").write_text("c\n")
    write_csv(tmp_path / "items.csv", [("007", 1), ("a b", 0), ("c", 1), ("d", 1)])
    table = {"item_table": f"{tmp_path}/items.csv", "eligible_column": "sold"}
    lists = {"allow_items": f"{tmp_path}/allow.txt", "deny_items": f"{tmp_path}/deny.txt"}
    assert read(**lists).item_ids(ITEMS).tolist() == [1, 2]
    assert read(deny_items=f"{tmp_path}/deny.txt").item_ids(ITEMS).tolist() == [1, 2, 4, 5]
    assert read(**lists, **table).item_ids(ITEMS).tolist() == [1]
    assert read_item_choice(RunConfig()).eligible is None


def test_the_fingerprint_is_of_the_items_and_not_of_the_file(tmp_path):
    def fingerprint(setting, text):
        (tmp_path / "list.txt").write_text(text)
        return read(**{setting: f"{tmp_path}/list.txt"}).fingerprint

    same = fingerprint("allow_items", "a\nb\n")
    assert fingerprint("allow_items", "b\n\na\na\n") == same
    others = [("allow_items", "a\n"), ("allow_items", "ab\n"), ("deny_items", "a\nb\n")]
    assert len({fingerprint(*other) for other in others} | {same}) == 4


def test_what_is_wrong_with_a_list_is_said(tmp_path):
    with pytest.raises(InputError, match=r"score\.deny_items: .*none\.txt: no such file"):
        read(deny_items=f"{tmp_path}/none.txt")
    with pytest.raises(InputError, match=r"score\.item_table: .*none\.csv: no such file"):
        read(item_table=f"{tmp_path}/none.csv", eligible_column="sold")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"score\.allow_items: .*not readable as utf-16"):
        read(allow_items=f"{tmp_path}/list.txt")
    write_csv(tmp_path / "items.csv", [("a", "yes"), ("b", "maybe")])
    with pytest.raises(InputError, match=r"holds 'maybe'; expected booleans, or one of true, 1"):
        read(item_table=f"{tmp_path}/items.csv", eligible_column="sold")
    with pytest.raises(InputError, match=r"no column 'on'; found .*score\.eligible_column"):
        read(item_table=f"{tmp_path}/items.csv", eligible_column="on")


def test_a_list_of_which_the_model_knows_no_item_is_an_error_unless_allowed(tmp_path):
    (tmp_path / "list.txt").write_text("7\nold\n")
    for setting in ("allow_items", "deny_items"):
        eligible = read(**{setting: f"{tmp_path}/list.txt"})
        with pytest.raises(InputError, match=rf"score\.{setting}: .*none of its 2 ids was found"):
            eligible.check(ITEMS, allow_unmatched=False)
        [warning] = eligible.check(ITEMS, allow_unmatched=True)
        assert "none of its 2 ids" in warning
    numbers = Vocabulary(pa.array([7, 8]), np.array([5, 4]))
    (tmp_path / "list.csv").write_text("item_id\n7.0\n")
    eligible = read(deny_items=f"{tmp_path}/list.csv")
    assert eligible.check(numbers, allow_unmatched=False) == []
    assert eligible.item_ids(numbers).tolist() == [2]


def test_booleans_may_be_numbers_as_pandas_writes_them_beside_gaps(tmp_path):
    write_csv(tmp_path / "items.csv", [("007", "1.0"), ("a b", "0.0"), ("c", ""), ("d", "1")])
    eligible = read(item_table=f"{tmp_path}/items.csv", eligible_column="sold")
    assert eligible.item_ids(ITEMS).tolist() == [1, 4]


@pytest.mark.parametrize("column", [[[1], [2]], [{"a": 1}, None]], ids=["lists", "objects"])
def test_a_column_of_lists_or_objects_is_refused(tmp_path, column):
    pq.write_table(pa.table({"item_id": ["c", "d"], "sold": column}), tmp_path / "items.parquet")
    with pytest.raises(InputError, match=r"'sold' holds .*one value a row.*score.eligible_column"):
        read(item_table=f"{tmp_path}/items.parquet", eligible_column="sold")
