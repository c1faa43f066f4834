"""Checks of the model's settings."""

import pytest

from lightsans import ConfigError
from lightsans.config import ModelConfig


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"gBCE needs model\.negative_sampling=uniform"):
        ModelConfig(loss_type="gBCE", negative_sampling="in_batch")
    with pytest.raises(ConfigError, match=r"model\.gbce_t=1\.5 is not in \[0, 1\]"):
        ModelConfig(gbce_t=1.5)


@pytest.mark.parametrize(
    "variant",
    [
        {"interest_decay": "position"},
        {"interest_decay": "time"},
        {"positions": "relative"},
        {"positions": "fading"},
        {"position_scaling": "once"},
        {"position_dropout_prob": 0.1},
        {"norm": "rms"},
        {"norm_placement": "pre"},
        {"gate": "residual"},
        {"scores": "cosine"},
        {"gaps": "input"},
    ],
    ids=str,
)
def test_the_released_code_has_no_variants(variant):
    [name] = variant
    with pytest.raises(
        ConfigError, match=rf"model\.{name}=[\w.]+ does not go with model\.attention"
    ):
        ModelConfig(attention="reference", **variant)


@pytest.mark.parametrize("loss", ["auto", "BPR", "sampled_softmax", "gBCE"])
def test_labels_are_smoothed_where_all_items_are_compared(loss):
    with pytest.raises(ConfigError, match=rf"label_smoothing=0\.1 needs .*CE, found {loss}"):
        ModelConfig(label_smoothing=0.1, loss_type=loss)


@pytest.mark.parametrize("value", [1.0, -0.1])
def test_shares_below_one_are_asked_for(value):
    for name in ("label_smoothing", "position_dropout_prob"):
        with pytest.raises(ConfigError, match=rf"model\.{name}={value} is not in \[0, 1\)"):
            ModelConfig(**{name: value})


def test_a_temperature_is_positive():
    with pytest.raises(ConfigError, match=r"model\.temperature=0 must be positive"):
        ModelConfig(scores="cosine", temperature=0)


def test_relative_logits_are_not_scaled():
    with pytest.raises(ConfigError, match=r"model\.position_scaling=once has no effect"):
        ModelConfig(positions="relative", position_scaling="once")


def test_fading_positions_have_no_weights_to_drop():
    with pytest.raises(ConfigError, match=r"model\.position_dropout_prob=0\.1 has no effect"):
        ModelConfig(positions="fading", position_dropout_prob=0.1)
