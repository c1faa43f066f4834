"""Similar items: the nearest by cosine or product, never the item itself."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans.dataset.vocabulary import Vocabulary
from lightsans.recommendations.similar_items import SimilarItems
from lightsans.rules.item_rules import ItemRules, PinRule, no_rules

TABLE = torch.randn(31, 5, generator=torch.Generator().manual_seed(0))
ITEMS = Vocabulary(pa.array([f"i{n}" for n in range(1, 31)]), np.array([1] * 29 + [0]))


@pytest.mark.parametrize("measure", ["cosine", "product"])
def test_lists_are_those_of_all_pairs(measure):
    vectors = TABLE.double()
    if measure == "cosine":
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    expected = vectors @ vectors.T
    expected.fill_diagonal_(-np.inf)
    expected[:, [0, 30, 7]] = -np.inf  # padding, one that counts 0, one that is not eligible
    eligible = torch.tensor([n for n in range(1, 31) if n != 7])
    similar = SimilarItems(TABLE, ITEMS, measure, eligible_ids=eligible)
    found = pa.concat_tables([similar.lists(1, 12, 4), similar.lists(13, 30, 4)]).to_pylist()
    assert [row["item_id"] for row in found] == ITEMS.raw_item_ids.to_pylist()
    for number, row in enumerate(found, 1):
        best = expected[number].topk(4)
        assert row["item_ids"] == [f"i{n}" for n in best.indices.tolist()]
        assert row["scores"] == pytest.approx(best.values.tolist(), abs=1e-6)


def test_rules_hold():
    plain = no_rules(30)
    rules = ItemRules(
        **{name: getattr(plain, name) for name in ("denied", "groups", "quotas", "codes")},
        at_most=plain.at_most, first=plain.first, pins=(PinRule(3, 1),),
    )  # fmt: skip
    lists = SimilarItems(TABLE, ITEMS, "cosine", rules=rules).lists(1, 5, 4).to_pylist()
    assert all(row["item_ids"][0] == "i3" for row in lists if row["item_id"] != "i3")
    [own] = [row for row in lists if row["item_id"] == "i3"]
    assert "i3" not in own["item_ids"]
    assert len(own["item_ids"]) == 4


def test_items_of_a_model_of_an_unknown_log_have_lists():
    """An imported checkpoint: nothing was counted."""
    unknown = Vocabulary(ITEMS.raw_item_ids, np.zeros(30, np.int64))
    rows = SimilarItems(TABLE, unknown, "cosine").lists(1, 3, 4).to_pylist()
    assert [len(row["item_ids"]) for row in rows] == [4, 4, 4]


def test_lists_longer_than_the_items_cost_no_more_than_all_of_them():
    similar = SimilarItems(TABLE, ITEMS, "cosine")
    assert similar.lists(1, 30, 10**12).equals(similar.lists(1, 30, 29))
    pins = replace(no_rules(30), pins=(PinRule(3, 1), PinRule(4, -1)))
    ruled = SimilarItems(TABLE, ITEMS, "cosine", rules=pins)
    assert ruled.lists(1, 30, 10**12).equals(ruled.lists(1, 30, 32))
