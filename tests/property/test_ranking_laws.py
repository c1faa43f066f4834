"""Laws of top-K: no block size, no precision and no way of reading blocks changes a list."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsans.ranking import top_k as ranking


@pytest.mark.parametrize("compiled", [False, True])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_lists_are_the_sorted_scores_with_ties_by_id(compiled, data):
    seed = data.draw(st.integers(0, 2**31))
    users, items, k = (data.draw(st.integers(1, most)) for most in (6, 300, 20))
    products = data.draw(st.sampled_from(["float32", "bfloat16"]))
    block_items = data.draw(st.integers(1, items + 1))
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randint(-2, 3, (users, 3), generator=generator)
    table = torch.randint(-2, 3, (items + 1, 3), generator=generator)
    seen = torch.randint(0, items + 1, (users, 5), generator=generator)
    rows = torch.arange(users).repeat_interleave(5)
    best = ranking.ItemIndex(table.float(), products=products).top_k(
        vectors.float(), k, rows, seen.flatten(), block_items=block_items, compiled=compiled
    )
    for user in range(users):
        scores = (table @ vectors[user]).tolist()
        left = set(range(1, items + 1)) - set(seen[user].tolist())
        expected = sorted(left, key=lambda item: (-scores[item], item))[:k]
        assert best.item_ids[user].tolist() == expected + [0] * (k - len(expected))
