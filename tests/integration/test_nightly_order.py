"""Nights out of order: older ones, missed ones, those after a rollback, and between trainings."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable

from lightsans.config import NightlyTrainConfig, RunConfig
from lightsans.config.score import TableConfig
from lightsans.errors import ConfigError, GateError
from lightsans.storage.manifest_kinds import RunManifest
from lightsans.storage.manifests import require_manifest
from pipelines.nightly.catch_up import run_missed_nights
from pipelines.nightly.stage import NightlyResult, run_nightly
from pipelines.publish import publish_run, resume, roll_back
from tests.integration.conftest import TwoNights
from tests.nights import FIRST, SECOND, THIRD, latest, published_of, unpublished, with_nightly


@pytest.fixture(scope="module")
def config(two_nights: TwoNights) -> RunConfig:
    return two_nights.config


@pytest.fixture(scope="module")
def first(two_nights: TwoNights) -> NightlyResult:
    return two_nights.first


@pytest.fixture(scope="module")
def second(two_nights: TwoNights) -> NightlyResult:
    return two_nights.second


@pytest.fixture
def root(config) -> Path:
    """The root with both nights made and neither published."""
    return unpublished(config)


def report_of(root: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / f"reports/nightly-{name}.json").read_bytes())
    return found


def test_an_older_night_is_refused_or_made_without_publishing_it(config, root, first, second):
    run_nightly(config, SECOND)
    with pytest.raises(ConfigError, match=rf"--as-of {FIRST} is before {SECOND}T.*--force"):
        run_nightly(config, FIRST)
    assert latest(root) == second.run_id
    forced = run_nightly(config, FIRST, force=True)
    assert (forced.outcome, forced.run_id, latest(root)) == ("kept", first.run_id, second.run_id)
    assert f"a newer night is published, run {second.run_id}" in forced.reason
    # The newer model has learnt from what it would be tested on, so it is no yardstick.
    settings = {check["setting"] for check in forced.report.read_json()["checks"]}
    assert settings == {
        "nightly.min_users",
        "nightly.max_user_drop",
        "nightly.beat_baselines",
        "nightly.refit",
        "nightly.min_refit_overlap",
        "nightly.max_coverage_drop",
    }


def test_a_run_that_was_rolled_back_stays_so_when_its_night_is_started_again(
    config, root, first, second
):
    for date in (FIRST, SECOND):
        run_nightly(config, date)
    roll_back(published_of(config, root))
    with pytest.raises(ConfigError, match=rf"run {second.run_id} was rolled back at .*--force"):
        run_nightly(config, SECOND)
    assert latest(root) == first.run_id
    run_nightly(config, SECOND, force=True)
    assert latest(root) == second.run_id


def test_a_table_holds_what_is_published_and_nothing_that_is_kept(config, root, first, second):
    table = TableConfig(uri=f"delta://{root.parent}/lists", mode="replace")
    with_table = replace(config, score=replace(config.score, table=table))
    run_nightly(config, SECOND)
    run_nightly(with_table, FIRST, force=True)
    assert not (root.parent / "lists").exists()
    run_nightly(with_table, SECOND)  # published before, and the table did not get to know
    run_nightly(with_table, SECOND)
    found = DeltaTable(root.parent / "lists")
    rows = found.to_pyarrow_table()
    assert set(rows["run_id"].to_pylist()) == {second.run_id}
    assert set(rows["as_of"].to_pylist()) == {datetime.fromisoformat(second.as_of)}
    assert (rows.num_rows, found.version()) == (500, 0)


def test_a_night_needs_a_date(config):
    with pytest.raises(ConfigError, match="which night"):
        run_nightly(config)
    with pytest.raises(ConfigError, match="yesterday"):
        run_nightly(config, "yesterday")


def test_between_trainings_the_published_model_scores_todays_histories(config, root, second):
    for date in (FIRST, SECOND):
        run_nightly(config, date)
    policy = NightlyTrainConfig(every_nights=7, if_metric_drops=0.9, if_vocabulary_grows=None)
    weekly = with_nightly(config, train=policy)
    kept = run_nightly(weekly, THIRD)
    assert (kept.outcome, kept.model_id) == ("published", second.model_id)
    assert kept.refit_model_id == second.refit_model_id
    assert kept.dataset_id != second.dataset_id
    run = require_manifest(RunManifest, kept.location, "")
    # Whoever did something since has a new list; the others keep theirs.
    assert run.since == second.run_id
    assert 0 < run.carried_users < run.users == 500
    report = kept.report.read_json()
    assert [entry["decided"] for entry in report["decisions"]] == [
        f"model {second.refit_model_id} is kept"
    ]
    assert "nightly.beat_baselines" in {check["setting"] for check in report["checks"]}
    again = run_nightly(weekly, THIRD)
    assert (again.outcome, again.run_id) == ("unchanged", kept.run_id)


def test_after_a_rollback_nights_are_made_and_kept_until_the_operator_says_so(
    config, root, first, second
):
    run_nightly(config, FIRST)
    elsewhere = replace(config, score=replace(config.score, k=5))
    withdrawn = run_nightly(elsewhere, SECOND)
    roll_back(published_of(config, root))
    kept = run_nightly(config, SECOND)
    assert (kept.outcome, kept.run_id, latest(root)) == ("kept", second.run_id, first.run_id)
    assert f"run {withdrawn.run_id} was rolled back" in kept.reason
    # The report of the night that was published says what it said.
    assert report_of(root, SECOND)["run_id"] == withdrawn.run_id
    assert report_of(root, f"{SECOND}.2")["outcome"] == "kept"
    assert resume(published_of(config, root)) is not None
    assert resume(published_of(config, root)) is None
    assert latest(root) == first.run_id
    with pytest.raises(ConfigError, match=f"run {withdrawn.run_id} was rolled back"):
        run_nightly(elsewhere, SECOND)
    assert run_nightly(config, SECOND).outcome == "published"
    # And back again: the chain of publications has no hole.
    assert roll_back(published_of(config, root)).run_id == first.run_id


def test_a_publication_by_hand_lets_nights_publish_again(config, root, first, second):
    for date in (FIRST, SECOND):
        run_nightly(config, date)
    roll_back(published_of(config, root))
    assert published_of(config, root).waiting is not None
    publish_run(published_of(config, root), second.run_id)
    assert published_of(config, root).waiting is None
    assert run_nightly(config, SECOND).outcome == "unchanged"


def test_a_later_try_leaves_the_report_of_a_published_night_as_it_is(config, root, second):
    run_nightly(config, SECOND)
    before = report_of(root, SECOND)
    assert (before["outcome"], before["run_id"]) == ("published", second.run_id)
    for _ in range(2):
        with pytest.raises(GateError):
            run_nightly(with_nightly(config, floors={"hit@10": 1.5}), SECOND)
    assert report_of(root, SECOND) == before
    assert report_of(root, f"{SECOND}.2")["outcome"] == "refused"
    assert not (root / f"reports/nightly-{SECOND}.3.json").exists()


def test_a_night_that_crashes_leaves_a_report_with_its_run(config, root, second):
    def crash() -> None:
        raise OSError("the disk is on fire")

    with pytest.raises(OSError, match="on fire"):
        run_nightly(config, SECOND, before_publish=crash)
    report = report_of(root, SECOND)
    assert (report["outcome"], report["run_id"]) == ("failed", second.run_id)
    assert "the disk is on fire" in str(report["reason"])
    assert run_nightly(config, SECOND).outcome == "published"
    assert report_of(root, SECOND)["outcome"] == "published"


def test_a_log_that_no_longer_arrives_is_refused(config, root):
    stale = with_nightly(config, max_age=0.4)
    with pytest.raises(GateError, match=r"age in days of the newest row, .*nightly\.max_age"):
        run_nightly(stale, FIRST)  # rows come every twelve hours
    assert run_nightly(with_nightly(config, max_age=0.6), FIRST).outcome == "published"


def test_a_date_that_is_still_to_come_needs_force(config, root):
    now = datetime(2025, 11, 5, 23, 59, tzinfo=UTC)
    with pytest.raises(ConfigError, match=f"--as-of {SECOND} is still to come: it is 2025-11-05"):
        run_nightly(config, SECOND, now=now)
    assert run_nightly(config, FIRST, now=now).outcome == "published"
    assert run_nightly(config, SECOND, now=now, force=True).outcome == "published"


def test_missed_nights_are_run_in_order_and_the_oldest_passed_over(config, root, first, second):
    publish_run(published_of(config, root), first.run_id, "nightly")
    one = with_nightly(config, catch_up=1)
    assert [night.run_id for night in run_missed_nights(one, THIRD)] == [second.run_id]
    assert latest(root) == second.run_id
    assert run_missed_nights(one, THIRD) == []
    assert run_missed_nights(with_nightly(config, catch_up=0), "2025-11-09") == []
    assert [report_of(root, f"2025-11-0{day}")["outcome"] for day in (7, 8)] == ["skipped"] * 2
