"""Rules are checked strictly, and what is wrong in one is said with its place."""

import pytest

from lightsans.config.file import from_dict, parse_config
from lightsans.config.marks import named_paths, to_dict
from lightsans.errors import ConfigError

BEGIN = "score:\n  k: 20\n  item_table: items.csv\n  eligible_column: keep\n  rules:\n    "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "caps: [{column: b, at_mot: 1, first: 2}]",
            "unknown setting score.rules.caps[0].at_mot (f.yaml:6); did you mean at_most?",
        ),
        ("caps: [{column: b, first: 2}]", "score.rules.caps[0].at_most is missing (f.yaml:6)"),
        ("caps: [{column: 3, at_most: 1, first: 2}]", "score.rules.caps[0].column is 3 (f.yaml:6)"),
        ("caps: [{column: b, at_most: 5, first: 5}]", "which at_most=5 cannot change"),
        ("boosts: [3]", "expected a list of rules with column, recent_days, values, weight"),
        ("boosts: {column: a}", "needs either values, such as {acme: 0.5}, or a weight"),
        ("boosts: {column: a, weight: .inf}", "give a finite number"),
        ("boosts: {weight: 1}", "a boost needs either column, one of score.item_table, or recent_"),
        ("boosts: {column: a, recent_days: 7, weight: 1}", "found column=a and recent_days=7"),
        ("boosts: {recent_days: 0, weight: 1}", "needs a number of days from 1 to 36,525"),
        ("boosts: {recent_days: 7}", "recent_days=7 needs a weight, such as 1.0, and no values"),
        ("boosts: {recent_days: 7, values: {a: 1}}", "needs a weight, such as 1.0, and no values"),
        (
            "quotas: {group: {column: a, values: [x]}, at_least: 3, first: 2}",
            "at_least=3 must be from 1 to first=2",
        ),
        (
            "quotas: [{group: {items: f}, at_least: 2, first: 3}, "
            "{group: {items: g}, at_least: 2, first: 3}]",
            "want 4 items among the first 3",
        ),
        ("quotas: {group: {column: a}, at_least: 1, first: 2}", "needs either values, or min or"),
        ("segments: {users: u, deny: {x: 1}}", "unknown setting score.rules.segments[0].deny.x"),
        ("segments: {users: u}", "needs either allow or deny"),
        ("segments: {users: '', deny: {items: f}}", "a rule needs users"),
        (
            "pins: {item: 7, position: 1}",
            "pins[0].item is 7 (f.yaml:6); input should be a valid string; put it",
        ),
        ("pins: {item: a, position: 0}", "1 is the first and -1 the last"),
        ("pins: {item: a, position: 21}", "which a list of score.k=20 items does not have"),
        (
            "pins: [{item: a, position: 20}, {item: b, position: -1}]",
            "a and b both have place 20",
        ),
        ("pins: [{item: a, position: 1}, {item: a, position: 2}]", "has item a twice"),
        ("diversity: {weight: 2}", "score.rules.diversity.weight=2.0 is not between 0 and 1"),
    ],
)
def test_a_mistake_in_a_rule_is_named(text, message):
    with pytest.raises(ConfigError) as raised:
        parse_config(BEGIN + text, "f.yaml")
    assert message in str(raised.value)


def test_rules_by_a_column_need_a_table_and_a_table_needs_something_to_do():
    caps = "score.rules.caps={column: brand, at_most: 1, first: 2}"
    with pytest.raises(ConfigError, match=r"set score\.item_table to the table"):
        parse_config("", "", [caps])
    with pytest.raises(ConfigError, match="has no effect without"):
        parse_config("", "", ["score.item_table=items.csv"])
    assert parse_config("", "", [caps, "score.item_table=items.csv"]).config.score.rules.caps


def test_rules_are_read_back_as_they_are_and_name_their_files():
    config = parse_config(
        BEGIN
        + "segments: [{users: u.txt, allow: {items: i.txt}}]\n    "
        + "quotas: {group: {column: added, min: 2026-11-01}, at_least: 1, first: 2}\n    "
        + "boosts: {column: age, values: {'18': 1}}",
        "f.yaml",
    ).config
    assert from_dict(to_dict(config)) == config
    assert config.score.rules.quotas[0].group.min == "2026-11-01"
    files = [path for name, path in named_paths(config) if name == "score.rules.segments"]
    assert files == ["u.txt", "i.txt"]
