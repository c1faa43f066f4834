"""Lists under rules, worked out by hand: six items, of which item 1 scores highest and 6 lowest.

The laws in tests/property/test_rule_laws.py compare whole sets of rules with brute force.
"""

from dataclasses import replace

import pytest
import torch

from lightsans.ranking.top_k import ItemIndex
from lightsans.rules.item_rules import NO_LIMIT, PinRule, QuotaRule, no_rules
from lightsans.rules.lists import RuledIndex

NONE = torch.zeros(0, dtype=torch.int64)
TABLE = torch.tensor([[0.0], [6.0], [5.0], [4.0], [3.0], [2.0], [1.0]])
PLAIN = no_rules(6)
EVEN = torch.tensor([0, 0, 1, 0, 1, 0, 1])
"""Bit 0 at items 2, 4 and 6."""


@pytest.fixture(params=[False, True], ids=["torch", "numba"])
def make_list(request):
    def make(rules, k=3, seen=(), segments=0, table=TABLE, min_score=-torch.inf):
        seen_ids = torch.tensor(seen, dtype=torch.int64)
        found = RuledIndex(table, rules).top_k(
            torch.ones(1, table.shape[1]),
            k,
            torch.zeros_like(seen_ids),
            seen_ids,
            torch.tensor([segments]),
            min_score=min_score,
            compiled=request.param,
        )
        return found.item_ids[0].tolist()

    return make


def capped(at_most: int, first: int):
    """At most so many even items among the first places; odd ones have no limit."""
    return replace(
        PLAIN,
        codes=torch.where(EVEN > 0, 0, 1)[:, None].int(),
        at_most=torch.tensor([at_most, NO_LIMIT]).int(),
        first=torch.tensor([first, 0]).int(),
    )


def test_a_quota_takes_the_best_of_its_group_and_leaves_the_rest_as_it_was(make_list):
    rules = replace(PLAIN, groups=EVEN, quotas=(QuotaRule(2, 3),))
    assert make_list(rules) == [1, 2, 4]
    assert make_list(rules, seen=[2]) == [1, 4, 6]
    assert make_list(rules, seen=[2, 4]) == [1, 3, 6]  # the group has no more


def test_a_cap_leaves_out_what_is_too_many_among_the_first_places(make_list):
    assert make_list(capped(1, 4), k=4) == [1, 2, 3, 5]
    assert make_list(capped(1, 3), k=4) == [1, 2, 3, 4]
    assert make_list(capped(0, 3), k=5) == [1, 3, 5, 2, 4]


def test_a_pin_stands_at_its_place_also_from_the_end_and_below_a_short_list(make_list):
    rules = replace(PLAIN, pins=(PinRule(6, 1), PinRule(5, -1)))
    assert make_list(rules, k=4) == [6, 1, 2, 5]
    assert make_list(rules, k=4, min_score=6.0) == [6, 1, 5, 0]


def test_of_two_pins_that_meet_in_a_shorter_list_the_first_holds_and_no_item_is_lost(make_list):
    """Lists of similar items have a length of their own, for which pins were not checked."""
    rules = replace(PLAIN, pins=(PinRule(6, 1), PinRule(1, -3)))
    assert make_list(rules, k=4) == [6, 1, 2, 3]
    assert make_list(rules, k=3) == [6, 1, 2]


def test_a_rule_of_a_segment_is_about_its_users_alone(make_list):
    rules = replace(PLAIN, denied=EVEN)
    assert make_list(rules, segments=1) == [1, 3, 5]
    assert make_list(rules, segments=0) == [1, 2, 3]


def test_a_boost_counts_as_score(make_list):
    boosts = torch.tensor([0.0, 0, 0, 0, 0, 0, 10])
    assert make_list(replace(PLAIN, boosts=boosts)) == [6, 1, 2]


def test_diversity_prefers_what_is_unlike_the_items_above(make_list):
    """Items 1 and 2 point one way, 3 the other; half the weight is on unlikeness."""
    table = torch.tensor([[0.0, 0.0], [3.0, 0.0], [2.9, 0.0], [0.0, 2.0]])
    rules = replace(no_rules(3), weight=0.5, candidates=3)
    assert make_list(rules, table=table) == [1, 3, 2]
    assert make_list(replace(rules, weight=0.0), table=table) == [1, 2, 3]


def test_kinds_of_rules_can_be_taken_one_by_one(make_list):
    rules = replace(
        capped(1, 4), groups=EVEN, quotas=(QuotaRule(1, 1),), pins=(PinRule(6, 1),), denied=EVEN
    )
    assert make_list(rules.only(["caps"]), k=4) == [1, 2, 3, 5]
    assert make_list(rules.only(["quotas"])) == [2, 1, 3]
    assert make_list(rules.only(["pins"])) == [6, 1, 2]
    assert make_list(rules.only([])) == [1, 2, 3]


def test_users_of_several_segments_are_searched_for_at_once_if_alike(monkeypatch):
    """1 in 20 denied, or nothing, asks for as many items or few more; 4 in 10 for many more."""
    searched: list[tuple[int, int]] = []
    search = ItemIndex.top_k

    def counted(self, vectors_BD, k, *arguments, **named):
        searched.append((len(vectors_BD), k))
        return search(self, vectors_BD, k, *arguments, **named)

    monkeypatch.setattr(ItemIndex, "top_k", counted)
    ids = torch.arange(201)
    rules = replace(
        no_rules(200), denied=((ids % 20 == 1).long() + 2 * (ids % 10 < 4).long()) * (ids > 0)
    )
    users = torch.rand(6, 4, generator=torch.Generator().manual_seed(3))
    index = RuledIndex(torch.rand(201, 4, generator=torch.Generator().manual_seed(4)), rules)
    index.top_k(users, 50, NONE, NONE, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert sorted(searched)[:2] == [(2, 114), (4, 60)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same_lists_under_rules():
    generator = torch.Generator().manual_seed(5)
    users, table = (torch.randn(n, 16, generator=generator) for n in (40, 2001))
    ids = torch.arange(2001)
    rules = replace(
        no_rules(2000),
        denied=(ids % 7 == 1).long(),
        groups=(ids % 50 == 0).long(),
        quotas=(QuotaRule(2, 10),),
        boosts=(ids % 3).float() / 4,
        weight=0.2,
        candidates=60,
        pins=(PinRule(5, 1),),
    )
    arguments = (NONE, NONE, torch.arange(40) % 2)
    expected = RuledIndex(table, rules).top_k(users, 20, *arguments)
    on_gpu = [each.cuda() for each in (users, *arguments)]
    found = RuledIndex(table.cuda(), rules).top_k(on_gpu[0], 20, *on_gpu[1:])
    assert torch.equal(found.item_ids.cpu(), expected.item_ids)
    assert torch.equal(found.scores.cpu(), expected.scores)


@pytest.mark.parametrize("seen", [(), (2,), (1, 3, 5)])
def test_lists_longer_than_the_items_and_pins_need_hold_nothing_else(make_list, seen):
    rules = replace(
        capped(1, 4),
        groups=EVEN,
        quotas=(QuotaRule(2, 9),),
        pins=(PinRule(5, 8), PinRule(6, -1), PinRule(4, 2)),
    )
    assert rules.places(40) == 6 + 8 + 1 + 9
    assert rules.places(7) == 7
    longer = [item for item in make_list(rules, k=40, seen=seen) if item]
    assert [item for item in make_list(rules, k=rules.places(40), seen=seen) if item] == longer
