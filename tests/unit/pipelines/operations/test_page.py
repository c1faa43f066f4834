"""Pages of nights from roots made by hand: what is there is shown, what is gone is left out."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lightsans.config.file import load_config
from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.evaluation_figures import EvaluationFigures
from lightsans.storage.manifests import write_manifest
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.operations.attempts import begin_attempt, ended, read_attempts, write_attempt
from pipelines.operations.checks import check_text
from pipelines.operations.figures import complete_figures
from pipelines.operations.page import collect_page, write_pages
from pipelines.session.stage_times import StageTime
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest

DATE, MOMENT = "2026-11-05", datetime(2026, 11, 5, tzinfo=UTC)
CHECK = {
    "name": "test ndcg@10",
    "value": 0.123456789,
    "bound": 0.1,
    "setting": "nightly.floors",
    "rule": "at least",
    "low": 0.1,
    "high": 0.2,
    "passed": True,
}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def root(tmp_path):
    return local(tmp_path / "root")


@pytest.fixture
def config(root):
    return load_config(None, [f"root={root}"]).config


def evaluation(model, value):
    test = dict.fromkeys(("hit@10", "ndcg@10", "mrr@10"), value)
    around = dict.fromkeys(test, (value - 0.01, value + 0.01))
    lead = dict.fromkeys(test, Estimate(0.05, 0.01, 0.09))
    return EvaluationManifest(
        dataset="d",
        model=model,
        protocol={},
        map=False,
        figures=EvaluationFigures(
            metrics={"model": {"test": test}, "popular": {"test": test}},
            intervals={"model": {"test": around}, "popular": {"test": around}},
            differences={"popular": {"test": lead}},
        ),
    )


def write_night(root):
    """All that a published night leaves, and its attempt."""
    write_manifest(root / "datasets/d", dataset_manifest("d", users=1234))
    rows = {"read": 5000, "rejected": {"no_time": 7}, "after_k_core": 4000}
    report = {"rows": rows, "findings": {"early": 3, "cut": 0}}
    (root / "datasets/d/report/report.json").write_json(report)
    for name in ("lengths", "popularity", "time"):
        (root / f"datasets/d/report/{name}.png").write_bytes(PNG)
    write_manifest(root / "models/m", model_manifest(epochs=9, best_epoch=6, train_s=120.0))
    (root / "models/m/metrics.json").write_json({"valid": {"ndcg@10": 0.25}})
    (root / "models/m/curves.png").write_bytes(PNG)
    write_manifest(root / "reports/evaluate-a", evaluation("m", 0.2))
    write_manifest(root / "reports/evaluate-b", evaluation("old", 0.1))
    write_manifest(root / "recommendations/r", run_manifest("r", users=1200))
    figures = {"coverage": 0.75, "overlap": None}
    (root / "recommendations/r/report.json").write_json({"figures": figures, "warnings": ["low"]})
    attempt = begin_attempt(DATE, MOMENT)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"created_at": now, "checks": [CHECK], "not_compared": ["a refit"]}
    (root / f"reports/nightly-{DATE}.json").write_json({**content, "published_before": "q"})
    stages = (
        StageTime("preprocess", "dataset", "d", seconds=60, peak_bytes=2 << 30),
        StageTime("train", "model", "m", is_found=True),
        StageTime("evaluate", "evaluation", "evaluate-a", seconds=6),
        StageTime("evaluate", "evaluation", "evaluate-b", seconds=6),
        StageTime("score", "run", "r", seconds=30),
    )
    done = ended(replace(attempt, stages=stages), "published", "", 0)
    write_attempt(root, complete_figures(root, done))


def test_a_night_shows_what_its_stages_left(root, config):
    write_night(root)
    page = collect_page(config, root, read_attempts(root, DATE))
    assert page.decisions[0].text == check_text(CHECK)
    assert page.decisions[1].text == "not compared: a refit"
    metrics, leads = page.tables["metrics"]
    assert [row[0] for row in metrics.rows] == ["tonight's model", "published model", "popular"]
    assert metrics.rows[0][2] == "0.2000 [0.1900, 0.2100]"
    assert leads.rows == [["popular", *["+0.0500 [+0.0100, +0.0900]"] * 3]]
    rows, odd = page.tables["data"]
    assert ["rejected: no time", "7"] in rows.rows
    assert odd.rows == [["early", "3"]]
    [learning] = page.tables["learning"]
    assert learning.rows == [["m", "held out", "9", "6", "0.2500", "2.0"]]
    figures, warnings = page.tables["popularity"]
    assert ["coverage", "0.7500"] in figures.rows
    assert warnings.rows == [["low"]]
    [stages] = page.tables["stages"]
    assert stages.rows[0] == ["preprocess", "d", "made", "1.00", "2,048"]
    assert stages.rows[1][2] == "found"
    counts = {name: len(pictures) for name, pictures in page.pictures.items()}
    assert counts == {"metrics": 0, "data": 3, "learning": 1, "popularity": 0}
    assert dict(page.facts)["users"] == "1,234"


def test_both_pages_are_written_and_the_index_links_the_night(root, config):
    write_night(root)
    write_pages(config, root, DATE)
    page = (root / f"reports/nightly-{DATE}.html").read_bytes().decode()
    assert f"Night {DATE}: <span" in page
    index = (root / "reports/index.html").read_bytes().decode()
    assert f'href="nightly-{DATE}.html"' in index
    assert "0.2000 [0.1900, 0.2100]" in index


def test_a_later_refused_try_stands_among_the_attempts_of_a_published_night(root, config):
    write_night(root)
    later = begin_attempt(DATE, MOMENT)
    write_attempt(root, ended(later, "refused", "below a stricter floor", 3))
    page = collect_page(config, root, read_attempts(root, DATE))
    assert page.outcome == "published"
    [attempts] = page.tables["attempts"]
    assert [row[1] for row in attempts.rows] == ["refused", "published"]
    assert attempts.rows[0][4] == "below a stricter floor"


def test_a_report_of_an_earlier_try_is_not_taken_for_that_of_a_later_one(root):
    write_night(root)
    before = {"created_at": "2026-11-05T00:00:00+00:00", "checks": [CHECK]}
    (root / f"reports/nightly-{DATE}.json").write_json(before)
    crashed = complete_figures(root, ended(begin_attempt(DATE, MOMENT), "failed", "bug", 1))
    assert crashed.report is None


def test_what_was_removed_since_is_left_out(root, config):
    write_night(root)
    for room in ("datasets", "models", "recommendations", "reports/evaluate-a"):
        (root / room).delete()
    page = collect_page(config, root, read_attempts(root, DATE))
    assert page.tables["data"] == []
    assert page.tables["metrics"][0].rows[0][2] == "0.2000 [0.1900, 0.2100]"  # kept by the attempt
    write_pages(config, root, DATE)


def test_a_night_that_failed_at_once_has_a_page(root, config):
    write_attempt(root, ended(begin_attempt(DATE, MOMENT), "failed", "no space left", 1))
    write_pages(config, root, DATE)
    assert b"no space left" in (root / f"reports/nightly-{DATE}.html").read_bytes()
