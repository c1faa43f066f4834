"""Softmax sums over what may be recommended, against sums item by item."""

import math

import pytest
import torch

from lightsans.probability import softmax
from lightsans.probability.softmax import Scope, log_sums, moments

GENERATOR = torch.Generator().manual_seed(0)
VECTORS, TABLE = torch.randn(5, 3, generator=GENERATOR), torch.randn(9, 3, generator=GENERATOR)
ELIGIBLE = torch.tensor([False, True, True, True, False, True, True, True, True])
DENIED, SEGMENTS = torch.tensor([0, 0, 1, 0, 0, 0, 2, 0, 0]), torch.tensor([0, 1, 2, 3, 0])
SCOPE = Scope(ELIGIBLE, torch.tensor([3, 0, 0, 4]), torch.tensor([3, 8, 1, 5]), DENIED, SEGMENTS)
SEEN = [{8, 1}, set(), set(), {3}, {5}]


def in_scope(user):
    return [
        i for i in range(9)
        if ELIGIBLE[i] and i not in SEEN[user] and not DENIED[i] & SEGMENTS[user]
    ]  # fmt: skip


@pytest.mark.parametrize(("users", "items"), [(256, 2048), (2, 4), (1, 1)])
def test_sums_go_over_the_scope_of_each_user_whatever_the_blocks(monkeypatch, users, items):
    monkeypatch.setattr(softmax, "_USERS", users)
    monkeypatch.setattr(softmax, "_ITEMS", items)
    found = moments(VECTORS, TABLE, SCOPE, 0.7)
    for user in range(5):
        scores = [float(VECTORS[user] @ TABLE[i]) for i in in_scope(user)]
        weights = [math.exp(0.7 * score) for score in scores]
        shares = [weight / sum(weights) for weight in weights]
        mean = sum(p * s for p, s in zip(shares, scores, strict=True))
        variance = sum(p * (s - mean) ** 2 for p, s in zip(shares, scores, strict=True))
        assert float(found.log_sum[user]) == pytest.approx(math.log(sum(weights)), rel=1e-5)
        assert float(found.mean[user]) == pytest.approx(mean, rel=1e-4)
        assert float(found.variance[user]) == pytest.approx(variance, rel=1e-4)
    torch.testing.assert_close(log_sums(VECTORS, TABLE, SCOPE, 0.7), found.log_sum)


def test_great_scores_do_not_overflow():
    none = torch.zeros(0, dtype=torch.int64)
    scope = Scope(torch.tensor([False, True, True]), none, none)
    table = torch.tensor([[0.0], [-1000.0], [1000.0]])
    assert log_sums(torch.ones(1, 1), table, scope).tolist() == [1000.0]


def test_nothing_to_recommend_has_no_sum():
    none = torch.zeros(0, dtype=torch.int64)
    found = moments(torch.ones(1, 1), torch.ones(2, 1), Scope(torch.zeros(2).bool(), none, none))
    assert found.log_sum.tolist() == [-math.inf]
    assert found.mean.tolist() == [0.0]


def test_the_scope_of_single_items_is_that_of_the_sums():
    everything = torch.arange(9).repeat(5, 1)
    may = SCOPE.holds(everything)
    assert [row.nonzero().squeeze(1).tolist() for row in may] == [in_scope(u) for u in range(5)]
