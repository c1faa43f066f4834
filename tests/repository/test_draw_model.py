"""Pictures of what a model's interests read."""

import pytest
import torch

from tests.models import small_model
from tools.draw_model import group_lift, pooled_weights, weight_by_age

IDS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1], [5, 6, 0, 0]])
LENGTHS = torch.tensor([4, 4, 2])


def test_an_interest_shares_its_weight_among_the_items_of_a_history():
    weights = pooled_weights(small_model(6, n_layers=2, k_interests=3), IDS, LENGTHS)
    assert [layer.shape for layer in weights] == [(3, 4, 6), (3, 4, 6)]
    for layer in weights:
        torch.testing.assert_close(layer.sum(1), torch.ones(3, 6))
        assert not layer[2, 2:].any()


def test_a_group_that_has_all_weight_is_lifted_by_what_it_lacks_in_the_histories():
    weights = torch.zeros(2, 4, 1)
    weights[0, 0] = weights[1, 3] = 1.0  # item 1
    is_in_group = torch.zeros(7, 2)
    is_in_group[1, 0] = is_in_group[2, 1] = 1.0
    assert group_lift(weights, IDS[:2], is_in_group).tolist() == [[4.0, 0.0]]


def test_weights_by_age_begin_with_the_newest_item_and_are_one_for_a_plain_mean():
    plain = torch.full((2, 4, 1), 0.25)
    assert weight_by_age(plain, LENGTHS[:2]).flatten().tolist() == [1.0] * 4
    newest = torch.zeros(2, 4, 1)
    newest[:, 3] = 1.0
    assert weight_by_age(newest, LENGTHS[:2]).flatten().tolist() == pytest.approx([4, 0, 0, 0])
