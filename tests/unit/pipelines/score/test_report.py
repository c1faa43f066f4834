"""The run that a report compares with: like with like, or none."""

from typing import Any

import pytest

from lightsans.config import RunConfig
from lightsans.storage.manifests import write_manifest
from pipelines.publish import publish_run, read_published
from pipelines.score.job import ScoreJob
from pipelines.score.report import REPORT, previous_run
from pipelines.session.lease import Owner
from tests.factories import local
from tests.manifests import dataset_manifest, run_manifest

NOTHING: Any = None


@pytest.fixture
def root(tmp_path):
    """A published run, whose ids are text, with its report."""
    root = local(tmp_path)
    run = root / "recommendations" / "before"
    write_manifest(run, run_manifest("before", user_id_type="string", item_id_type="string"))
    (run / REPORT).write_json({})
    publish_run(read_published(root), "before")
    return root


def previous(root, **types):
    run = root / "recommendations" / "now"
    job = ScoreJob(
        RunConfig(), root / "datasets" / "d", dataset_manifest(**types), root / "models" / "m", run,
        NOTHING, None, "w", Owner(root / "locks" / "x.json", None),
    )  # fmt: skip
    return previous_run(job)


def test_the_published_run_is_compared_with(root):
    found = previous(root, user_id_type="string", item_id_type="string")
    assert found is not None
    assert found.location.name == "before"


@pytest.mark.parametrize("kind", ["user", "item"])
def test_a_published_run_with_ids_of_another_type_is_left_out_and_that_is_said(root, kind, capfd):
    assert previous(root, **{f"{kind}_id_type": "int64"}) is None
    said = f"{kind} ids were of type string and are of type int64 now"
    assert f"not compared with the published run before: {said}" in capfd.readouterr().err


def test_a_published_run_without_a_report_is_left_out(root):
    (root / "recommendations" / "before" / REPORT).delete()
    assert previous(root) is None
