"""Audiences: users by the share of an item in what may be recommended to them."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans.probability.softmax import Scope
from lightsans.recommendations import audience
from lightsans.recommendations.audience import audience_table, best_users, keep_best, log_shares


@pytest.mark.parametrize("block", [2**22, 7])
def test_log_shares_are_the_softmax_over_what_may_be_recommended(monkeypatch, block):
    monkeypatch.setattr(audience, "_BLOCK_SCORES", block)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 3, generator=generator)
    table = torch.randn(9, 3, generator=generator)
    eligible = torch.tensor([False, True, True, True, False, True, True, True, True])
    denied = torch.tensor([0, 0, 1, 0, 0, 0, 2, 0, 0])
    segments = torch.tensor([0, 1, 2, 3])
    wanted = torch.tensor([2, 4, 6, 8])
    rows, ids = torch.tensor([0, 0, 3]), torch.tensor([8, 1, 3])
    scope = Scope(eligible, rows, ids, denied, segments)
    found = log_shares(vectors, table, wanted, scope)
    seen = [{8, 1}, set(), set(), {3}]
    for user in range(4):
        may = [
            i for i in range(9)
            if eligible[i] and i not in seen[user] and not denied[i] & segments[user]
        ]  # fmt: skip
        weights = {i: float((vectors[user].double() @ table[i].double()).exp()) for i in may}
        for place, item in enumerate(wanted.tolist()):
            expected = np.log(weights[item] / sum(weights.values())) if item in may else -np.inf
            assert float(found[user, place]) == pytest.approx(expected, abs=1e-5)


def test_a_longer_vector_alone_makes_no_audience():
    """The second user has the greater score; the first one wants the item more than others."""
    table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    vectors = torch.tensor([[1.0, -2.0], [5.0, 5.0]])
    none = torch.zeros(0, dtype=torch.int64)
    scope = Scope(torch.tensor([False, True, True]), none, none)
    shares = log_shares(vectors, table, torch.tensor([1]), scope)
    assert vectors[1] @ table[1] > vectors[0] @ table[1]
    assert shares[0, 0] > shares[1, 0]


def test_a_user_to_whom_nothing_may_be_recommended_is_in_no_audience():
    none = torch.zeros(0, dtype=torch.int64)
    scope = Scope(torch.tensor([False, False]), none, none)
    shares = log_shares(torch.ones(1, 1), torch.ones(2, 1), torch.tensor([1]), scope)
    assert shares.tolist() == [[-np.inf]]


def test_the_best_users_do_not_depend_on_how_users_are_spread():
    shares = torch.tensor([[0.1, -np.inf], [0.3, 0.2], [0.3, 0.2], [0.2, 0.2]])
    users = pa.array(["d", "c", "a", "b"])
    whole = best_users(users, shares, 2)
    parts = [best_users(users.slice(n, 1), shares[n : n + 1], 2) for n in range(4)]
    assert keep_best(pa.concat_tables(parts), 2).equals(whole)
    rows = audience_table(whole, pa.array(["x", "y"])).to_pylist()
    assert [(row["item_id"], row["rank"], row["user_id"]) for row in rows] == [
        ("x", 1, "a"), ("x", 2, "c"), ("y", 1, "a"), ("y", 2, "b"),
    ]  # fmt: skip
    assert rows[0]["share"] == pytest.approx(np.exp(0.3))
