"""Backtests whose nights are made by hand: order, resumption, refusals, tables; no Ray."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from lightsans.config import to_dict
from lightsans.config.file import load_config
from lightsans.errors import ConfigError, GateError
from lightsans.ranking.bootstrap import Estimate
from lightsans.storage.manifests import write_manifest
from pipelines.backtest import stage
from pipelines.backtest.next_days import NextDays
from pipelines.backtest.pooled import NAMES, Gains, write_gains
from pipelines.backtest.report import measured_rows, night_rows, summary_rows, write_report
from pipelines.backtest.stage import Policy, backtest_config, run_backtest
from pipelines.commands.operations import parse_policies
from pipelines.operations.attempts import Figures, begin_attempt, ended, write_attempt
from pipelines.operations.listing import list_root
from pipelines.preprocess.stage import PreprocessResult
from pipelines.publish import publish_run, read_published
from pipelines.session.stage_times import StageTime
from tests.factories import local
from tests.manifests import dataset_manifest, run_manifest

DATES = ["2026-11-05", "2026-11-06", "2026-11-07"]
SHARE = Estimate(0.25, 0.2, 0.3)


def gains(*hits):
    """Users in groups of their own who have all metrics or none."""
    return Gains(np.arange(len(hits)), np.repeat(np.array(hits, float)[:, None], len(NAMES), 1))


class Nights:
    """Runs nights by writing what a real one leaves; refuses some dates, breaks at others."""

    def __init__(self, refused=(), broken=(), report=None):
        self.refused, self.broken, self.calls = refused, list(broken), []
        self.report = report

    def __call__(self, config, date):
        root = local(config.root)
        self.calls.append((root.name, date))
        if date in self.broken:
            self.broken.remove(date)
            raise RuntimeError("the machine is gone")
        write_manifest(root / "datasets" / f"d-{date}", dataset_manifest(data=to_dict(config.data)))
        stages = (StageTime("train", "model", "m", seconds=30),)
        figures = Figures(metrics={"ndcg@10": SHARE})
        begun = begin_attempt(date, datetime.fromisoformat(date).replace(tzinfo=UTC))
        made = replace(
            begun, dataset_id=f"d-{date}", stages=stages, figures=figures, report=self.report
        )
        if date in self.refused:
            write_attempt(root, ended(made, "refused", "1 of 3 checks failed\n  x", 3))
            raise GateError("1 of 3 checks failed")
        write_attempt(root, ended(made, "published", "", 0))
        (root / "recommendations" / "LATEST").write_bytes(f"run-{date}".encode())


@pytest.fixture
def measured(monkeypatch):
    """Calls of the measurement, which returns the same for all."""
    calls = []

    def measure(config, root, run_id, dataset_id, since_us):
        calls.append((root.name, run_id, dataset_id, since_us))
        hits = 4 if root.name == "one" else 3
        return NextDays(
            published=gains(*[1] * hits, *[0] * (4 - hits)),
            newcomers=gains(1),
            judged=gains(0, 0, 0, 1),
        )

    monkeypatch.setattr(stage, "measure_next_days", measure)
    return calls


@pytest.fixture
def policies(tmp_path):
    config = backtest_config(load_config(None, [f"root={tmp_path}", "data.input=x.csv"]).config)
    other = replace(config, nightly=replace(config.nightly, gate="strict"))
    return [
        Policy(name="one", config=config, settings=()),
        Policy(name="two", config=other, settings=("nightly.gate=strict",)),
    ]


def test_every_policy_runs_all_nights_in_order_in_a_root_of_its_own(policies, measured, tmp_path):
    nights = Nights()
    result = run_backtest(policies, DATES, "1d", nights)
    assert nights.calls == [(name, date) for name in ("one", "two") for date in DATES]
    assert [(night.policy, night.date) for night in result.nights] == nights.calls
    assert result.location.parent.uri == f"{tmp_path}/backtests"
    first = result.nights[0]
    assert (first.outcome, first.published) == ("published", "run-2026-11-05")
    assert first.stage_minutes == {"train": 0.5}
    assert first.root_bytes > 0


def test_lists_are_measured_with_the_data_of_the_next_night(policies, measured):
    result = run_backtest(policies[:1], DATES, "1d", Nights())
    midnight = int(datetime(2026, 11, 5, tzinfo=UTC).timestamp() * 1e6)
    assert measured[0] == ("one", "run-2026-11-05", "d-2026-11-06", midnight)
    assert len(measured) == 2
    assert [night.next_users for night in result.nights] == [4, 4, None]


def test_after_a_refit_lists_are_measured_with_the_dataset_that_knows_the_newest_items(
    policies, measured
):
    nights = Nights(report={"full_dataset_id": "everything"})
    run_backtest(policies[:1], DATES, "1d", nights)
    assert [call[2] for call in measured] == ["everything"] * 2


@pytest.mark.parametrize("is_new", [True, False])
def test_under_a_temporal_split_a_night_without_a_refit_is_measured_with_a_full_dataset_too(
    policies, measured, monkeypatch, is_new
):
    asked = []

    def make(config, dataset):
        asked.append((config.data.as_of, dataset.dataset_id))
        location = dataset.location.parent / "full"
        write_manifest(location, dataset_manifest("full"))
        return PreprocessResult("full", location, not is_new, dataset_manifest("full"))

    monkeypatch.setattr(stage, "full_dataset", make)
    result = run_backtest(policies[:1], DATES, "1d", Nights(refused=DATES[1:2]))
    assert asked == [(date, f"d-{date}") for date in DATES[1:]]
    assert [call[2] for call in measured] == ["full"] * 2
    # What was made to measure by is no part of the night.
    full = result.location / "one" / "datasets" / "full"
    assert (full / "manifest.json").exists() is not is_new


def test_lists_are_measured_before_a_later_night_may_remove_what_that_takes(policies, measured):
    class Cleaning(Nights):
        def __call__(self, config, date):
            (local(config.root) / "datasets").delete()
            super().__call__(config, date)

    run_backtest(policies[:1], DATES, "1d", Cleaning())
    assert len(measured) == 2


def test_a_backtest_cleans_without_waiting_for_hours_or_readers_once_lists_are_measured(
    policies, monkeypatch
):
    class Publishing(Nights):
        def __call__(self, config, date):
            super().__call__(config, date)
            (local(config.root) / "recommendations" / "LATEST").delete()
            made = run_manifest(f"run-{date}", dataset_id=f"d-{date}")
            write_manifest(local(config.root) / "recommendations" / made.id, made)
            publish_run(read_published(local(config.root)), made.id)

    def measure(config, root, run_id, dataset_id, since_us):
        assert (root / "recommendations" / run_id / "manifest.json").exists()
        return NextDays(published=gains(1), newcomers=gains())

    monkeypatch.setattr(stage, "measure_next_days", measure)
    config = policies[0].config
    cleaning = replace(
        config,
        nightly=replace(config.nightly, clean=True),
        clean=replace(config.clean, keep=1),
        score=replace(config.score, keep_published=1),
    )
    made = run_backtest([replace(policies[0], config=cleaning)], DATES, "1d", Publishing())
    root = made.location / "one"
    runs = [each for each in (root / "recommendations").children() if each.startswith("run-")]
    assert runs == [f"run-{DATES[-1]}"]
    assert (root / "datasets").children() == [f"d-{DATES[-1]}"]
    assert made.nights[-1].root_bytes == list_root(root).total_bytes()


def test_an_interrupted_backtest_goes_on_where_it_was(policies, measured):
    nights = Nights(broken=["2026-11-06"])
    with pytest.raises(RuntimeError, match="the machine is gone"):
        run_backtest(policies[:1], DATES, "1d", nights)
    result = run_backtest(policies[:1], DATES, "1d", nights)
    assert [date for _, date in nights.calls] == [DATES[0], DATES[1], DATES[1], DATES[2]]
    assert run_backtest(policies[:1], DATES, "1d", nights) == result
    assert len(nights.calls) == 4
    assert len(measured) == 2


def test_a_later_end_adds_nights_and_measures_the_one_that_was_last(policies, measured):
    nights = Nights()
    run_backtest(policies[:1], DATES[:2], "1d", nights)
    result = run_backtest(policies[:1], DATES, "1d", nights)
    assert len(nights.calls) == 3
    assert [night.next_users for night in result.nights] == [4, 4, None]


def test_other_settings_another_first_night_or_step_are_another_backtest(policies):
    places = {
        stage.backtest_location(chosen, first, every).name
        for chosen, first, every in (
            (policies, DATES[0], "1d"),
            (policies[:1], DATES[0], "1d"),
            (policies, DATES[1], "1d"),
            (policies, DATES[0], "1w"),
        )
    }
    assert len(places) == 4


def test_a_refused_night_stays_unpublished_and_the_backtest_goes_on(policies, measured):
    result = run_backtest(policies[:1], DATES, "1d", Nights(refused=DATES[1:2]))
    assert [night.outcome for night in result.nights] == ["published", "refused", "published"]
    assert result.nights[1].published == "run-2026-11-05"
    assert measured[1][1] == "run-2026-11-05"  # what readers had


def test_nobody_is_told_of_nights_of_the_past(tmp_path):
    settings = [f"root={tmp_path}", "nightly.notify_url=https://host/x", "data.as_of=2026-01-01"]
    made = backtest_config(load_config(None, [*settings, "nightly.metrics_file=/x.prom"]).config)
    assert not made.nightly.incremental
    assert backtest_config(made, incremental=True).nightly.incremental
    assert (made.nightly.notify_url, made.nightly.metrics_file, made.data.as_of) == (None,) * 3


def test_the_report_has_a_line_a_night_and_sums_a_policy(policies, measured):
    result = run_backtest(policies, DATES, "1d", Nights(refused=DATES[1:2]))
    content = write_report(result, policies, "ndcg@10")
    assert content == json.loads((result.location / "report.json").read_bytes())
    rows = list(csv.DictReader(io.StringIO((result.location / "nights.csv").read_bytes().decode())))
    assert len(rows) == 6
    assert (rows[0]["ndcg@10 value"], rows[2]["next_users"]) == ("0.25", "")
    assert (result.location / "report.png").read_bytes().startswith(b"\x89PNG")
    told = content["policies"]["one"]
    assert (told["published"], told["nights"], told["next_users"]) == (2, 3, 8)
    assert told["minutes"] >= 0
    assert told["processor_minutes"] >= 0
    assert int(rows[0]["processes"]) >= 1
    assert summary_rows(content)[1][:2] == ["two", "2 of 3"]
    shown = night_rows(result.nights, "ndcg@10")
    assert shown[1][2:4] == ["refused", "0.2500 [0.2000, 0.3000]"]
    assert shown[1][-1] == "1 of 3 checks failed"


def test_metrics_are_pooled_over_nights_and_policies_and_models_compared_in_pairs(
    policies, measured
):
    result = run_backtest(policies, DATES, "1d", Nights())
    content = write_report(result, policies, "ndcg@10")
    rows = {tuple(row[:2]): row[2:] for row in measured_rows(content)}
    users, *shown = rows["two", "published"]
    assert (users, shown[0][:6]) == ("8", "0.7500")  # four users of two nights, three hits each
    assert rows["one", "published"][1] == "1.0000 [1.0000, 1.0000]"
    assert rows["two", "published, lead over one"][1].startswith("-0.2500 [")
    assert ("one", "published, lead over one") not in rows
    assert rows["one", "fallback, of users without history"][0] == "2"
    assert rows["one", "judged model"][1][:6] == "0.2500"
    assert rows["one", "published, lead over judged model"][1][:6] == "0.7500"
    lead = content["policies"]["two"]["lead_over_first"]["first hit@10"]
    assert lead["low"] < lead["value"] < lead["high"]


def test_policies_that_served_other_users_are_not_compared(policies, measured):
    result = run_backtest(policies, DATES, "1d", Nights())
    file = result.location / "two" / "backtest" / "2026-11-05.next.parquet"
    write_gains(file, {"published": gains(1)})
    told = write_report(result, policies, "ndcg@10")["policies"]["two"]
    assert told["lead_over_first"] == {}


def test_policies_are_names_with_settings():
    texts = ["nightly", "weekly:nightly.floors={ndcg@10: 0.1}; train.epochs=3"]
    assert parse_policies(texts) == [
        ("nightly", []),
        ("weekly", ["nightly.floors={ndcg@10: 0.1}", "train.epochs=3"]),
    ]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a/b"], "is no name"),
        ([":x=1"], "is no name"),
        (["a", "a:x=1"], "given twice"),
        (["a:x"], "has no value"),
    ],
)
def test_policies_that_make_no_sense_are_refused(texts, words):
    with pytest.raises(ConfigError, match=words):
        parse_policies(texts)
