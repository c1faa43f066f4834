"""Checks of the settings of scoring."""

import pytest

from lightsans.config import ScoreConfig
from lightsans.errors import ConfigError


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"score\.min_workers=3 is more than"):
        ScoreConfig(min_workers=3, num_workers=2)
    with pytest.raises(ConfigError, match=r"partition_by=rank needs score\.layout=long"):
        ScoreConfig(partition_by="rank")
