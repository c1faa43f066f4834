"""Reasons for recommendations, against leaving every item out by hand."""

import numpy as np
import pyarrow as pa
import torch

from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.reasons import NEWEST
from lightsans.recommendations.tables import recommend_rows
from lightsans.storage.schemas import recommendations_schema
from tests.factories import sequences_of, vocabulary_of
from tests.models import small_model

SCHEMA = recommendations_schema(pa.string(), pa.string())


def explained(histories, most):
    """A maker of lists of ten of twelve items, its lists, and their reasons."""
    torch.manual_seed(3)
    items = vocabulary_of(*(f"i{number}" for number in range(1, 13)))
    model = small_model(12, n_layers=1, max_seq_len=2 * NEWEST)
    maker = ListMaker(model, items, items, None, k=10, remove_seen=False)
    rows = pa.table(
        {
            "user_id": [f"u{number}" for number in range(len(histories))],
            "item_ids": pa.array(histories, pa.list_(pa.int32())),
            "also_seen": pa.array([[]] * len(histories), pa.list_(pa.int32())),
        }
    )
    made = recommend_rows(maker, rows, SCHEMA)
    known = maker.know(sequences_of(*histories), sequences_of(*([] for _ in histories)))
    return maker, made, maker.explain(known.histories, made, most)


def score(maker, history, item):
    model = maker._model.eval()
    with torch.inference_mode():
        return model.score_items(torch.tensor([history]), torch.tensor([len(history)]))[0, item]


def test_reasons_are_the_items_whose_removal_lowers_the_score_most():
    histories = [[1, 2, 3, 4], [2, 5, 2, 6]]
    maker, made, because = explained(histories, 2)
    raw = [None, *maker._model_items.raw_item_ids.to_pylist()]
    for history, items, reasons in zip(
        histories, made["item_ids"].to_pylist(), because.to_pylist(), strict=True
    ):
        for item, found in zip(items, reasons, strict=True):
            whole = score(maker, history, raw.index(item))
            losses = {
                left: float(
                    whole - score(maker, [i for i in history if i != left], raw.index(item))
                )
                for left in set(history)
            }
            expected = sorted((i for i in losses if losses[i] > 0), key=lambda i: -losses[i])[:2]
            assert found == [raw[left] for left in expected]


def test_two_items_of_one_list_have_different_reasons():
    """Attention's weights, which are the same for all items, could not say this."""
    _, _, because = explained([[1, 2, 3, 4], [10, 11, 12, 5]], 1)
    assert any(len({tuple(each) for each in reasons}) > 1 for reasons in because.to_pylist())


def test_an_only_item_is_the_reason_and_popular_items_have_none():
    maker, made, because = explained([[3], []], 2)
    assert made["source"].to_pylist() == ["model", "popular"]
    only = maker._model_items.raw_item_ids[2].as_py()
    by_model, by_popularity = because.to_pylist()
    assert by_model
    assert by_model == [[only]] * len(by_model)
    assert by_popularity == [None] * len(made["item_ids"][1])


def test_only_the_newest_items_are_reasons():
    old, newest = 1, [2, 3, 4, 5] * (NEWEST // 4)
    maker, _, because = explained([[old] * 3 + newest], 20)
    reasons = set(np.concatenate(because.to_pylist()[0]).tolist())
    assert reasons
    assert maker._model_items.raw_item_ids[0].as_py() not in reasons
