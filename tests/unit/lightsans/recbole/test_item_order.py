"""Orders of items, against one that RecBole 1.2.1 wrote (tests/golden/record_recbole_tiny.py)."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

from lightsans import InputError
from lightsans.config import DataConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.recbole.item_order import items_by_first_appearance, parse_tokens, reorder_items

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.fixture(scope="module")
def recorded():
    with np.load(GOLDEN / "recbole_tiny.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_items_in_order_of_first_appearance_are_recboles(recorded):
    """The recorded log is in no order of time, and rows rated 1 do not count."""
    parse = pyarrow.csv.ParseOptions(delimiter="\t")
    log = pyarrow.csv.read_csv(GOLDEN / "recbole_tiny.inter", parse_options=parse)
    table = pa.table(
        {
            "user_id": log["user_id:token"],
            "raw_item_id": log["item_id:token"],
            "timestamp": log["timestamp:float"].cast(pa.int64()),
            "rating": log["rating:float"].cast(pa.float64()),
            "order_key": np.arange(log.num_rows),
            "bucket": np.zeros(log.num_rows, np.int32),
        }
    ).sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    tokens = recorded["tokens"][1:].tolist()
    vocabulary = Vocabulary(pa.array(sorted(tokens)), np.ones(len(tokens), np.int64))
    ordered = items_by_first_appearance([table], vocabulary, DataConfig(min_rating=2))
    assert ordered.to_pylist() == tokens


def test_a_file_of_tokens_may_begin_with_padding():
    assert parse_tokens(b"[PAD]\nb\n007\n", "x").to_pylist() == ["b", "007"]
    assert parse_tokens(b"a b\r\nc\x0bd\n\xe2\x80\xa8e", "x").to_pylist() == [
        "a b",
        "c\x0bd",
        "\u2028e",
    ]
    with pytest.raises(InputError, match=r"x: item 'b' stands there twice, again as item 3"):
        parse_tokens(b"b\na\nb\n", "x")
    with pytest.raises(InputError, match="x: names no item"):
        parse_tokens(b"[PAD]\n", "x")
    with pytest.raises(InputError, match="x: not UTF-8"):
        parse_tokens(b"\xff\xfe", "x")


def test_rows_of_the_item_table_follow_their_items():
    weights = {"item_embedding.weight": torch.tensor([[0.0], [1.0], [2.0], [3.0]])}
    reorder_items(weights, pa.array(["a", "b", "c"]), pa.array(["c", "a", "b"]))
    assert weights["item_embedding.weight"].squeeze(1).tolist() == [0, 3, 1, 2]
    with pytest.raises(InputError, match=r"3 items and the order names 3, 1 of them unknown.*'z'"):
        reorder_items(weights, pa.array(["a", "b", "c"]), pa.array(["c", "a", "z"]))
    with pytest.raises(InputError, match="3 items and the order names 2"):
        reorder_items(weights, pa.array(["a", "b", "c"]), pa.array(["c", "a"]))
