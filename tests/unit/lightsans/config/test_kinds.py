from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from lightsans.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from lightsans.config.kinds import (
    ATTENTION,
    ENGINES,
    FORMATS,
    LAYOUTS,
    LOSSES,
    SAMPLINGS,
    SCHEDULES,
    SPLIT_METHODS,
    Attention,
    Engine,
    Format,
    Layout,
    Loss,
    Optimizer,
    Sampling,
    Schedule,
    Scheduler,
    SplitMethod,
    auto_loss,
    trains_rows,
)
from lightsans.errors import ConfigError
from lightsans.training import optimizer
from pipelines.tune import ray_adapters


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (Attention, ATTENTION),
        (Loss, LOSSES),
        (Format, FORMATS),
        (Sampling, SAMPLINGS),
        (SplitMethod, SPLIT_METHODS),
        (Schedule, SCHEDULES),
        (Layout, LAYOUTS),
        (Engine, ENGINES),
    ],
)
def test_every_name_has_its_row_and_every_row_its_name(names, table):
    assert get_args(names) == tuple(table)


def test_the_settings_take_the_names_of_the_tables():
    model, data = get_type_hints(ModelConfig), get_type_hints(DataConfig)
    assert get_args(model["attention"]) == tuple(ATTENTION)
    assert get_args(model["loss_type"]) == (*LOSSES, "auto")
    assert get_args(model["negative_sampling"]) == tuple(SAMPLINGS)
    assert get_args(data["format"]) == ("auto", *FORMATS)


def test_every_optimizer_schedule_and_scheduler_has_its_code():
    assert tuple(optimizer.OPTIMIZERS) == get_args(Optimizer)
    assert tuple(optimizer.SCHEDULES) == get_args(Schedule)
    assert tuple(ray_adapters.SCHEDULERS) == get_args(Scheduler)


@pytest.mark.parametrize("kind", LOSSES.values(), ids=lambda kind: kind.name)
def test_only_a_loss_with_negatives_shares_or_corrects_them(kind):
    uses_negatives = kind.shares_negatives or kind.corrects_sampling or kind.needs_uniform
    assert kind.needs_negatives or not uses_negatives


@pytest.mark.parametrize(
    ("num_items", "device", "loss"),
    [
        (20_000, "cpu", "CE"),
        (20_001, "cpu", "sampled_softmax"),
        (100_000, "cuda", "CE"),
        (100_001, "cuda", "sampled_softmax"),
        (20_001, "mps", "sampled_softmax"),
        (10**12, "cpu", "sampled_softmax"),
    ],
)
def test_auto_takes_the_full_softmax_while_the_catalogue_is_small(num_items, device, loss):
    assert auto_loss(num_items, device) == loss


def test_rows_are_trained_alone_where_the_loss_looks_at_some_items_only():
    rows = {(loss, kind) for loss in LOSSES for kind in ATTENTION if trains_rows(loss, kind)}
    sampled = {(loss, kind) for loss in ("BPR", "sampled_softmax", "gBCE") for kind in ATTENTION}
    assert rows == sampled - {("BPR", "reference")}


@pytest.mark.parametrize("loss", [*LOSSES, "auto"])
@pytest.mark.parametrize("attention", ATTENTION)
def test_half_precision_tables_need_a_loss_that_trains_rows(loss, attention):
    model = ModelConfig(loss_type=loss, attention=attention)
    train = TrainConfig(table_precision="bf16")
    if loss == "auto" or trains_rows(loss, attention):
        assert RunConfig(model=model, train=train).model.loss_type == loss
    else:
        with pytest.raises(ConfigError, match=r"train\.table_precision=bf16"):
            RunConfig(model=model, train=train)


@pytest.mark.parametrize("loss", [*LOSSES, "auto"])
def test_a_loss_that_assumes_uniform_draws_refuses_others(loss):
    model = ModelConfig(loss_type=loss)
    if loss != "auto" and LOSSES[loss].needs_uniform:
        with pytest.raises(ConfigError, match=r"negative_sampling=uniform, found log_uniform"):
            replace(model, negative_sampling="log_uniform")
    else:
        assert replace(model, negative_sampling="log_uniform")


def test_endings_tell_formats_apart():
    endings = [ending for kind in FORMATS.values() for ending in kind.endings]
    assert len(set(endings)) == len(endings)
    assert all(ending.startswith(".") and ending == ending.lower() for ending in endings)
