"""The temperature that makes held-out targets likeliest."""

import math

import pytest
import torch

from lightsans.probability.softmax import Scope
from lightsans.probability.temperature import COLDEST, HOTTEST, fit_temperature, mean_loss

NONE = torch.zeros(0, dtype=torch.int64)
TWO = Scope(torch.tensor([False, True, True]), NONE, NONE)
TABLE = torch.tensor([[0.0], [1.0], [0.0]])


def fit(hits, misses, score=1.0):
    """Users who all score item 1 by so much and item 2 by 0; hits of them chose item 1."""
    vectors = torch.full((hits + misses, 1), score)
    return fit_temperature(vectors, TABLE, TWO, torch.tensor([1] * hits + [2] * misses))


@pytest.mark.parametrize("score", [0.05, 1.0, 20.0])
def test_two_items_are_chosen_as_often_as_their_softmax_says(score):
    """Three of four chose item 1: score / T must be log(3)."""
    found = fit(3, 1, score)
    assert found.temperature == pytest.approx(score / math.log(3), rel=1e-4)
    assert found.loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), rel=1e-4)
    assert found.loss_before == pytest.approx(math.log(1 + math.exp(score)) - 0.75 * score)


def test_no_choice_at_all_ends_at_the_bounds():
    assert COLDEST <= fit(4, 0).temperature < 0.1
    assert 10 < fit(0, 4).temperature <= HOTTEST


def test_the_temperature_that_made_targets_is_found_again():
    generator = torch.Generator().manual_seed(1)
    vectors, table = torch.randn(4000, 8, generator=generator), torch.randn(51, 8)
    is_eligible = torch.arange(51) > 0
    shares = (vectors @ table[1:].t() / 2.5).softmax(1)
    targets = torch.multinomial(shares, 1, generator=generator).squeeze(1) + 1
    scope = Scope(is_eligible, NONE, NONE)
    found = fit_temperature(vectors, table, scope, targets)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    for other in (found.temperature * 0.9, found.temperature * 1.1):
        assert mean_loss(vectors, table, scope, targets, other) > found.loss
