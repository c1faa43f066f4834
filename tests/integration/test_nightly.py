"""Nightly runs on a real Ray: what is published, what is refused, and what is not done twice.

Two nights are made once. Every test then starts with nothing published, finds datasets, models and
recommendations ready, and is a matter of milliseconds; or of a process start.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lightsans.config import RunConfig
from lightsans.config.file import dump_yaml
from lightsans.errors import GateError, LeaseError, NotFoundError, PublishError
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import ModelManifest, RunManifest
from lightsans.storage.manifests import require_manifest
from pipelines.commands.app import app
from pipelines.evaluate.stage import run_evaluate
from pipelines.nightly.stage import NightlyResult, run_nightly
from pipelines.operations.attempts import read_attempts
from pipelines.operations.page import collect_page
from pipelines.publish import publish_run
from tests.commands import ROOT
from tests.integration.conftest import TwoNights
from tests.nights import (
    FIRST,
    SECOND,
    WITHOUT_RAY,
    latest,
    published_of,
    run_submit,
    state_of,
    unpublished,
    with_nightly,
)

REFIT_CHECKS = {"nightly.refit", "nightly.min_refit_overlap", "nightly.max_coverage_drop"}


@pytest.fixture(scope="module")
def config(two_nights: TwoNights) -> RunConfig:
    return two_nights.config


@pytest.fixture(scope="module")
def first(two_nights: TwoNights) -> NightlyResult:
    return two_nights.first


@pytest.fixture(scope="module")
def second(two_nights: TwoNights) -> tuple[NightlyResult, dict[str, Any]]:
    """The night after, and its report."""
    return two_nights.second, two_nights.report


@pytest.fixture
def root(config) -> Path:
    """The root with both nights made and neither published."""
    return unpublished(config)


# ---- what is published


def test_the_first_night_is_published(first):
    assert (first.outcome, first.instead_of) == ("published", None)


def test_a_night_records_its_stages_with_times_and_its_figures(first, second, config):
    root = locate(config.root, config.storage)
    attempt = read_attempts(root, SECOND)[0]
    made = [(stage.stage, stage.is_found) for stage in attempt.stages]
    names = ["preprocess", "train", "evaluate", "evaluate", "train", "refit", "score"]
    assert made == [(name, False) for name in names]
    assert all(stage.seconds > 0 and stage.peak_bytes > 1 << 20 for stage in attempt.stages)
    figures = attempt.figures
    assert figures.metrics is not None
    assert figures.published_metrics is not None
    report = second[1]
    drop = next(c for c in report["checks"] if c["setting"] == "nightly.max_relative_drop")
    before, now = (m["ndcg@10"].value for m in (figures.published_metrics, figures.metrics))
    assert drop["value"] == pytest.approx((before - now) / before)
    assert figures.users == 500
    assert figures.run is not None
    assert 0 < (figures.run["coverage"] or 0) <= 1


def test_the_page_of_a_night_shows_every_section_of_a_real_one(first, second, config):
    root = locate(config.root, config.storage)
    page = collect_page(config, root, read_attempts(root, SECOND))
    assert all(page.tables[name] for name in ("metrics", "data", "learning", "popularity"))
    pictures = {name: len(found) for name, found in page.pictures.items()}
    assert pictures == {"metrics": 1, "data": 3, "learning": 2, "popularity": 1}
    assert [len(lists.before) for lists in page.lists] == [config.score.k] * 5
    html = (root / "reports" / f"nightly-{SECOND}.html").read_bytes().decode()
    assert "This night did not come so far." not in html
    assert SECOND in (root / "reports" / "index.html").read_bytes().decode()


def test_the_next_night_is_published_after_a_comparison_with_the_one_before(first, second, config):
    result, report = second
    assert (result.outcome, result.instead_of) == ("published", first.run_id)
    assert result.run_id != first.run_id
    assert report["passed"]
    assert report["published_before"] == first.run_id
    checks = {check["setting"]: check for check in report["checks"]}
    assert set(checks) == {
        "nightly.min_users",
        "nightly.max_user_drop",
        "nightly.beat_baselines",
        "nightly.max_relative_drop",
        *REFIT_CHECKS,
    }
    # The model before, on the users of tonight: found, as the night has evaluated it.
    compared = run_evaluate(config, result.dataset_id, first.model_id, map_items=True)
    assert compared.skipped
    before = compared.metrics["model"]["test"]["ndcg@10"]
    tonight = run_evaluate(config, result.dataset_id, result.model_id)
    assert report["evaluations"] == [tonight.location.name, compared.location.name]
    drop = checks["nightly.max_relative_drop"]
    now = tonight.metrics["model"]["test"]["ndcg@10"]
    assert drop["value"] == pytest.approx((before - now) / before)
    assert drop["low"] < drop["value"] < drop["high"]
    assert (drop["bound"], drop["rule"]) == (0.3, "low at most")


def test_what_is_published_has_learnt_everything_and_says_what_was_judged_in_its_place(
    config, second
):
    result, report = second
    root = locate(config.root, config.storage)
    judged = require_manifest(ModelManifest, root / "models" / result.model_id, "")
    made = require_manifest(ModelManifest, root / "models" / str(result.refit_model_id), "")
    run = require_manifest(RunManifest, result.location, "")
    assert (judged.refit, made.refit) == (False, True)
    assert made.epochs == judged.best_epoch
    assert (run.model_id, run.dataset_id) == (result.refit_model_id, result.full_dataset_id)
    assert run.judged == made.judged
    assert run.judged is not None
    assert (run.judged.model_id, run.judged.dataset_id) == (result.model_id, result.dataset_id)
    # Leave-one-out knows every item already: one dataset for both.
    assert result.full_dataset_id == result.dataset_id
    assert (report["run_id"], report["model_id"]) == (result.run_id, result.model_id)
    assert report["refit"]["users"] == 500
    assert report["refit"]["overlap"] > 0.3


def test_a_refit_unlike_the_judged_model_is_not_published(config, root, first):
    run_nightly(config, FIRST)
    wary = with_nightly(config, min_refit_overlap=0.999)
    with pytest.raises(GateError, match=r"overlap .* is .*nightly\.min_refit_overlap"):
        run_nightly(wary, SECOND)
    assert latest(root) == first.run_id
    report = json.loads((root / f"reports/nightly-{SECOND}.json").read_bytes())
    assert (report["outcome"], "run_id" in report) == ("refused", False)


def test_the_same_night_again_changes_nothing(config, root, first):
    run_nightly(config, FIRST)
    assert latest(root) == first.run_id
    files = state_of(root)
    again = run_nightly(config, FIRST)
    assert (again.outcome, again.run_id, again.instead_of) == (
        "unchanged",
        first.run_id,
        first.run_id,
    )
    assert state_of(root) == files
    assert len(published_of(config, root).history) == 1


def test_a_newer_night_replaces_the_published_one(config, root, first, second):
    run_nightly(config, FIRST)
    result = run_nightly(config, SECOND)
    assert (result.outcome, result.instead_of) == ("published", first.run_id)
    assert latest(root) == second[0].run_id


# ---- the gate


def test_a_night_below_a_floor_ends_with_status_3_and_what_was_published_stays(
    config, root, first, tmp_path
):
    run_nightly(config, FIRST)
    strict = with_nightly(config, floors={"hit@10": 1.5, "mrr@10": 0.001})
    done = run_submit(strict, tmp_path, "nightly", "--as-of", SECOND, "--json")
    assert done.returncode == 3, done.stderr
    assert f"{first.run_id} stays published" in done.stderr
    assert "1 of 7 checks failed" in done.stderr
    assert "must be at least 1.5 (nightly.floors)" in done.stderr
    assert latest(root) == first.run_id
    printed = json.loads(done.stdout.splitlines()[-1])
    assert printed["outcome"] == "refused"
    assert printed == json.loads((root / f"reports/nightly-{SECOND}.json").read_bytes())
    assert [check["name"] for check in printed["checks"] if not check["passed"]] == ["test hit@10"]
    assert run_nightly(config, SECOND).outcome == "published"


def test_too_few_users_stop_the_night_before_it_trains(config, root):
    untrained = replace(config, train=replace(config.train, seed=12345))
    with pytest.raises(GateError, match=r"users is \d+, must be at least 1e\+06"):
        run_nightly(with_nightly(untrained, min_users=10**6), FIRST)
    report = json.loads((root / f"reports/nightly-{FIRST}.json").read_bytes())
    assert "model_id" not in report
    assert not report["passed"]
    assert latest(root) is None


def test_what_was_published_and_removed_cannot_be_compared_with_and_that_is_said(
    config, root, first, second
):
    (root / "recommendations" / "LATEST").write_text("gone")
    with pytest.raises(NotFoundError, match="gone: this run is published but was removed"):
        run_nightly(config, SECOND)
    free = with_nightly(config, max_user_drop=None, max_relative_drop=None)
    assert run_nightly(free, SECOND).instead_of == "gone"


# ---- interruptions and rivals


def test_a_night_killed_before_publishing_is_published_by_the_same_command(
    config, root, first, second, tmp_path
):
    """The process dies by SIGKILL with the lease in its hands; nothing is made again."""
    run_nightly(config, FIRST)
    files = state_of(root)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    script = f"""
import os, signal, sys
from lightsans.config.file import load_config
from pipelines.nightly.stage import run_nightly
run_nightly(
    load_config({str(tmp_path / "config.yaml")!r}).config,
    {SECOND!r},
    before_publish=lambda: os.kill(os.getpid(), signal.SIGKILL),
)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=WITHOUT_RAY, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert latest(root) == first.run_id
    assert run_nightly(config, SECOND).outcome == "published"
    assert latest(root) == second[0].run_id
    made_since = set(state_of(root)) - set(files)
    records = {path for path in made_since if path.startswith(f"reports/nights/{SECOND}/")}
    reports = {f"reports/nightly-{SECOND}.json", f"reports/nightly-{SECOND}.inputs.json"}
    assert made_since - records == reports
    assert files.items() <= state_of(root).items()
    outcomes = [each.outcome for each in read_attempts(locate(str(root), config.storage), SECOND)]
    assert outcomes[-2:] == ["running", "published"]  # the killed one never said more


def test_a_second_run_ends_with_status_4_and_names_the_first_which_publishes(
    config, root, second, tmp_path
):
    at_work, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        at_work.set()
        assert go_on.wait(120)

    results = []
    thread = threading.Thread(
        target=lambda: results.append(run_nightly(config, SECOND, before_publish=wait))
    )
    thread.start()
    assert at_work.wait(60)
    try:
        done = run_submit(config, tmp_path, "nightly", "--as-of", SECOND)
    finally:
        go_on.set()
        thread.join()
    assert done.returncode == 4, done.stderr
    assert f"held by nightly --as-of {SECOND} (host " in done.stderr
    assert f"process {os.getpid()}, user " in done.stderr
    assert latest(root) == second[0].run_id
    assert [result.outcome for result in results] == ["published"]
    assert len(published_of(config, root).history) == 1


def test_who_lost_the_lease_does_not_publish(config, root, first, second):
    run_nightly(config, FIRST)

    def lose() -> None:
        lock = root / "locks" / "nightly.json"
        lock.write_text(
            json.dumps({**json.loads(lock.read_text()), "owner": "a rival", "token": "its"})
        )

    with pytest.raises(LeaseError, match=r"lost to a rival.*publishes nothing"):
        run_nightly(config, SECOND, before_publish=lose)
    assert latest(root) == first.run_id
    (root / "locks" / "nightly.json").unlink()  # the rival's, which nobody gives back
    assert run_nightly(config, SECOND).outcome == "published"


def test_a_publication_by_hand_meanwhile_is_not_overwritten(config, root, first, second):
    def publish_by_hand() -> None:
        publish_run(published_of(config, root), first.run_id)

    with pytest.raises(PublishError, match=f"it was not there and is {first.run_id} now"):
        run_nightly(config, SECOND, before_publish=publish_by_hand)
    assert latest(root) == first.run_id
    assert run_nightly(config, SECOND).instead_of == first.run_id


# ---- commands


def test_runs_are_listed_published_and_rolled_back_from_the_command_line(
    config, root, first, second, tmp_path
):
    (tmp_path / "config.yaml").write_text(dump_yaml(config))

    def call(*arguments: str) -> Any:
        done = CliRunner().invoke(app, [*arguments, "-c", str(tmp_path / "config.yaml"), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    one, two = first.run_id, second[0].run_id
    assert call("publish", one)["instead_of"] is None
    assert call("publish", two)["instead_of"] == one
    listed = call("recommendations")
    assert listed["published"] == two
    assert {run["id"]: run["published"] for run in listed["recommendations"]} == {
        one: False,
        two: True,
    }
    assert all(run["users"] for run in listed["recommendations"])
    back = call("rollback")
    assert (back["run_id"], back["instead_of"]) == (one, two)
    assert back["as_of"] == f"{FIRST}T00:00:00+00:00"
    assert latest(root) == one
