"""Attempts at nights: each has a record, and none changes another's."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lightsans.ranking.bootstrap import Estimate
from pipelines.operations.attempts import (
    Figures,
    attempts_of,
    begin_attempt,
    ended,
    is_at_work,
    night_dates,
    night_holder,
    night_of_report,
    read_attempts,
    telling_attempt,
    write_attempt,
)
from pipelines.session.lease import hold
from pipelines.session.stage_times import StageTime
from tests.factories import local

MOMENT = datetime(2026, 11, 5, tzinfo=UTC)


@pytest.fixture
def root(tmp_path):
    return local(tmp_path)


def attempt(date="2026-11-05"):
    return begin_attempt(date, MOMENT)


def test_a_clock_that_went_back_during_a_night_makes_it_no_shorter_than_nothing():
    begun = replace(attempt(), started_at="2099-01-01T00:00:00+00:00")
    assert ended(begun, "published", "", 0).seconds == 0


def test_an_attempt_is_read_back_as_it_was_written(root):
    figures = Figures(metrics={"ndcg@10": Estimate(value=0.1, low=0.05, high=0.15)}, users=7)
    stages = (StageTime("train", "model", "m", seconds=90.5, peak_bytes=1 << 30),)
    written = replace(attempt(), stages=stages, figures=figures, run_id="r")
    written = ended(written, "published", "", 0)
    write_attempt(root, written)
    assert read_attempts(root, "2026-11-05") == [written]
    assert written.seconds is not None
    assert written.id_of("model") == "m"
    assert written.id_of("run") is None


def test_each_try_of_a_date_has_a_record_of_its_own_oldest_first(root):
    tries = [ended(attempt(), outcome, "", 1) for outcome in ("failed", "published", "wrong")]
    for each in tries[::-1]:
        write_attempt(root, each)
    found = read_attempts(root, "2026-11-05")
    assert [each.outcome for each in found] == ["failed", "published", "wrong"]
    assert telling_attempt(found).outcome == "published"
    assert telling_attempt(found[:1]).outcome == "failed"


def test_one_who_found_another_at_work_does_not_stand_for_the_night():
    first, second = attempt(), attempt()
    refused, busy = ended(first, "refused", "below a floor", 3), ended(second, "busy", "", 4)
    assert telling_attempt([refused, busy]) == refused
    assert telling_attempt([first, busy]) == first  # at work still
    assert telling_attempt([busy]) == busy
    assert telling_attempt([refused, ended(second, "unchanged", "", 0)]).outcome == "unchanged"


def test_nights_are_listed_newest_first(root):
    for date in ("2026-11-05", "2026-11-07T120000", "2026-11-06"):
        write_attempt(root, attempt(date))
    assert night_dates(root) == ["2026-11-07T120000", "2026-11-06", "2026-11-05"]


def test_a_damaged_record_hides_no_other(root):
    write_attempt(root, attempt())
    (attempts_of(root, "2026-11-05") / "00.json").write_bytes(b"{")
    (attempts_of(root, "2026-11-05") / "01.json").write_bytes(b'{"id": 7}')
    (attempts_of(root, "2026-11-05") / "02.json" / "what").write_bytes(b"a directory")
    assert len(read_attempts(root, "2026-11-05")) == 1


@pytest.mark.parametrize(
    ("name", "night"),
    [
        ("nightly-2026-11-05.json", "2026-11-05"),
        ("nightly-2026-11-05T040000.2.json", "2026-11-05T040000"),
        ("nightly-2026-11-05.inputs.json", None),
        ("nightly-2026-11-05 (1).json", None),
        ("nightly-.json", None),
        ("nightly-2026-11-05.html", None),
    ],
)
def test_other_files_are_no_reports_of_nights(name, night):
    assert night_of_report(name) == night


def test_who_holds_the_lease_is_at_work_and_who_does_not_was_killed(root):
    mine = attempt()
    assert not is_at_work(mine, night_holder(root))
    with hold(root / "locks" / "nightly.json", "nightly", 60):
        assert is_at_work(mine, night_holder(root))
        assert not is_at_work(replace(mine, pid=mine.pid + 1), night_holder(root))
        assert not is_at_work(ended(mine, "failed", "", 1), night_holder(root))
    assert night_holder(root) is None
