"""Checks of the settings of input and preprocessing."""

from dataclasses import replace

import pytest

from lightsans.config import ColumnsConfig, DataConfig, EventConfig, TemporalConfig
from lightsans.config.marks import Mark, recorded_value, values_with
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


BUY = EventConfig(input=True, target=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"events": {"buy": BUY}}, "need each other"),
        ({"columns": ColumnsConfig(event="what")}, "need each other"),
        ({"events": {"buy": EventConfig(target=True)}}, "has no input"),
        ({"events": {"buy": EventConfig(input=True)}}, "has no target"),
        ({"events": {" buy": BUY}}, "blanks"),
        ({"events": {"buy": replace(BUY, weight=0)}}, "is not above 0"),
        ({"events": {"buy": BUY, "view": EventConfig(weight=2)}}, "is no target: nothing weighs"),
        ({"events": {"buy": BUY}, "min_rating": 3}, "exclude each other"),
        ({"events": {f"e{i}": BUY for i in range(101)}}, "the most is 100"),
        ({"columns": ColumnsConfig(event="item_id"), "events": {"buy": BUY}}, "a column twice"),
    ],
)
def test_events_that_make_no_sense_are_refused(settings, said):
    column = {} if said == "need each other" else {"columns": ColumnsConfig(event="what")}
    with pytest.raises(ConfigError, match=said):
        DataConfig(**{**column, **settings})


def test_ids_and_bases_of_before_know_no_events():
    assert values_with(DataConfig(), Mark.CONTENT)["columns"] == {
        "user": "user_id", "item": "item_id", "timestamp": "timestamp", "rating": "rating"
    }  # fmt: skip
    assert "events" not in values_with(DataConfig(), Mark.CONTENT)
    named = DataConfig(columns=ColumnsConfig(event="what"), events={"buy": BUY})
    found = values_with(named, Mark.CONTENT)
    assert found["events"] == {"buy": {"input": True, "target": True, "seen": False, "weight": 1.0}}
    assert "'event': 'what'" in str(found["columns"])
    before = {"columns": {"user": "u", "item": "i", "timestamp": "t", "rating": None}}
    assert recorded_value(DataConfig, before, "columns") == {**before["columns"], "event": None}
    assert recorded_value(DataConfig, before, "events") == {}


@pytest.mark.parametrize("name", ["klingon", "base64", "idna", "punycode", "undefined"])
def test_what_is_no_encoding_of_text_is_refused(name):
    with pytest.raises(ConfigError, match=rf"data.encoding='{name}' is unknown"):
        DataConfig(encoding=name)
