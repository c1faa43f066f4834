"""Oddities of an input: counts that add up, and what was added to those of a base."""

from collections import Counter

from lightsans.columns.findings import Findings, describe_findings, describe_repeats


def findings(scale):
    return Findings(
        missing={"user": Counter({"NA": 2 * scale}), "item": Counter({"NULL": scale})},
        padded=Counter(user=scale),
        padded_example={"user": " a"},
        unread_ratings=3 * scale,
        early=5 * scale,
        cut=scale,
        unread_where=Counter(price=scale),
    )


def test_what_was_added_to_a_base_is_the_difference():
    both = findings(2)
    both.add(findings(3))
    assert both == findings(5)
    assert both.since(findings(2)) == findings(3)
    assert findings(2).since(findings(2)) == Findings(padded_example={"user": " a"})
    assert Findings.from_dict(both.to_dict()) == both


def test_short_floats_of_a_base_are_told_once():
    assert Findings(step=128.0).since(Findings(step=128.0)).step == 0.0
    assert Findings(step=256.0).since(Findings(step=128.0)).step == 256.0


def test_a_share_of_early_times_names_the_first_where_it_is_known():
    [said] = describe_findings(Findings(early=3), 5, 4, "s", 10 * 10**6)
    assert "3 rows (75.00%) are from before 1990, the first of 1970-01-01T00:00:10+00:00;" in said
    assert "data.timestamp_unit=s" in said
    assert "Excel" in said
    [said] = describe_findings(Findings(early=3), 5, 4, "s", None)
    assert "before 1990; is data.timestamp_unit=s right" in said


def test_many_rows_that_repeat_others_are_told_with_the_settings_that_help():
    assert describe_repeats(0.049, has_events=False) is None
    said = describe_repeats(0.39, has_events=False)
    assert said is not None
    assert said.startswith("39.0% of the rows repeat user, item and time of another")
    assert "data.dedupe: last" in said
    assert "data.events" in said
    assert "data.events" not in str(describe_repeats(0.39, has_events=True))
