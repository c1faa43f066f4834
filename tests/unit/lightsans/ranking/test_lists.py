import numpy as np
import pytest
import torch

from lightsans.ranking.lists import diversity, information, novelty, unit_vectors


def test_novelty_is_the_mean_surprise_of_the_items_in_bits():
    bits = information(np.array([0, 3, 1, 1, 3]))  # shares 4/12, 2/12, 2/12, 4/12
    assert bits[[1, 2]] == pytest.approx([-np.log2(4 / 12), -np.log2(2 / 12)])
    found = novelty(np.array([[1, 2], [2, 0], [0, 0]]), bits)
    assert found == pytest.approx([(bits[1] + bits[2]) / 2, bits[2], 0])


def test_an_item_that_nobody_met_is_new_but_not_infinitely():
    assert np.isfinite(information(np.array([0, 0, 8]))).all()


def test_diversity_is_one_minus_the_mean_cosine_of_the_pairs():
    vectors = torch.tensor([[9.0, 9], [1, 0], [2, 0], [0, 3], [-1, 0]])
    units = unit_vectors(vectors)
    lists = torch.tensor([[1, 2, 0], [1, 3, 0], [1, 2, 3], [1, 4, 0], [1, 0, 0]])
    # Pairs alike: 0. At right angles: 1. One alike, two at right angles: 2/3. Opposite: 2. None: 0.
    assert diversity(lists, units) == pytest.approx([0, 1, 2 / 3, 2, 0])
