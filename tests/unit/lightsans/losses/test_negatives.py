import math

import numpy as np
import pytest

from lightsans.config import ModelConfig, RunConfig, TrainConfig
from lightsans.config.kinds import SAMPLINGS
from lightsans.losses.negatives import CODE, NegativeSampler

COUNTS = np.array([1, 6, 3])  # the most popular item is 2, then 3, then 1


def sampler(kind, *, num_negatives=20_000, counts=COUNTS, seed=1) -> NegativeSampler:
    model = ModelConfig(negative_sampling=kind, num_negatives=num_negatives)
    config = RunConfig(model=model, train=TrainConfig(seed=seed))
    return NegativeSampler(config, 3, counts)


def shares(ids) -> np.ndarray:
    return np.bincount(ids, minlength=4) / len(ids)


def test_every_row_of_the_table_has_its_code():
    assert set(CODE) == set(SAMPLINGS)


@pytest.mark.parametrize("kind", SAMPLINGS.values(), ids=lambda kind: kind.name)
def test_the_rows_say_what_the_code_needs(kind):
    drawn = sampler(kind.name, num_negatives=4)
    assert drawn.needs_targets == kind.needs_targets
    assert (len(set(drawn.probability_V[1:])) == 1) == kind.is_uniform
    if kind.needs_counts:
        with pytest.raises(ValueError, match="needs the items' counts"):
            sampler(kind.name, counts=None)


def test_uniform_negatives_are_equally_likely():
    drawn = sampler("uniform", counts=None).draw(0, 0)
    np.testing.assert_allclose(shares(drawn.item_ids), [0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)
    np.testing.assert_allclose(drawn.log_expected, math.log(20_000 / 3), rtol=1e-6)


def test_log_uniform_goes_by_the_rank_of_popularity():
    """log(2/1), log(3/2) and log(4/3) over log(4): 0.5, 0.292 and 0.208."""
    made = sampler("log_uniform")
    expected = [0, 0.2075, 0.5, 0.2925]
    np.testing.assert_allclose(made.probability_V, expected, atol=1e-4)
    drawn = made.draw(0, 0)
    np.testing.assert_allclose(shares(drawn.item_ids), expected, atol=0.02)
    np.testing.assert_allclose(
        np.exp(drawn.log_expected), 20_000 * made.probability_V[drawn.item_ids], rtol=1e-5
    )


def test_in_batch_negatives_are_the_targets_of_the_step_in_any_order():
    made = sampler("in_batch", num_negatives=10)
    drawn = made.draw(0, 0, np.array([3, 2, 2]))
    assert drawn.item_ids.tolist() == [2, 2, 3]
    np.testing.assert_allclose(np.exp(drawn.log_expected), [1.8, 1.8, 0.9], rtol=1e-6)
    few = sampler("in_batch", num_negatives=2)
    targets = np.array([1, 2, 3, 2])
    chosen = few.draw(0, 0, targets).item_ids
    assert len(chosen) == 2
    np.testing.assert_array_equal(chosen, few.draw(0, 0, targets[::-1]).item_ids)


def test_draws_repeat_exactly_and_differ_between_steps_epochs_and_seeds():
    first = sampler("uniform").draw(2, 5).item_ids
    np.testing.assert_array_equal(first, sampler("uniform").draw(2, 5).item_ids)
    for other in (
        sampler("uniform").draw(2, 6),
        sampler("uniform").draw(3, 5),
        sampler("uniform", seed=2).draw(2, 5),
    ):
        assert (first != other.item_ids).any()


def test_popularity_needs_counts():
    with pytest.raises(ValueError, match="'log_uniform' needs the items' counts"):
        sampler("log_uniform", counts=None)


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_of_some_candidates_no_other_item_is_drawn(kind):
    """Items 2 and 4 of four, as if they were items 1 and 2 of two."""
    model = ModelConfig(negative_sampling=kind, num_negatives=500)
    config = RunConfig(model=model, train=TrainConfig(seed=1))
    some = NegativeSampler(config, 4, np.array([0, 6, 0, 3]), np.array([2, 4]))
    alone = NegativeSampler(config, 2, np.array([6, 3]))
    targets = np.array([2, 4, 4])
    drawn, expected = some.draw(0, 0, targets), alone.draw(0, 0, targets // 2)
    assert drawn.item_ids.tolist() == (expected.item_ids * 2).tolist()
    np.testing.assert_array_equal(drawn.log_expected, expected.log_expected)
    np.testing.assert_allclose(some.probability_V[[0, 1, 3]], 0)
    np.testing.assert_allclose(some.probability_V.sum(), 1)
