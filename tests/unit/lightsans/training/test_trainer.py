"""The training loop without Ray, on one worker."""

import dataclasses

import numpy as np
import pytest
import torch

from lightsans.config import RunConfig
from lightsans.config.kinds import ATTENTION
from lightsans.dataset.sequences import UserSequences
from lightsans.errors import ConfigError, InputError, TrainingError
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.progress import EpochRow, Progress
from lightsans.training.trainer import MidEpoch, Trainer
from tests.factories import sequences_of
from tests.item_features import coloured
from tests.models import EVERY_BLOCK, WITHOUT_DROPOUT, small_config, small_run

NUM_ITEMS = 12


def walks(num_users: int = 30) -> dict[int, UserSequences]:
    """Two shards of users who walk round a circle of items, each from another start."""
    lengths = [6 + (user % 5) for user in range(num_users // 2)]

    def walk(shard: int, user: int) -> list[int]:
        first = 3 * user + shard
        return [step % NUM_ITEMS + 1 for step in range(first, first + lengths[user])]

    return {
        shard: sequences_of(*(walk(shard, user) for user in range(len(lengths))))
        for shard in range(2)
    }


def config_of(attention="causal", loss_type="CE", **train) -> RunConfig:
    sizes = {"max_seq_len": 6, "hidden_size": 16, "inner_size": 16, "n_layers": 1}
    kinds = {"attention": attention, "loss_type": loss_type}
    model = small_config(**kinds, **sizes, k_interests=2, hidden_dropout_prob=0.1)
    settings = {"virtual_shards": 2, "batch_size": 16, "epochs": 8, "learning_rate": 0.02}
    return small_run(model, **{**settings, **train})


def train_all(trainer: Trainer) -> list[EpochRow]:
    while not trainer.finished:
        trainer.run_epoch()
    return trainer.progress.history


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_every_kind_and_loss_learns_the_circle(attention, loss_type):
    trainer = Trainer(config_of(attention, loss_type), NUM_ITEMS, walks(), torch.device("cpu"))
    rows = train_all(trainer)
    assert rows[-1].loss < 0.6 * rows[0].loss
    assert rows[-1].valid["mrr@10"] > 0.6  # guessing gives about 0.26


def with_model(config: RunConfig, **settings) -> RunConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **settings))


@pytest.mark.parametrize("loss_type", ["CE", "BPR", "sampled_softmax"])
@pytest.mark.parametrize("gate", ["residual", "pointwise"])
def test_a_model_of_every_block_learns_the_circle_too(loss_type, gate):
    config = with_model(config_of(loss_type=loss_type), **{**EVERY_BLOCK, "gate": gate})
    rows = train_all(Trainer(config, NUM_ITEMS, walks(), torch.device("cpu")))
    assert rows[-1].valid["mrr@10"] > 0.6


def test_smoothed_labels_learn_the_circle_with_a_loss_that_stays_larger():
    plain, smoothed = (
        train_all(Trainer(config, NUM_ITEMS, walks(), torch.device("cpu")))
        for config in (config_of(), with_model(config_of(), label_smoothing=0.2))
    )
    assert smoothed[-1].valid["mrr@10"] > 0.6
    assert smoothed[-1].loss > plain[-1].loss


@pytest.mark.parametrize("loss_type", ["CE", "sampled_softmax"])
def test_a_trainer_of_every_block_goes_on_where_it_was_restored(loss_type):
    config = with_model(config_of(loss_type=loss_type, epochs=4), **EVERY_BLOCK)
    whole, first, second = (
        Trainer(config, NUM_ITEMS, walks(), torch.device("cpu")) for _ in range(3)
    )
    train_all(whole)
    first.run_epoch()
    second.restore(first.weights(), first.state(), first.progress)
    train_all(second)
    for name, weights in whole.weights().items():
        assert torch.equal(second.weights()[name], weights), name


def test_users_that_are_validated_at_once_and_checkpoints_between_steps_change_nothing():
    """Settings that are marked as without effect: see `lightsans.config.marks`."""
    found = []
    for settings, clock in (({}, None), ({"eval_batch_size": 3}, 2)):
        trainer = Trainer(config_of(epochs=2, **settings), NUM_ITEMS, walks(), torch.device("cpu"))
        saved: list[str] = []
        mid_epoch = None
        if clock is not None:
            every = CheckpointClock(clock, None, torch.device("cpu"))
            mid_epoch = MidEpoch(every, lambda saved=saved: saved.append("x"))  # type: ignore[misc]
        while not trainer.finished:
            trainer.run_epoch(mid_epoch)
        assert bool(saved) == (clock is not None)
        curve = [(row.loss, row.valid) for row in trainer.progress.history]
        found.append((curve, [weight.tolist() for weight in trainer.weights().values()]))
    assert found[0] == found[1]


def test_an_epoch_reports_its_targets():
    trainer = Trainer(config_of("masked"), NUM_ITEMS, walks(), torch.device("cpu"))
    row = trainer.run_epoch()
    expected = sum(int((users.lengths - 3).sum()) for users in walks().values())
    assert row.targets == row.distinct_targets == expected


@pytest.mark.parametrize(
    ("loss_type", "precision"),
    [("CE", "fp32"), ("sampled_softmax", "fp32"), ("gBCE", "bf16"), ("BPR", "fp32")],
)
def test_a_restored_trainer_goes_on_as_if_nothing_had_happened(loss_type, precision):
    """Dropout included: its masks depend on the epoch, not on what ran before."""
    config = config_of(loss_type=loss_type, epochs=4, table_precision=precision)
    whole = Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))
    first = Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))
    for _ in range(2):
        first.run_epoch()
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    weights = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    second = Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))
    second.restore(weights, state, Progress.from_json(first.progress.to_json()))
    losses = [row.loss for row in train_all(second)]
    assert losses == [row.loss for row in train_all(whole)]


@pytest.mark.parametrize(
    ("loss_type", "ema_decay"), [("CE", None), ("CE", 0.9), ("sampled_softmax", None)]
)
def test_a_trainer_restored_in_the_middle_of_an_epoch_repeats_it_bit_for_bit(loss_type, ema_decay):
    """Weights, their average, optimizer, schedule, dropout and the loss of the epoch so far."""
    config = config_of(
        loss_type=loss_type,
        epochs=2,
        schedule="cosine",
        warmup_epochs=0.5,
        clip_norm=0.5,
        ema_decay=ema_decay,
    )
    whole = Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))
    expected = [row.loss for row in train_all(whole)]
    saved: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], str]] = []
    first = Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))

    def save() -> None:
        weights = {name: tensor.clone() for name, tensor in first.weights().items()}
        state = {name: tensor.clone() for name, tensor in first.state().items()}
        saved.append((weights, state, first.progress.to_json()))

    mid_epoch = MidEpoch(CheckpointClock(1, None, torch.device("cpu")), save)
    while not first.finished:
        first.run_epoch(mid_epoch)
    assert [row.loss for row in first.progress.history] == expected
    names = [Progress.from_json(progress).name for _, _, progress in saved]
    assert names[0] == "epoch-00000-step-00000001"
    assert names == sorted(names)
    for weights, state, progress in saved[:: max(1, len(saved) // 3)]:
        second = Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))
        second.restore(weights, state, Progress.from_json(progress))
        assert [row.loss for row in train_all(second)] == expected
        for name, tensor in whole.weights().items():
            assert torch.equal(second.weights()[name], tensor), name


def test_valid_measures_the_averaged_weights_and_training_goes_on_with_its_own():
    plain = Trainer(config_of(epochs=3), NUM_ITEMS, walks(), torch.device("cpu"))
    averaged = Trainer(config_of(epochs=3, ema_decay=0.99), NUM_ITEMS, walks(), torch.device("cpu"))
    curves = train_all(plain), train_all(averaged)
    assert [row.loss for row in curves[0]] == [row.loss for row in curves[1]]
    assert [row.valid for row in curves[0]] != [row.valid for row in curves[1]]
    kept = Trainer(config_of(epochs=3), NUM_ITEMS, walks(), torch.device("cpu"))
    kept.model.load_state_dict(averaged.weights())
    assert kept.validate() == curves[1][-1].valid


def test_an_average_is_refused_where_steps_touch_only_their_own_items():
    config = config_of(loss_type="sampled_softmax", ema_decay=0.99)
    with pytest.raises(ConfigError, match=r"train\.ema_decay=0\.99 .* model\.loss_type to CE"):
        Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))


def test_micro_batches_take_the_same_steps():
    curves = []
    for pieces in (1, 3):
        config = config_of(micro_batches=pieces, epochs=3)
        model = dataclasses.replace(config.model, hidden_dropout_prob=0, attn_dropout_prob=0)
        config = dataclasses.replace(config, model=model)
        trainer = Trainer(config, NUM_ITEMS, walks(), torch.device("cpu"))
        curves.append([row.loss for row in train_all(trainer)])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)


def test_a_refit_trains_on_everything_for_its_epochs_and_validates_nothing():
    trainer = Trainer(config_of("masked", refit_epochs=2), NUM_ITEMS, walks(), torch.device("cpu"))
    rows = train_all(trainer)
    assert len(rows) == trainer.progress.best_epoch == 2
    assert rows[0].targets == sum(int((users.lengths - 1).sum()) for users in walks().values())
    assert rows[0].valid == {}


def test_an_epoch_says_where_its_time_went():
    row = Trainer(config_of(), NUM_ITEMS, walks(), torch.device("cpu")).run_epoch()
    assert row.load_s + row.compute_s + row.communication_s == pytest.approx(row.train_s, abs=0.01)
    assert row.communication_s == 0
    assert row.gradient_norm > 0
    assert row.memory_mib > 10


def test_training_stops_when_the_valid_metric_no_longer_grows():
    trainer = Trainer(
        config_of(epochs=50, patience=2, learning_rate=1e-9),
        NUM_ITEMS,
        walks(),
        torch.device("cpu"),
    )
    rows = train_all(trainer)
    best = trainer.progress.best_epoch
    assert len(rows) == best + 2 < 50


def test_a_patience_of_zero_never_stops_early():
    trainer = Trainer(
        config_of(epochs=5, patience=0, learning_rate=1e-9), NUM_ITEMS, walks(), torch.device("cpu")
    )
    assert len(train_all(trainer)) == 5


def test_nothing_to_train_on_is_an_error_that_says_why():
    alone = {0: sequences_of([1], [2])}
    with pytest.raises(InputError, match="no user has two interactions left"):
        Trainer(config_of(), NUM_ITEMS, alone, torch.device("cpu"))


def test_a_loss_that_is_not_finite_names_epoch_and_setting():
    trainer = Trainer(config_of(learning_rate=1e30), NUM_ITEMS, walks(), torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"in epoch \d+, .* lower train\.learning_rate"):
        train_all(trainer)


def test_another_seed_is_another_run():
    config = config_of(epochs=1)
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=7))
    losses = [
        Trainer(c, NUM_ITEMS, walks(), torch.device("cpu")).run_epoch().loss
        for c in (config, config, other)
    ]
    assert losses[0] == losses[1] != losses[2]


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
    negatives = {"negative_sampling": sampling, "num_negatives": 16}
    sizes = {"max_seq_len": 8, "hidden_size": 16, "inner_size": 256, "n_layers": 1}
    model = small_config(loss_type=loss_type, **negatives, **sizes, **WITHOUT_DROPOUT)
    users = {0: sequences_of(*((np.arange(12) + user) % 12 + 1 for user in range(12)))}
    config = small_run(model, epochs=20, learning_rate=0.02)
    trainer = Trainer(config, 12, users, torch.device("cpu"), item_counts=np.full(12, 12))
    rows = [trainer.run_epoch() for _ in range(20)]
    assert rows[-1].loss < rows[0].loss
    assert rows[-1].valid["hit@10"] >= 0.99
    assert rows[-1].valid["mrr@10"] > 0.9


def test_auto_is_settled_before_training():
    config = small_run(small_config(loss_type="auto"), epochs=1, batch_size=1)
    users = {0: sequences_of([1, 2, 3, 4])}
    trainer = Trainer(config, 5, users, torch.device("cpu"))
    assert trainer.model.config.loss_type == "CE"
    assert dataclasses.replace(config.model, loss_type="CE") == trainer.model.config


def test_without_anybody_to_validate_all_epochs_are_trained_and_the_last_is_kept():
    """Two interactions are both for training; metrics of 0 would have kept the first epoch."""
    users = {shard: sequences_of(*([1 + i, 2 + i] for i in range(9))) for shard in range(2)}
    trainer = Trainer(config_of(epochs=3, patience=1), NUM_ITEMS, users, torch.device("cpu"))
    rows = train_all(trainer)
    assert [row.valid for row in rows] == [{}, {}, {}]
    assert (trainer.progress.best_epoch, trainer.progress.stopped) == (3, False)


MET = range(1, NUM_ITEMS + 1)
WITH_NEW = NUM_ITEMS + 4
"""Three items more that nobody met, and one without features."""


def featured(config: RunConfig) -> Trainer:
    features = coloured(WITH_NEW, MET)
    return Trainer(config, WITH_NEW, walks(), torch.device("cpu"), features=features)


@pytest.mark.parametrize(
    ("attention", "loss_type", "precision"),
    [
        ("causal", "CE", "fp32"),
        ("causal", "sampled_softmax", "bf16"),
        ("causal", "gBCE", "fp32"),
        ("causal", "BPR", "fp32"),
        ("reference", "CE", "fp32"),
        ("reference", "BPR", "fp32"),
    ],
)
def test_new_items_have_vectors_by_their_features_alone(attention, loss_type, precision):
    config = config_of(attention, loss_type, table_precision=precision, learning_rate=0.01)
    trainer = featured(config)
    before = trainer.model.item_table().clone()
    rows = train_all(trainer)
    assert rows[-1].loss < 0.9 * rows[0].loss
    model, new = trainer.model, torch.tensor([NUM_ITEMS + 1, NUM_ITEMS + 2, NUM_ITEMS + 3])
    assert model.item_features is not None
    assert (model.item_embedding.weight[new] == 0).all()
    torch.testing.assert_close(model.item_table()[new], model.item_features(new).detach())
    assert (model.item_table()[new] != before[new]).all(), "the map has learned"
    assert torch.equal(model.item_table()[-1], before[-1]), "nothing compares it"


@pytest.mark.parametrize(
    ("loss_type", "ema_decay"), [("CE", None), ("CE", 0.9), ("sampled_softmax", None)]
)
def test_items_with_features_go_on_in_the_middle_of_an_epoch_bit_for_bit(loss_type, ema_decay):
    config = config_of(loss_type=loss_type, epochs=2, ema_decay=ema_decay)
    whole, first = featured(config), featured(config)
    expected = [row.loss for row in train_all(whole)]
    saved: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], str]] = []

    def save() -> None:
        weights = {name: tensor.clone() for name, tensor in first.weights().items()}
        state = {name: tensor.clone() for name, tensor in first.state().items()}
        saved.append((weights, state, first.progress.to_json()))

    first.run_epoch(MidEpoch(CheckpointClock(2, None, torch.device("cpu")), save))
    weights, state, progress = saved[0]
    second = featured(config)
    second.restore(weights, state, Progress.from_json(progress))
    assert [row.loss for row in train_all(second)] == expected
    for name, tensor in whole.weights().items():
        assert torch.equal(second.weights()[name], tensor), name


def test_leaving_ids_out_changes_training_and_not_the_model_that_is_measured():
    without = featured(config_of(epochs=1, id_dropout_prob=0.0))
    with_dropout = featured(config_of(epochs=1, id_dropout_prob=0.9))
    first, second = train_all(without)[0], train_all(with_dropout)[0]
    assert first.loss != second.loss
    composed = with_dropout.model.composed()
    torch.testing.assert_close(composed.item_table(), with_dropout.model.item_table())
    assert second.valid == with_dropout.validate()


def test_micro_batches_leave_the_same_ids_out():
    curves = []
    for pieces in (1, 3):
        config = config_of(micro_batches=pieces, epochs=2, id_dropout_prob=0.5)
        model = dataclasses.replace(config.model, hidden_dropout_prob=0, attn_dropout_prob=0)
        trainer = featured(dataclasses.replace(config, model=model))
        curves.append([row.loss for row in train_all(trainer)])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
