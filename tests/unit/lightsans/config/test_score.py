"""Checks of the settings of scoring."""

from typing import Any

import pytest

from lightsans.config import ScoreConfig
from lightsans.config.file import load_config
from lightsans.errors import ConfigError


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"score\.min_workers=3 is more than"):
        ScoreConfig(min_workers=3, num_workers=2)
    with pytest.raises(ConfigError, match=r"partition_by=rank needs score\.layout=long"):
        ScoreConfig(partition_by="rank")


@pytest.mark.parametrize("role", ["item", "user"])
def test_a_column_is_written_beside_lists_once(role):
    columns: dict[str, Any] = {
        f"{role}_table": "t.csv",
        f"{role}_columns": ("name", "year", "name"),
    }
    with pytest.raises(ConfigError, match=rf"score\.{role}_columns=.* names name twice; give"):
        ScoreConfig(**columns)


def test_items_to_buy_again_are_those_that_lists_leave_out():
    assert ScoreConfig(buy_again=3).buy_again == 3
    with pytest.raises(ConfigError, match=r"buy_again=3 needs items that score\.remove_seen takes"):
        ScoreConfig(buy_again=3, remove_seen=False)
    with pytest.raises(ConfigError, match="buy_again=-1"):
        ScoreConfig(buy_again=-1)


@pytest.mark.parametrize(
    "name",
    [
        *("score.readers_hours", "score.popular_days", "evaluate.popular_days", "nightly.catch_up"),
        *("clean.min_age_hours", "clean.unfinished_days"),
    ],
)
def test_a_span_that_no_calendar_has_is_refused_by_its_name(name):
    with pytest.raises(ConfigError, match=rf"{name}=\d+.* is too large; the most is"):
        load_config(None, [f"{name}=1000000000"])
