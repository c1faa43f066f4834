"""Steps of models that read times, and of targets with weights."""

import dataclasses

import numpy as np
import pytest
import torch

from lightsans.config import RunConfig
from lightsans.dataset.events import EventTargets
from lightsans.dataset.sequences import ItemTimes, UserSequences
from lightsans.training import progress
from lightsans.training.progress import EpochRow
from lightsans.training.trainer import Trainer
from tests.factories import sequences_of
from tests.models import WITHOUT_DROPOUT, small_config, small_run


def train_all(trainer: Trainer) -> list[EpochRow]:
    while not trainer.finished:
        trainer.run_epoch()
    return trainer.progress.history


def by_gap(gaps: str, num_users: int = 40) -> tuple[RunConfig, dict[int, UserSequences]]:
    """Item 1 follows a short gap and item 2 a long one, at random: only times tell which."""
    random = np.random.default_rng(0)
    long = random.integers(0, 2, (num_users, 12))
    shown = np.concatenate([np.full((num_users, 1), 3), long[:, :-1] + 1], axis=1)
    times = np.cumsum(np.where(long, 10**11, 10**7), axis=1) + 10**15
    users = dataclasses.replace(
        sequences_of(*shown.tolist()), times=ItemTimes(times.reshape(-1).astype(np.int64))
    )
    sizes = {"max_seq_len": 12, "hidden_size": 16, "inner_size": 16, "n_layers": 1}
    model = small_config(gaps=gaps, k_interests=2, **sizes, **WITHOUT_DROPOUT)
    return small_run(model, epochs=6, learning_rate=0.02), {0: users}


def test_what_only_gaps_tell_is_learnt_by_a_model_that_reads_them():
    """The item after the newest one follows from the gap before that one."""
    losses = {}
    for gaps in ("none", "input", "request"):
        config, users = by_gap(gaps)
        rows = train_all(Trainer(config, 3, users, torch.device("cpu")))
        losses[gaps] = rows[-1].loss
        assert set(rows[-1].valid) == set(rows[0].valid) != set()
    assert losses["none"] > 0.6  # log 2: a coin
    assert losses["input"] < 0.3
    assert losses["request"] < 0.3


@pytest.mark.parametrize("pieces", [1, 3])
def test_micro_batches_of_timed_inputs_add_up_to_the_same_steps(pieces):
    config, users = by_gap("request")
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, epochs=1, micro_batches=pieces)
    )
    whole, _ = by_gap("request")
    whole = dataclasses.replace(whole, train=dataclasses.replace(whole.train, epochs=1))
    one, many = (
        train_all(Trainer(each, 3, users, torch.device("cpu")))[0].loss for each in (whole, config)
    )
    assert many == pytest.approx(one, rel=1e-4)


def weighing(weight: float, num_users: int = 12, length: int = 8) -> UserSequences:
    """Users whose items are targets of this weight, all after the first one."""
    items = (np.arange(num_users * length, dtype=np.int32) * 7 % 9 + 1).reshape(num_users, length)
    counts = np.full(num_users, length - 1)
    times = np.tile(np.arange(length), num_users)
    targets = EventTargets(
        item_ids=items[:, 1:].ravel(),
        offsets=np.arange(num_users + 1) * (length - 1),
        positions=np.tile(np.arange(1, length), num_users),
        times=np.tile(np.arange(1, length), num_users),
        weights=np.full(num_users * (length - 1), weight, np.float32),
        train_counts=counts - 2,
        test_counts=counts - 1,
        input_times=times,
        input_is_seen=np.ones(len(times), bool),
        input_is_view=np.zeros(len(times), bool),
    )
    users: UserSequences = sequences_of(*items.tolist())
    return dataclasses.replace(users, targets=targets)


def test_weights_of_targets_matter_beside_each_other_alone(monkeypatch):
    """Weights of a step may add up to less than one."""
    monkeypatch.setattr(progress, "PROGRESS_EVERY_S", 0.0)
    model = small_config(max_seq_len=8, hidden_size=8, inner_size=8, **WITHOUT_DROPOUT)
    config = small_run(model, epochs=2, batch_size=2, clip_norm=0.05, learning_rate=0.01)
    curves, told = [], []
    for weight in (1.0, 0.01):
        steps: list[float] = []
        trainer = Trainer(
            config,
            9,
            {0: weighing(weight)},
            torch.device("cpu"),
            on_step=lambda news, steps=steps: steps.append(news.loss),  # type: ignore[misc]
        )
        rows = train_all(trainer)
        curves.append([(row.loss, row.gradient_norm) for row in rows])
        told.append(steps)
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3)
    np.testing.assert_allclose(told[1], told[0], rtol=1e-3)
