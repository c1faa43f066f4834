"""Whatever ``--set`` and a configuration file hold: a configuration, or an error that says why."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightsans.config import RunConfig
from lightsans.config.file import load_config, parse_config
from lightsans.config.run import SECTIONS, setting_names
from lightsans.config.yaml_text import read_yaml
from lightsans.errors import ConfigError

NAMES = st.sampled_from([*setting_names(), *sorted(SECTIONS), "model.num_layers"])
SCALARS = st.sampled_from(
    [
        "1", "-1", "0.5", "1e999", ".inf", ".nan", "null", "~", "true", "text", "2001-01-01",
        "9" * 400, "9" * 5000, '"\\ud800"', '"\\U00110000"', "'", '"', "!!foo x", "!!binary aGk=",
        "!!int x", "!!int ''", "!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp x",
        "!!timestamp 2001-01-01", "!!python/object:a b", "!!float z", "!!bool z", "!!map x",
        "!!seq x", "!!null x", "!<tag:yaml.org,2002:int> z", "&a 1", "*a", "? 1", "- 1", "|", "%",
        "@", "`", "\x00", "\x85", "=", "<<", "1_000", "0x1f", "0b1", "1:30",
    ]
)  # fmt: skip
TEXTS = st.text(st.sampled_from("[]{}:,!&*?|>-'\"%@`# \\ax1.~<="), max_size=12)


def nested(values):
    return st.one_of(
        st.lists(values, max_size=3).map(lambda found: f"[{', '.join(found)}]"),
        st.lists(st.tuples(values, values), max_size=2).map(
            lambda found: f"{{{', '.join(f'{key}: {value}' for key, value in found)}}}"
        ),
        values.map(lambda value: f"{{? {value} : 1}}"),
        values.map(lambda value: f"&a [{value}, *a]"),
    )


VALUES = st.recursive(st.one_of(SCALARS, TEXTS), nested, max_leaves=5)
OVERRIDES = st.one_of(
    st.builds(lambda name, value: f"{name}={value}", NAMES, VALUES),
    st.builds(lambda name, value: f"{name}={value}", TEXTS, VALUES),
    TEXTS,
)


def caught(read):
    """What a call returns, or the error it raises for its user."""
    try:
        return read()
    except ConfigError as error:
        return error


def accept_or_say_why(read):
    found = caught(read)
    assert str(found).strip() if isinstance(found, ConfigError) else isinstance(found, RunConfig)


@given(st.lists(OVERRIDES, min_size=1, max_size=3))
@example(["data.input=[!!foo x]"])
@example(["tune.space={? [a] : 1}"])
@example(["data.input=[!!binary aGk=]"])
@example(["nightly.floors={!!binary aGk= : 1}"])
@example(["nightly.floors={!!timestamp 2001-01-01 : 1}"])
@example(["tune.space=&a {x: *a}"])
@example(["data.input=" + "[" * 3000])
@example(["train.seed=" + "9" * 5000])
@example(['root="\\ud800"'])
@example(['root="\\U00110000"'])
@example(["data={[a]: 1}"])
@example(["train=!!foo x"])
def test_any_override_is_taken_or_refused_with_a_reason(overrides):
    accept_or_say_why(lambda: load_config(None, overrides).config)


@given(NAMES, VALUES)
@example("tune.space", "{? [a] : 1}")
@example("nightly.floors", "{!!timestamp 2001-01-01 : 1}")
@example("train.seed", "9" * 5000)
@example("data.input", "[" * 3000)
@example("root", '"\\ud800"')
def test_any_file_is_taken_or_refused_with_a_reason(name, value):
    section, _, leaf = name.rpartition(".")
    text = f"{leaf}: {value}\n"
    for part in reversed(section.split(".") if section else []):
        text = f"{part}:\n" + "".join(f"  {line}\n" for line in text.split("\n"))
    accept_or_say_why(lambda: parse_config(text, "run.yaml").config)


@given(VALUES)
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
