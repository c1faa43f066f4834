import math

import numpy as np
import pytest
import torch

from lightsans.ranking.metrics import (
    RankingTotals,
    base_metrics,
    exclude_seen,
    target_ranks,
    user_metrics,
)

INF = math.inf


def test_metrics_of_three_users_by_hand():
    """Ranks 1, 3 and 12."""
    metrics = RankingTotals.from_ranks(np.array([1, 3, 12]), (2, 10)).metrics()
    assert metrics == pytest.approx(
        {
            "hit@2": 1 / 3,
            "recall@2": 1 / 3,
            "precision@2": 1 / 6,
            "ndcg@2": 1 / 3,
            "mrr@2": 1 / 3,
            "hit@10": 2 / 3,
            "recall@10": 2 / 3,
            "precision@10": 2 / 30,
            "ndcg@10": (1 + 1 / 2) / 3,  # 1 / log2(3 + 1)
            "mrr@10": (1 + 1 / 3) / 3,
        }
    )


def test_a_target_that_the_model_does_not_know_is_a_miss():
    """Even where every item would be within the cut-off."""
    totals = RankingTotals.from_ranks(np.array([0, 1]), (10,))
    assert totals.metrics()["hit@10"] == 0.5


def test_nobody_has_no_metrics():
    assert RankingTotals.zero((10,)).metrics() == {}


def test_totals_add_and_travel_as_arrays():
    first = RankingTotals.from_ranks(np.array([1, 4]), (2, 5))
    second = RankingTotals.from_ranks(np.array([2, 9, 4]), (2, 5))
    together = RankingTotals.from_ranks(np.array([1, 4, 2, 9, 4]), (2, 5))
    summed = first.to_array().astype(np.float64) + second.to_array()
    assert together.to_array().tolist() == [5, 1, 1, 0, 2, 0]
    assert (first + second).metrics() == together.metrics()
    assert RankingTotals.from_array(summed, (2, 5)).metrics() == together.metrics()


def test_totals_for_other_cut_offs_are_refused():
    with pytest.raises(ValueError, match=r"ks=\(5,\) and ks=\(10,\) do not add"):
        RankingTotals.zero((5,)) + RankingTotals.zero((10,))
    with pytest.raises(ValueError, match=r"shape \(6,\) do not belong to ks=\(10,\)"):
        RankingTotals.from_array(np.zeros(6), (10,))


def test_a_rank_counts_the_items_that_score_at_least_as_much():
    scores = torch.tensor(
        [
            [9.0, 1.0, 3.0, 2.0, 0.0],  # target 3: behind item 2; padding's 9 does not count
            [0.0, 5.0, 5.0, 5.0, 1.0],  # target 2: ties with 1 and 3, which rank ahead
            [0.0, 1.0, 2.0, 3.0, 4.0],  # target 4: best
        ]
    )
    assert target_ranks(scores, torch.tensor([3, 2, 4])).tolist() == [2, 3, 1]


def test_a_score_that_is_not_a_number_ranks_ahead():
    scores = torch.tensor([[0.0, math.nan, 3.0], [0.0, math.nan, 3.0]])
    assert target_ranks(scores, torch.tensor([2, 1])).tolist() == [2, 2]


def test_an_unknown_target_has_rank_zero():
    assert target_ranks(torch.zeros(1, 4), torch.tensor([0], dtype=torch.int32)).tolist() == [0]


def test_seen_items_fall_behind_but_a_target_that_was_seen_before_stays():
    scores = torch.tensor([[0.0, 5.0, 4.0, 3.0], [0.0, 5.0, 4.0, 3.0]])
    targets = torch.tensor([2, 3], dtype=torch.int32)
    rows, items = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([1, 2, 1, 3, 1])
    exclude_seen(scores, rows, items, targets)
    assert scores.tolist() == [[0.0, -INF, 4.0, 3.0], [0.0, -INF, 4.0, 3.0]]
    assert target_ranks(scores, targets).tolist() == [1, 2]


def test_metrics_of_single_users_add_up_to_those_of_all():
    ranks = np.array([1, 3, 0, 11, 7])
    ks = (5, 10)
    totals = RankingTotals.from_ranks(ranks, ks).metrics()
    means = user_metrics(ranks, ks).mean(axis=0)
    for name, value in zip(base_metrics(ks), means, strict=True):
        assert value == pytest.approx(totals[name]), name
    assert user_metrics(np.array([3]), (5,))[0].tolist() == [1, 0.5, pytest.approx(1 / 3)]
