import dataclasses
import math

import numpy as np
import pytest
import torch

from lightsans import ConfigError
from lightsans.config import ModelConfig, RunConfig, TrainConfig
from lightsans.dataset.sequences import UserSequences
from lightsans.losses.negatives import NegativeSampler
from lightsans.training.trainer import Trainer

COUNTS = np.array([1, 6, 3])  # the most popular item is 2, then 3, then 1


def sampler(kind, *, num_negatives=20_000, counts=COUNTS, seed=1) -> NegativeSampler:
    model = ModelConfig(negative_sampling=kind, num_negatives=num_negatives)
    config = RunConfig(model=model, train=TrainConfig(seed=seed))
    return NegativeSampler(config, 3, counts)


def shares(ids) -> np.ndarray:
    return np.bincount(ids, minlength=4) / len(ids)


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


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"gBCE needs model\.negative_sampling=uniform"):
        ModelConfig(loss_type="gBCE", negative_sampling="in_batch")
    with pytest.raises(ConfigError, match=r"model\.gbce_t=1\.5 is not in \[0, 1\]"):
        ModelConfig(gbce_t=1.5)


@pytest.mark.parametrize(
    ("loss_type", "sampling"),
    [
        ("sampled_softmax", "uniform"),
        ("sampled_softmax", "log_uniform"),
        ("sampled_softmax", "in_batch"),
        ("gBCE", "uniform"),
    ],
)
def test_training_with_sampled_losses_learns_a_cycle_of_items(loss_type, sampling):
    """Every user walks round the same circle of 12 items, so the next item is certain."""
    model = ModelConfig(
        loss_type=loss_type,
        negative_sampling=sampling,
        num_negatives=16,
        max_seq_len=8,
        hidden_size=16,
        n_layers=1,
        hidden_dropout_prob=0.0,
        attn_dropout_prob=0.0,
    )
    train = TrainConfig(
        epochs=40, batch_size=8, virtual_shards=1, num_workers=1, learning_rate=0.01
    )
    tape = np.concatenate([(np.arange(12) + user) % 12 + 1 for user in range(12)]).astype(np.int32)
    users = {0: UserSequences(tape, np.arange(0, 145, 12))}
    config = RunConfig(model=model, train=train)
    trainer = Trainer(config, 12, users, torch.device("cpu"), item_counts=np.full(12, 12))
    rows = [trainer.run_epoch() for _ in range(40)]
    assert rows[-1].loss < rows[0].loss
    assert rows[-1].valid["hit@10"] >= 0.99
    assert rows[-1].valid["mrr@10"] > 0.9


def test_auto_is_settled_before_training():
    config = RunConfig(
        model=ModelConfig(loss_type="auto", hidden_size=8, max_seq_len=4),
        train=TrainConfig(epochs=1, batch_size=1, virtual_shards=1, num_workers=1),
    )
    users = {0: UserSequences(np.array([1, 2, 3, 4], np.int32), np.array([0, 4]))}
    trainer = Trainer(config, 5, users, torch.device("cpu"))
    assert trainer.model.config.loss_type == "CE"
    assert dataclasses.replace(config.model, loss_type="CE") == trainer.model.config
