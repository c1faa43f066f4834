"""Words of `status` about roots made by hand: no Ray."""

import json
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from lightsans.config import DataConfig
from lightsans.ranking.bootstrap import Estimate
from lightsans.storage.manifests import write_manifest
from lightsans.storage.records import to_json
from lightsans.training.progress import Progress
from pipelines.commands.app import app
from pipelines.nightly.dates import moment_of_night
from pipelines.nightly.inputs import report_name
from pipelines.operations.attempts import Figures, begin_attempt, ended, write_attempt
from pipelines.operations.status import read_status, stage_minutes
from pipelines.publish import publish_run, read_published, resume, roll_back
from pipelines.session.lease import hold
from pipelines.session.stage_times import StageTime
from tests.factories import local
from tests.manifests import run_manifest
from tests.searches import row

FIGURES = Figures(metrics={"ndcg@10": Estimate(value=0.1234, low=0.1, high=0.15)})


@pytest.fixture
def root(tmp_path):
    return local(tmp_path / "root")


def night(root, date, outcome, reason="", **fields):
    attempt = replace(begin_attempt(date, datetime(2026, 11, 5, tzinfo=UTC)), **fields)
    attempt = attempt if outcome == "running" else ended(attempt, outcome, reason, 1)
    write_attempt(root, attempt)
    return attempt


def publish(root, name):
    write_manifest(root / "recommendations" / name, run_manifest(name))
    publish_run(read_published(root), name, "nightly")


def states(root, nights=7):
    return [(each.attempt.date, each.state) for each in read_status(root, nights).nights]


def test_nights_come_newest_first_and_no_more_than_asked_for(root):
    for day in range(1, 5):
        night(root, f"2026-11-0{day}", "published")
    assert states(root, 2) == [("2026-11-04", "published"), ("2026-11-03", "published")]


def test_a_directory_without_records_takes_the_place_of_no_night(root):
    night(root, "2026-11-01", "published")
    (root / "reports" / "nights" / "2026-11-02").require_directory()
    assert states(root, 1) == [("2026-11-01", "published")]


def test_a_night_that_was_killed_has_died_and_one_at_work_is_running(root):
    night(root, "2026-11-05", "running")
    assert states(root) == [("2026-11-05", "died")]
    with hold(root / "locks" / "nightly.json", "nightly --as-of 2026-11-05", 60):
        assert states(root) == [("2026-11-05", "running")]
        [at_work] = read_status(root).at_work
        assert at_work.owner == "nightly --as-of 2026-11-05"
        assert read_status(root).next[0] == "wait: somebody is at work"


def test_nights_of_before_attempts_were_recorded_are_told_by_their_reports(root):
    reports = root / "reports"
    reports_of = {"2026-11-01": True, "2026-11-02": False}
    for date, passed in reports_of.items():
        (reports / f"nightly-{date}.json").write_json({"passed": passed, "model_id": "m"})
        (reports / f"nightly-{date}.inputs.json").write_json({})
    assert states(root) == [("2026-11-02", "refused"), ("2026-11-01", "passed")]


def test_a_night_that_was_passed_over_is_neither_passed_nor_published(root):
    report = {"passed": True, "outcome": "skipped", "reason": "missed"}
    (root / "reports" / "nightly-2026-11-01.json").write_json(report)
    [night] = read_status(root).nights
    assert (night.state, night.attempt.outcome, night.attempt.reason) == (
        "skipped", "kept", "missed"
    )  # fmt: skip


def test_minutes_are_told_by_stage_and_found_results_take_none():
    stages = (
        StageTime("preprocess", "dataset", "d", is_found=True),
        StageTime("evaluate", "evaluation", "a", seconds=30),
        StageTime("evaluate", "evaluation", "b", seconds=90),
    )
    attempt = replace(begin_attempt("d", datetime.now(UTC)), stages=stages)
    assert stage_minutes(attempt) == {"preprocess": 0.0, "evaluate": 2.0}


def test_how_far_a_training_is_comes_from_its_checkpoints(root):
    with hold(root / "locks" / "model-m.json", "train of model m", 60):
        assert read_status(root).at_work[0].progress == "no epoch has ended"
        progress = Progress([row(epoch, 0.1) for epoch in (1, 2, 3)], best_epoch=2)
        checkpoint = root / "models" / "m" / "checkpoints" / "epoch-00003"
        (checkpoint / "progress.json").write_json(to_json(progress))
        assert read_status(root).at_work[0].progress == "3 epochs, best 2"


def test_how_far_a_scoring_is_comes_from_its_finished_parts(root):
    for part in range(3):
        (root / "recommendations" / "r" / "_commits" / f"part-0000{part}.json").write_json({})
    with hold(root / "locks" / "run-r.json", "score of run r", 60):
        assert read_status(root).at_work[0].progress == "3 finished parts"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("refused", "look at reports/nightly-2026-11-05.html; `submit.py publish r` overrules"),
        ("failed", "`submit.py nightly --as-of 2026-11-05` goes on where it was"),
        ("running", "night 2026-11-05 died: `submit.py nightly --as-of 2026-11-05` goes on"),
        ("wrong", "mend the setting or the input, then `submit.py nightly --as-of 2026-11-05`"),
        ("busy", "found another one at work"),
    ],
)
def test_every_end_of_the_last_night_has_its_advice(root, outcome, words):
    night(root, "2026-11-05", outcome, "why", run_id="r")
    assert words in " ".join(read_status(root).next)


@pytest.mark.parametrize(
    ("as_of", "timezone"),
    [
        ("2026-11-05", "UTC"),
        ("2026-11-05", "Europe/Berlin"),
        ("2026-11-05T03:00", "UTC"),
        ("2026-11-05 03:00:07", "Europe/Berlin"),
        ("2026-11-05T03:00+01:00", "Europe/Berlin"),
        ("2026-11-05T03:00:00.25Z", "America/New_York"),
        ("2026-11-05T00:00Z", "Europe/Berlin"),
    ],
)
def test_the_command_that_is_advised_runs_the_same_night_again(root, as_of, timezone):
    data = DataConfig(as_of=as_of, timezone=timezone)
    moment = moment_of_night(data)
    name = report_name(as_of, moment)
    write_attempt(root, ended(begin_attempt(name, moment, as_of), "failed", "", 1))
    [said] = re.findall(r"--as-of ([^`]+)`", read_status(root).next[0])
    [again] = shlex.split(said)
    assert moment_of_night(replace(data, as_of=again)) == moment
    assert report_name(again, moment) == name


def test_a_good_night_needs_nothing_and_a_rolled_back_one_says_how_it_comes_back(root):
    publish(root, "q")
    publish(root, "r")
    night(root, "2026-11-05", "published", run_id="r")
    assert read_status(root).next == ("nothing: the last night is published",)
    roll_back(read_published(root))
    back, on = read_status(root).next
    assert "run r of night 2026-11-05 was rolled back: `submit.py publish r`" in back
    assert "kept since run r was rolled back: `submit.py resume`" in on
    resume(read_published(root))
    assert len(read_status(root).next) == 1


def test_the_command_shows_it_all_and_prints_it_as_json(root):
    publish(root, "r")
    reason = "1 of 3 checks failed\n  users is 3, must be at least 5 (nightly.min_users)\x1b[2J"
    night(root, "2026-11-06", "refused", reason, figures=FIGURES)
    done = CliRunner().invoke(app, ["status", "-s", f"root={root}"])
    assert done.exit_code == 0, done.output
    for shown in ("published: r of", "2026-11-06", "refused", "0.1234 [0.1000, 0.1500]"):
        assert shown in done.stdout
    assert "nightly.min_users" in done.stdout
    assert "\x1b" not in done.stdout
    done = CliRunner().invoke(app, ["status", "-s", f"root={root}", "--json"])
    told = json.loads(done.stdout)
    assert told["published"]["run_id"] == "r"
    [shown] = told["nights"]
    assert (shown["date"], shown["state"], shown["exit_status"]) == ("2026-11-06", "refused", 1)
    assert shown["figures"]["metrics"]["ndcg@10"]["low"] == 0.1
    assert told["sizes"]["recommendations"]["files"] >= 3


def test_an_empty_root_is_told_too(root):
    told = read_status(root)
    assert (told.published, told.nights, told.at_work) == (None, (), ())
    assert "no night has run" in told.next[0]
