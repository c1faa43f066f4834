"""Laws of lists under rules: they are the brute force's, whatever the blocks, batches and code."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsans.ranking.top_k import ItemIndex
from lightsans.rules.item_rules import ItemRules, PinRule, QuotaRule, no_rules
from lightsans.rules.lists import RuledIndex
from tests.rules_oracle import brute_force


@st.composite
def rule_sets(draw, num_items, k):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    V = num_items + 1

    def bits(number, one_in):
        drawn = torch.randint(0, one_in, (V, number), generator=generator) == 0
        return (drawn * 2 ** torch.arange(number)).sum(1)

    firsts = sorted(draw(st.lists(st.integers(2, k + 3), max_size=3)))
    quotas, total = [], 0
    for first in firsts:
        least = draw(st.integers(1, first))
        if total + least <= first:
            quotas.append(QuotaRule(least, first))
            total += least
    columns = draw(st.integers(0, 2))
    width = draw(st.integers(1, 6))
    G = columns * draw(st.integers(1, 2))
    codes = torch.randint(0, columns * width + 1, (V, G), generator=generator)
    at_most = draw(st.lists(st.integers(1, 3), min_size=columns, max_size=columns))
    windows = draw(st.lists(st.integers(2, k + 2), min_size=columns, max_size=columns))
    pins = draw(st.lists(st.integers(1, num_items), max_size=3, unique=True))
    spots = draw(st.permutations([*range(1, k - 2), -1, -2]))
    return ItemRules(
        denied=bits(2, draw(st.integers(2, 5))),
        groups=bits(len(quotas), draw(st.sampled_from([2, 20]))),
        quotas=tuple(quotas),
        codes=codes.sort(1).values.int(),
        at_most=torch.tensor([*np.repeat(at_most, width).tolist(), 2**31 - 1]).int(),
        first=torch.tensor([*np.repeat(windows, width).tolist(), 0]).int(),
        boosts=torch.randint(-3, 4, (V,), generator=generator).float() / 2
        if draw(st.booleans())
        else None,
        weight=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        candidates=draw(st.integers(1, 2 * k)),
        pins=tuple(PinRule(i, spot) for i, spot in zip(pins, spots, strict=False)),
    )


@pytest.mark.parametrize("compiled", [False, True])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_lists_are_those_of_all_items_walked_one_by_one(compiled, data):
    seed = data.draw(st.integers(0, 2**31))
    users, num_items, k = data.draw(st.integers(1, 5)), data.draw(st.integers(5, 80)), 8
    rules = data.draw(rule_sets(num_items, k))
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randint(-2, 3, (users, 3), generator=generator).float()
    table = torch.randint(-2, 3, (num_items + 1, 3), generator=generator).float()
    seen = torch.randint(0, num_items + 1, (users, 4), generator=generator)
    eligible = None
    if data.draw(st.booleans()):
        eligible = torch.randperm(num_items, generator=generator)[: num_items // 2 + 1] + 1
    segments = torch.randint(0, 4, (users,), generator=generator)
    min_score = data.draw(st.sampled_from([-np.inf, 0.0]))
    index = RuledIndex(
        table, rules, eligible, first_found=data.draw(st.sampled_from([None, 1, 3, 8]))
    )
    found = index.top_k(
        vectors, k, torch.arange(users).repeat_interleave(4), seen.flatten(), segments,
        min_score=min_score, block_items=data.draw(st.sampled_from([None, 7])), compiled=compiled,
    )  # fmt: skip
    for user in range(users):
        ids, scores = brute_force(
            vectors[user].numpy(), table.numpy(), rules, k,
            eligible=None if eligible is None else set(eligible.tolist()),
            seen=set(seen[user].tolist()), segments=int(segments[user]), min_score=min_score,
        )  # fmt: skip
        empty = k - len(ids)
        assert found.item_ids[user].tolist() == ids + [0] * empty
        assert found.scores[user].tolist() == scores + [-np.inf] * empty
        denied = rules.denied[ids] & segments[user]
        assert not denied.any()


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_real_vectors_give_equal_lists_with_and_without_numba_and_in_any_batch(data):
    seed, k = data.draw(st.integers(0, 2**31)), 10
    rules = data.draw(rule_sets(400, k))
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(5, 16, generator=generator)
    table = torch.randn(401, 16, generator=generator)
    segments = torch.randint(0, 4, (5,), generator=generator)
    none = torch.zeros(0, dtype=torch.int64)
    index = RuledIndex(table, rules)
    whole = index.top_k(vectors, k, none, none, segments)
    plain = index.top_k(vectors, k, none, none, segments, compiled=False, block_items=50)
    assert torch.equal(whole.item_ids, plain.item_ids)
    assert torch.equal(whole.scores, plain.scores)
    for user in range(5):
        alone = index.top_k(vectors[user : user + 1], k, none, none, segments[user : user + 1])
        assert torch.equal(alone.item_ids[0], whole.item_ids[user])


def test_no_users_have_no_lists():
    none = torch.zeros(0, dtype=torch.int64)
    rules = no_rules(5)
    found = RuledIndex(torch.ones(6, 2), rules).top_k(torch.ones(0, 2), 3, none, none)
    assert found.item_ids.shape == (0, 3)


def test_no_rules_give_the_lists_of_plain_top_k():
    generator = torch.Generator().manual_seed(1)
    vectors, table = (torch.randn(n, 8, generator=generator) for n in (20, 301))
    none = torch.zeros(0, dtype=torch.int64)
    found = RuledIndex(table, no_rules(300)).top_k(vectors, 12, none, none)
    plain = ItemIndex(table).top_k(vectors, 12)
    assert torch.equal(found.item_ids, plain.item_ids)
    assert torch.equal(found.scores, plain.scores)
