"""Items that a rule takes from users' lists, by hand, with and without events."""

from types import SimpleNamespace
from typing import Any

import pytest

from lightsans.columns.times import to_iso
from lightsans.config import DataConfig, EventConfig
from lightsans.config.marks import to_dict
from lightsans.config.score import ScoreConfig, SeenRule
from lightsans.errors import ConfigError
from lightsans.ranking.recent import DAY
from lightsans.stages.seen_rows import SeenRows
from tests.event_logs import Row, event_data, write_part

EVENTS = {
    "buy": EventConfig(input=True, target=True, seen=True),
    "like": EventConfig(seen=True),
    "view": EventConfig(input=True),
}
ROWS = [
    Row("a", 1, 0, "buy"),
    Row("a", 2, DAY, "view"),
    Row("a", 3, 2 * DAY, "like"),
    Row("a", 1, 9 * DAY, "like"),
    Row("b", 4, 10 * DAY, "buy"),
]


def manifest_of(data: DataConfig) -> Any:
    times = to_iso(0), to_iso(10 * DAY)
    return SimpleNamespace(id="d", data=to_dict(data), time_range=times)


def taken(path: Any, data: DataConfig, rule: bool | SeenRule) -> dict[str, set[int]]:
    part = write_part(path / "part-00000.parquet", ROWS, data)
    [rows] = SeenRows.of(rule, manifest_of(data)).read(part, 100)
    assert rows.column_names == ["user_id", "item_ids", "also_seen"]
    return {row["user_id"]: set(row["also_seen"]) for row in rows.to_pylist()}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (True, {1, 3}),
        (SeenRule(events=("buy",)), {1}),
        (SeenRule(events=("buy", "like")), {1, 3}),
        (SeenRule(days=5), {1}),  # liked a day before the newest row
        (SeenRule(days=5, events=("buy",)), set()),
        (SeenRule(days=8.5), {1, 3}),
        (SeenRule(days=7.5), {1}),
    ],
)
def test_seen_items_are_those_of_the_events_and_days(tmp_path, rule, expected):
    data = event_data(EVENTS)
    assert taken(tmp_path, data, rule) == {"a": expected, "b": {4}}
    assert not SeenRows.of(rule, manifest_of(data)).histories_are_seen


def test_without_events_days_look_at_the_history(tmp_path):
    """Item 1 was met again a day before the newest row."""
    assert taken(tmp_path, DataConfig(), SeenRule(days=5)) == {"a": {1}, "b": {4}}
    assert taken(tmp_path, DataConfig(), SeenRule(days=8.5)) == {"a": {1, 3}, "b": {4}}
    assert taken(tmp_path, DataConfig(), True) == {"a": set(), "b": set()}  # beside the history
    manifest = manifest_of(DataConfig())
    assert SeenRows.of(True, manifest).histories_are_seen
    assert not SeenRows.of(SeenRule(days=5), manifest).histories_are_seen
    short = taken(tmp_path, DataConfig(keep_last=1), SeenRule(days=1e4))
    assert short == {"a": {1, 2, 3}, "b": {4}}


def test_events_that_nobody_has_seen_are_refused():
    with pytest.raises(
        ConfigError, match="'bye'; seen in dataset d are buy, like; did you mean buy"
    ):
        SeenRows.of(SeenRule(events=("bye",)), manifest_of(event_data(EVENTS)))
    with pytest.raises(ConfigError, match=r"'view'.*give it seen: true"):
        SeenRows.of(SeenRule(events=("view",)), manifest_of(event_data(EVENTS)))
    with pytest.raises(ConfigError, match="seen in dataset d are no events"):
        SeenRows.of(SeenRule(events=("buy",)), manifest_of(DataConfig()))
    with pytest.raises(ConfigError, match="without days and events"):
        ScoreConfig(remove_seen=SeenRule())
    with pytest.raises(ConfigError, match=r"remove_seen\.days=0"):
        SeenRule(days=0)
