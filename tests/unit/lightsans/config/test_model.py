"""Checks of the model's settings."""

import pytest

from lightsans import ConfigError
from lightsans.config import ModelConfig


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"gBCE needs model\.negative_sampling=uniform"):
        ModelConfig(loss_type="gBCE", negative_sampling="in_batch")
    with pytest.raises(ConfigError, match=r"model\.gbce_t=1\.5 is not in \[0, 1\]"):
        ModelConfig(gbce_t=1.5)
