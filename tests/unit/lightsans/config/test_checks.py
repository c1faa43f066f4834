"""Checks of single values, whatever setting they are of."""

import pytest

from lightsans.config.file import parse_config
from lightsans.errors import ConfigError


@pytest.mark.parametrize("text", ["840218736450", "12e456789012", "12"])
def test_a_number_where_text_is_expected_is_told_with_the_way_out(text):
    with pytest.raises(ConfigError, match=r"expected text or null; put it in quotes"):
        parse_config(f"data: {{base: {text}}}", "debug.yaml")
    assert parse_config("", "", [f"data.input={text},a.csv"]).config.data.input == (text, "a.csv")
    for file, settings in ((f"data: {{base: '{text}'}}", []), ("", [f"data.base={text}"])):
        assert parse_config(file, "debug.yaml", settings).config.data.base == text


@pytest.mark.parametrize(
    "text",
    [
        "data:\n  events:\n    view: {input: true}\n    view: {seen: true}\n",
        "data:\n  events:\n    buy:\n      input: true\n\n      input: false\n",
        "nightly:\n  floors:\n    hit@10: 0.1\n    hit@10: 0.2\n",
    ],
)
def test_a_name_that_stands_twice_within_a_setting_is_an_error_with_both_lines(text):
    with pytest.raises(ConfigError, match=r"debug.yaml, line \d, .* is given twice, first in line"):
        parse_config(text, "debug.yaml")
