"""Whatever ``--set`` and a configuration file hold: a configuration, or an error that says why."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightsans.config import RunConfig
from lightsans.config.file import load_config, parse_config
from lightsans.config.yaml_text import read_yaml
from lightsans.errors import ConfigError
from tests import strategies


def caught(read):
    """Result of a call, or the error that it raises for its user."""
    try:
        return read()
    except ConfigError as error:
        return error


def accept_or_say_why(read):
    found = caught(read)
    assert str(found).strip() if isinstance(found, ConfigError) else isinstance(found, RunConfig)


@given(st.lists(strategies.OVERRIDES, min_size=1, max_size=3))
@example(["data.input=[!!foo x]"])
@example(["tune.space={? [a] : 1}"])
@example(["data.input=[!!binary aGk=]"])
@example(["nightly.floors={!!binary aGk= : 1}"])
@example(["nightly.floors={!!timestamp 2001-01-01 : 1}"])
@example(["tune.space=&a {x: *a}"])
@example(["data.input=" + "[" * 1000])
@example(["train.seed=" + "9" * 5000])
@example(['root="\\ud800"'])
@example(['root="\\U00110000"'])
@example(["data={[a]: 1}"])
@example(["train=!!foo x"])
def test_any_override_is_taken_or_refused_with_a_reason(overrides):
    accept_or_say_why(lambda: load_config(None, overrides).config)


@given(strategies.SETTING_NAMES, strategies.YAML_VALUES)
@example("tune.space", "{? [a] : 1}")
@example("nightly.floors", "{!!timestamp 2001-01-01 : 1}")
@example("train.seed", "9" * 5000)
@example("data.input", "[" * 1000)
@example("root", '"\\ud800"')
def test_any_file_is_taken_or_refused_with_a_reason(name, value):
    section, _, leaf = name.rpartition(".")
    text = f"{leaf}: {value}\n"
    for part in reversed(section.split(".") if section else []):
        text = f"{part}:\n" + "".join(f"  {line}\n" for line in text.split("\n"))
    accept_or_say_why(lambda: parse_config(text, "run.yaml").config)


@given(strategies.YAML_VALUES)
def test_any_file_of_a_search_space_is_read_or_refused_with_a_reason(text):
    found = caught(lambda: read_yaml(text, "space.yaml"))
    assert not isinstance(found, ConfigError) or str(found).startswith("space.yaml: ")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("data.input=[!!foo x]", "could not determine a constructor for the tag"),
        ("tune.space={? [a] : 1}", "found unhashable key"),
        ("nightly.floors={1: 0.5}", "found the key 1, expected a text"),
        ("data.input=[!!timestamp 2001-01-01]", "found a date"),
    ],
)
def test_an_override_that_is_no_value_is_named_with_the_reason(override, reason):
    with pytest.raises(ConfigError) as refused:
        load_config(None, [override])
    assert str(refused.value).startswith(f"--set {override}: ")
    assert reason in str(refused.value)
