"""Checks across the sections of a run."""

import pytest

from lightsans import ConfigError
from lightsans.config import RunConfig
from lightsans.config.file import load_config

SPAN = "train.target_span=5"
EVENTS = ("data.columns.event=3", "data.events={buy: {input: true, target: true}}")


@pytest.mark.parametrize("attention", ["masked", "reference"])
def test_a_span_of_targets_needs_prefixes_that_are_trained_together(attention):
    with pytest.raises(ConfigError, match=rf"target_span=5 needs .*causal, found {attention}"):
        load_config(None, [SPAN, f"model.attention={attention}"])


def test_a_span_of_targets_does_not_go_with_events():
    with pytest.raises(ConfigError, match=r"target_span=5 does not go with data\.events"):
        load_config(None, [SPAN, *EVENTS])


@pytest.mark.parametrize("settings", [[], [SPAN], EVENTS], ids=str)
def test_each_of_them_alone_is_a_run(settings: list[str]):
    assert isinstance(load_config(None, settings).config, RunConfig)


def test_a_span_has_an_item():
    with pytest.raises(ConfigError, match=r"train\.target_span=0 .*1"):
        load_config(None, ["train.target_span=0"])
