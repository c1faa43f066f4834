"""Reports of a night: read back as written, and never over that of a published night."""

from datetime import UTC, datetime

import pytest

from lightsans.storage.manifests import write_manifest
from pipelines.nightly.draft import ReportDraft
from pipelines.nightly.gate import Check
from pipelines.nightly.report import read_night_report, report_file, reports_of_night
from pipelines.publish import publish_run, read_published
from tests.factories import local
from tests.manifests import run_manifest

NIGHT = datetime(2025, 11, 5, tzinfo=UTC)


@pytest.fixture
def root(tmp_path):
    """A root in which the run ``one`` is published."""
    root = local(tmp_path)
    write_manifest(root / "recommendations" / "one", run_manifest("one"))
    publish_run(read_published(root), "one", "nightly")
    return root


def write(root, outcome, run_id=None):
    file = report_file(root, "2025-11-05", read_published(root))
    draft = ReportDraft(file, NIGHT, None, {})
    draft.note(run_id=run_id)
    draft.write(outcome)
    return file.name


def test_a_published_night_keeps_its_report_and_later_tries_share_the_next(root):
    assert write(root, "refused") == "nightly-2025-11-05.json"
    assert write(root, "published", "one") == "nightly-2025-11-05.json"
    assert write(root, "failed") == "nightly-2025-11-05.2.json"
    assert write(root, "kept", "two") == "nightly-2025-11-05.2.json"
    found = reports_of_night(root, "2025-11-05")
    assert [report and report.outcome for report in found.values()] == ["published", "kept", None]


def test_a_report_that_came_before_a_publication_which_failed_is_written_over(root):
    assert write(root, "published", "never") == "nightly-2025-11-05.json"
    assert write(root, "published", "one") == "nightly-2025-11-05.json"


def test_reports_of_an_early_version_count_by_whether_they_passed(root):
    old = {
        "as_of": NIGHT.isoformat(), "created_at": NIGHT.isoformat(), "passed": True,
        "published_before": None, "protocol": {}, "evaluations": [], "not_compared": [],
        "checks": [],
    }  # fmt: skip
    (root / "reports" / "nightly-2025-11-05.json").write_json(old)
    assert write(root, "failed") == "nightly-2025-11-05.2.json"


def test_what_was_written_is_what_is_read(root):
    draft = ReportDraft(root / "reports" / "nightly-x.json", NIGHT, "one", {"split": "temporal"})
    draft.decide("train", "a new model", "it is time")
    draft.leave_out(["models: they differ"])
    draft.require([Check("users", 5, 1, "nightly.min_users")])
    draft.note(metrics={"hit@10": 0.5}, intervals={"hit@10": (0.4, 0.6)})
    draft.write("kept", "by a rule")
    assert read_night_report(draft.file) == draft.report
    assert draft.report.passed
