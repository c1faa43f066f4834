import math

import pytest
import torch
from torch.nn import functional

from lightsans.losses.sampled import bpr_sum, gbce_beta, gbce_sum, sampled_softmax_sum

NO_HITS = torch.zeros(1, 2, dtype=torch.bool)


def test_sampled_softmax_divides_a_negative_by_how_often_it_was_expected():
    """Scores: target 2, negatives 1 and 3, expected 0.5 and 4 times.

    -log(e^2 / (e^2 + e^1 / 0.5 + e^3 / 4))
    """
    vector, target = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    negatives, expected = torch.tensor([[1.0], [3.0]]), torch.tensor([0.5, 4.0])
    loss = sampled_softmax_sum(vector, target, negatives, NO_HITS, expected.log())
    total = math.exp(2) + math.exp(1) / 0.5 + math.exp(3) / 4
    assert loss.item() == pytest.approx(math.log(total) - 2, rel=1e-6)


def test_a_negative_that_is_the_target_is_left_out():
    vector, target = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    negatives, is_target = torch.tensor([[2.0], [3.0]]), torch.tensor([[True, False]])
    loss = sampled_softmax_sum(vector, target, negatives, is_target, torch.zeros(2))
    assert loss.item() == pytest.approx(math.log(math.exp(2) + math.exp(3)) - 2, rel=1e-6)
    beta = 0.5
    loss = gbce_sum(vector, target, negatives, is_target, beta)
    expected = (beta * math.log1p(math.exp(-2)) + math.log1p(math.exp(3))) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_sampled_softmax_over_every_item_once_is_the_cross_entropy():
    """Uniform over N items, N draws: each is expected once, and here each is there once."""
    vectors, table = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    targets = torch.randint(0, 9, (5,))
    is_target = targets.unsqueeze(1) == torch.arange(9)
    sampled = sampled_softmax_sum(vectors, table[targets], table, is_target, torch.zeros(9))
    full = functional.cross_entropy(vectors @ table.T, targets, reduction="sum")
    torch.testing.assert_close(sampled, full)
    torch.testing.assert_close(
        torch.autograd.grad(sampled, [vectors, table]), torch.autograd.grad(full, [vectors, table])
    )


def test_gbce_with_t_0_is_binary_cross_entropy():
    vectors, targets, negatives = torch.randn(4, 3), torch.randn(4, 3), torch.randn(6, 3)
    beta = gbce_beta(num_negatives=6, num_items=100, t=0.0)
    loss = gbce_sum(vectors, targets, negatives, torch.zeros(4, 6, dtype=torch.bool), beta)
    scores = torch.cat([(vectors * targets).sum(1, keepdim=True), vectors @ negatives.T], dim=1)
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    expected = functional.binary_cross_entropy_with_logits(scores, labels) * 4
    torch.testing.assert_close(loss, expected)


def test_beta_is_1_without_calibration_and_the_sampling_rate_with_all_of_it():
    """gSASRec's equation by hand for alpha = 10 / 100, t = 0.75: 0.1 * (0.75 * -9 + 10) = 0.325."""
    assert gbce_beta(10, 101, 0.0) == pytest.approx(1)
    assert gbce_beta(10, 101, 1.0) == pytest.approx(0.1)
    assert gbce_beta(10, 101, 0.75) == pytest.approx(0.325)
    assert gbce_beta(1024, 5, 0.75) == 1  # more negatives than items


def test_bpr_rewards_a_target_that_scores_above_its_negative():
    """Margins of 2 and -1: -log(sigmoid(2)) - log(sigmoid(-1))."""
    vectors = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    targets, negatives = (
        torch.tensor([[2.0, 1.0], [0.0, 5.0]]),
        torch.tensor([[2.0, 0.0], [1.0, 5.0]]),
    )
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))
    assert bpr_sum(vectors, targets, negatives).item() == pytest.approx(expected, rel=1e-6)


def test_bpr_stays_finite_when_the_negative_wins_by_far():
    """RecBole's gamma: -log(1e-10 + 0)."""
    loss = bpr_sum(torch.tensor([[1000.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    assert loss.item() == pytest.approx(-math.log(1e-10), rel=1e-6)
