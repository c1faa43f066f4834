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
    [{"interest_decay": "position"}, {"positions": "relative"}, {"position_scaling": "once"}],
    ids=str,
)
def test_the_released_code_has_no_variants(variant):
    [name] = variant
    with pytest.raises(ConfigError, match=rf"model\.{name}=\w+ does not go with model\.attention"):
        ModelConfig(attention="reference", **variant)


def test_relative_logits_are_not_scaled():
    with pytest.raises(ConfigError, match=r"model\.position_scaling=once has no effect"):
        ModelConfig(positions="relative", position_scaling="once")
