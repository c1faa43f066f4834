"""Checks of the settings of input and preprocessing."""

import pytest

from lightsans.config import DataConfig, TemporalConfig
from lightsans.errors import ConfigError


def test_settings_that_do_not_say_where_to_cut_are_refused():
    with pytest.raises(ConfigError, match=r"needs data\.temporal"):
        DataConfig(split="temporal")
    with pytest.raises(ConfigError, match=r"set data\.split to temporal"):
        DataConfig(temporal=TemporalConfig(valid_fraction=0.1, test_fraction=0.1))
    with pytest.raises(ConfigError, match="both valid_from and test_from"):
        TemporalConfig(valid_from="2026-01-01")
    with pytest.raises(ConfigError, match="both valid_from and test_from"):
        TemporalConfig(valid_from="2026-01-01", test_from="2026-02-01", valid_fraction=0.1)
    with pytest.raises(ConfigError, match="nothing to split"):
        TemporalConfig(valid_fraction=0.5, test_fraction=0.5)
