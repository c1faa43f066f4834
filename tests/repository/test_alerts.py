"""Alert rules, dashboard and runbook: each names figures, alerts and statuses that there are."""

import json
import os
import re
import shutil
import subprocess
from itertools import combinations
from typing import get_args

import pytest
import yaml

from lightsans.reports.run_figures import FIGURES
from pipelines.console.exit_status import ExitStatus
from pipelines.operations.attempts import Outcome
from pipelines.operations.gauges import GAUGES
from tests.commands import ROOT

ALERTS = yaml.safe_load((ROOT / "cluster/alerts.yaml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((ROOT / "cluster/dashboard.json").read_text(encoding="utf-8"))
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
NEWEST = "lightsans:newest_night_end_timestamp_seconds"
PANELS = DASHBOARD["panels"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in PANELS for target in panel["targets"]
]
VALUES = {
    "outcome": set(get_args(Outcome)),
    "scorer": {"model", "published", "popular", "popular_recent", "successor"},
    "end": {"value", "low", "high"},
    "figure": set(FIGURES),
    "metric": {"ndcg@10", "hit@10", "mrr@10", "$metric"},
}
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")


def named(expression):
    """Names of figures in an expression: gauges without Ray's prefix, and recorded ones."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"\blightsans:\w+|(?<=\bray_)lightsans_\w+|\blightsans_\w+", plain))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_figure_that_is_named_exists(expression):
    found = named(expression)
    assert found
    assert found <= GAUGES.keys() | RECORDED.keys()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_value_of_a_label_may_come_up(expression):
    for label, values in re.findall(r'(\w+)=~?"([^"]*)"', expression):
        if label != "root":
            assert set(values.split("|")) <= VALUES[label], label


def test_a_figure_that_does_not_exist_would_be_found():
    assert named('ray_lightsans_made_up{a="lightsans_b"} > lightsans:c') == {
        "lightsans_made_up",
        "lightsans:c",
    }


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_recorded_holds_the_last_value_of_the_file_and_of_ray(name):
    from_file = re.findall(r"last_over_time\((lightsans_\w+)\[", RECORDED[name])
    from_ray = re.findall(r"last_over_time\(ray_(lightsans_\w+)\[", RECORDED[name])
    assert from_file == from_ray != []


@pytest.mark.parametrize("name", sorted(set(RECORDED) - {NEWEST}))
def test_of_several_nights_that_are_held_the_newest_counts(name):
    if name.endswith("_timestamp_seconds"):  # the newest is the largest
        assert NEWEST not in RECORDED[name]
    else:
        held = len(re.findall(r"last_over_time\(lightsans_", RECORDED[name]))
        assert len(re.findall(NEWEST, RECORDED[name])) == held


def test_every_alert_is_urgent_or_not_and_says_what_is_wrong_and_where():
    alerts = [rule for rule in RULES if "alert" in rule]
    assert len(alerts) == len({rule["alert"] for rule in alerts}) >= 10
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert "{{ $labels.root }}" in rule["annotations"]["description"], rule["alert"]
        assert rule["annotations"]["summary"]
        assert (ROOT / rule["annotations"]["runbook"]).exists()


def test_the_runbook_has_a_line_for_every_alert_and_none_for_others():
    lines = re.findall(r"^\| `(LightSANs\w+)` \| (.+) \| (.+) \|$", RUNBOOK, re.MULTILINE)
    assert [name for name, _, _ in lines] == [rule["alert"] for rule in RULES if "alert" in rule]


def test_the_runbook_has_a_line_for_every_exit_status_and_outcome():
    lines = re.findall(r"^\| (\d+) \| (.+?) \|", RUNBOOK, re.MULTILINE)
    assert [int(status) for status, _ in lines] == sorted(ExitStatus)
    outcomes = set(re.findall(r"`(\w+)`", " ".join(cell for _, cell in lines)))
    assert outcomes == set(get_args(Outcome)) - {"running"}


def test_panels_have_titles_and_a_data_source_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) >= 10
    for panel in PANELS:
        assert panel["title"]
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_variables_of_the_dashboard_are_those_that_its_panels_use():
    declared = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS)))
    assert used == declared


# ---- by Prometheus itself


FIRING = [
    ("LightSANsNoNight", "28h", True),
    ("LightSANsNoNight", "20h", False),
    ("LightSANsRowsRejected", "1h", True),
    ("LightSANsUsersFell", "1h", False),
    ("LightSANsUsersFell", "30h", True),
    ("LightSANsNightFailed", "4h", True),
    ("LightSANsNightFailed", "30h", False),
    ("LightSANsNightRefused", "30h", False),
    ("LightSANsNightRefused", "49h", True),
    ("LightSANsNightInterrupted", "49h", False),
]
"""Alert, time, and whether it fires then on these series, a value a minute."""


def night_of(worker, minute, ended, outcome):
    """Series of a night on a cluster: an hour of its own exporter."""
    who = f'root="s", WorkerId="{worker}"'
    found = {f"ray_lightsans_night_end_timestamp_seconds{{{who}}}": ended}
    for each in ("failed", "published", "refused"):
        found[f'ray_lightsans_night_outcome{{{who}, outcome="{each}"}}'] = int(each == outcome)
    return {series: f"_x{minute} {value}x60" for series, value in found.items()}


SERIES = {
    'ray_lightsans_night_success_timestamp_seconds{root="r"}': "0x60 _x3000",
    'lightsans_night_end_timestamp_seconds{root="r"}': "1x3000",
    'lightsans_night_rows_rejected{root="r"}': "10x3000",
    'lightsans_night_rows_read{root="r"}': "100x3000",
    'lightsans_night_users{root="r"}': "1000x1440 700x1560",
    # On a cluster: a night that failed, a good one a day later, one that was refused after two.
    **night_of("a", 60, 10, "failed"),
    **night_of("b", 1500, 20, "published"),
    **night_of("c", 2900, 30, "refused"),
}


def expected(name, at, is_firing):
    [rule] = [rule for rule in RULES if rule.get("alert") == name]
    labels = {**rule["labels"], "root": "r"}
    if found := re.search(r'night_outcome{outcome="(\w+)"}', rule["expr"]):
        labels |= {"root": "s", "outcome": found[1]}
    fired = [{"exp_labels": labels, "exp_annotations": {"summary": name}}] if is_firing else []
    return {"eval_time": at, "alertname": name, "exp_alerts": fired}


def with_short_words(rules):
    """The rules with annotations that hold no values."""
    return [
        {**rule, "annotations": {"summary": rule["alert"]}} if "alert" in rule else rule
        for rule in rules
    ]


@pytest.mark.skipif(PROMTOOL is None, reason="needs Prometheus' promtool (or PROMTOOL=/path)")
def test_prometheus_takes_the_rules_and_they_fire_when_they_should(tmp_path):
    assert PROMTOOL is not None
    groups = [{**group, "rules": with_short_words(group["rules"])} for group in ALERTS["groups"]]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
        "alert_rule_test": [expected(*case) for case in FIRING],
    }
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(content))
    for words in (["check", "rules", ROOT / "cluster/alerts.yaml"], ["test", "rules", "test.yaml"]):
        done = subprocess.run([PROMTOOL, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
