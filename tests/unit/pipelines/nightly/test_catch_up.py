"""Which nights were missed, and which of them are run: decided on dates and reports."""

from datetime import datetime

import pytest

from lightsans.config import DataConfig, RunConfig
from lightsans.config.file import load_config
from lightsans.errors import ConfigError, GateError
from lightsans.storage.location import locate
from lightsans.storage.manifests import write_manifest
from pipelines.nightly.catch_up import Missed, find_missed, night_before, run_missed_nights
from pipelines.nightly.dates import moment_of_night
from pipelines.nightly.draft import ReportDraft
from pipelines.nightly.report import read_night_report
from pipelines.publish import LATEST, publish_run, read_published, roll_back
from tests.manifests import dataset_manifest, run_manifest


def moment_of(text: str) -> datetime:
    return moment_of_night(DataConfig(as_of=text))


@pytest.fixture
def config(tmp_path) -> RunConfig:
    """A root in which the night of the first of November is published."""
    config = load_config(None, [f"root={tmp_path}/root"]).config
    root = locate(config.root, config.storage)
    data = {"as_of": "2025-11-01", "timezone": "UTC", "split": "leave_one_out"}
    write_manifest(root / "datasets" / "d", dataset_manifest(data=data))
    write_manifest(root / "recommendations" / "run", run_manifest("run"))
    publish_run(read_published(root), "run", "nightly")
    return config


def published(config):
    return read_published(locate(config.root, config.storage))


@pytest.mark.parametrize(
    ("as_of", "days", "date"),
    [
        ("2025-11-05", 1, "2025-11-04"),
        ("2025-03-01", 1, "2025-02-28"),
        ("2025-11-05T04:30", 2, "2025-11-03T04:30:00"),
        ("2025-11-05T00:00:00Z", 1, "2025-11-04T00:00:00+00:00"),
    ],
)
def test_the_night_before_is_written_like_tonight(as_of, days, date):
    assert night_before(as_of, days) == date


def test_days_since_the_newest_published_night_are_missed_and_the_newest_are_run(config):
    def nothing(text):
        return {}

    now = published(config)
    assert find_missed("2025-11-02", now, moment_of, nothing, 7) == Missed((), ())
    assert find_missed("2025-11-05", now, moment_of, nothing, 2) == Missed(
        ("2025-11-02",), ("2025-11-03", "2025-11-04")
    )
    # A backfill has missed nothing, nor has the first night of all.
    assert find_missed("2025-10-09", now, moment_of, nothing, 7) == Missed((), ())
    nobody = read_published(locate(config.root, config.storage) / "elsewhere")
    assert find_missed("2025-11-05", nobody, moment_of, nothing, 7) == Missed((), ())


def test_a_night_that_was_withdrawn_was_not_missed_and_those_after_it_are_run(config):
    root = locate(config.root, config.storage)
    data = {"as_of": "2025-11-03", "timezone": "UTC", "split": "leave_one_out"}
    write_manifest(root / "datasets" / "later", dataset_manifest("later", data=data))
    write_manifest(root / "recommendations" / "two", run_manifest("two", dataset_id="later"))
    publish_run(read_published(root), "two", "nightly")
    roll_back(read_published(root))
    found = find_missed("2025-11-06", published(config), moment_of, lambda text: {}, 7)
    assert found == Missed((), ("2025-11-04", "2025-11-05"))


def publish_night(config, name, as_of):
    root = locate(config.root, config.storage)
    data = {"as_of": as_of, "timezone": "UTC", "split": "leave_one_out"}
    write_manifest(root / "datasets" / name, dataset_manifest(name, data=data))
    write_manifest(root / "recommendations" / name, run_manifest(name, dataset_id=name))
    publish_run(read_published(root), name, "nightly")


def test_a_date_by_mistake_that_was_withdrawn_hides_no_night_that_was_missed(config):
    publish_night(config, "typo", "2031-11-02")
    hidden = find_missed("2025-11-04", published(config), moment_of, lambda text: {}, 7)
    assert hidden == Missed((), ())  # a backfill
    roll_back(published(config))
    found = find_missed("2025-11-04", published(config), moment_of, lambda text: {}, 7)
    assert found == Missed((), ("2025-11-02", "2025-11-03"))


def test_missed_nights_are_run_in_order_and_a_refusal_holds_up_none(config):
    ran = []

    def run(config, as_of):
        ran.append(as_of)
        if as_of == "2025-11-03":
            raise GateError("not good enough")
        return as_of

    assert len(run_missed_nights(config, "2025-11-05", run=run)) == 2
    assert ran == ["2025-11-02", "2025-11-03", "2025-11-04"]


def test_what_is_passed_over_is_reported_and_not_missed_again(config):
    two = load_config(None, [f"root={config.root}", "nightly.catch_up=1"]).config
    ran = []

    def run(config, as_of):
        ran.append(as_of)

    run_missed_nights(two, "2025-11-04", run=run)
    root = locate(config.root, config.storage)
    report = read_night_report(root / "reports" / "nightly-2025-11-02.json")
    assert report is not None
    assert (report.outcome, report.run_id) == ("skipped", None)
    assert "nightly.catch_up" in str(report.reason)
    run_missed_nights(two, "2025-11-04", run=run)
    assert ran == ["2025-11-03", "2025-11-03"]  # it left no report here


def test_a_night_that_was_killed_before_latest_moved_is_missed(config):
    root = locate(config.root, config.storage)
    file = root / "reports" / "nightly-2025-11-02.json"
    draft = ReportDraft(file, moment_of("2025-11-02"), "run", {})
    draft.note(run_id="two")
    draft.write("published")
    reports = {file: read_night_report(file)}
    found = find_missed("2025-11-03", published(config), moment_of, lambda text: reports, 7)
    assert found == Missed((), ("2025-11-02",))
    # Nor is it made when it was killed between the history and LATEST.
    before = (root / "recommendations" / LATEST).read_bytes()
    publish_night(config, "two", "2025-11-02")
    (root / "recommendations" / LATEST).write_bytes(before)
    found = find_missed("2025-11-03", published(config), moment_of, lambda text: reports, 7)
    assert found == Missed((), ("2025-11-02",))


def test_days_are_counted_back_from_an_iso_date(config):
    with pytest.raises(ConfigError, match="which night"):
        run_missed_nights(config)
    with pytest.raises(ConfigError, match="is no date or time"):
        run_missed_nights(config, "yesterday")


def test_a_date_that_is_still_to_come_runs_nothing_before_it(config):
    def run(config, as_of):
        raise AssertionError(as_of)

    with pytest.raises(ConfigError, match="is still to come"):
        run_missed_nights(config, "2100-01-01", run=run)
