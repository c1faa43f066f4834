"""Status, pages and cleaning of a root on S3: no Ray."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lightsans.config import CleanConfig, RunConfig, StorageConfig
from lightsans.storage.location import Location, locate
from lightsans.storage.manifests import manifest_json
from pipelines.operations.attempts import begin_attempt, ended, write_attempt
from pipelines.operations.clean import clean
from pipelines.operations.listing import list_root
from pipelines.operations.page import write_pages
from pipelines.operations.status import read_status
from pipelines.publish import publish_run, read_published
from pipelines.session.lease import hold
from tests.manifests import dataset_manifest, model_manifest, run_manifest

BEGIN = datetime(2026, 1, 1, 3, tzinfo=UTC)
POLICY = CleanConfig(keep=1, keep_reports=2, min_age_hours=0, unfinished_days=0)


@pytest.fixture
def config(s3_server) -> RunConfig:
    storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
    return RunConfig(root=s3_server.uri("opera[1] tions"), storage=storage, clean=POLICY)


def make_night(root: Location, number: int) -> None:
    made = BEGIN + timedelta(days=number)
    manifests = {
        f"datasets/d{number}": dataset_manifest(f"d{number}"),
        f"models/m{number}": model_manifest(f"m{number}", dataset_id=f"d{number}"),
        f"recommendations/r{number}": run_manifest(
            f"r{number}", dataset_id=f"d{number}", model_id=f"m{number}"
        ),
    }
    for path, manifest in manifests.items():
        (root / path / "part-00000.parquet").write_bytes(b"rows")
        content = manifest_json(replace(manifest, created_at=made.isoformat()))
        (root / path / "manifest.json").write_json(content)
    (root / f"models/m{number}/checkpoints/epoch-00001/progress.json").write_json({})
    attempt = replace(begin_attempt(f"{made:%Y-%m-%d}", made), run_id=f"r{number}")
    write_attempt(root, ended(attempt, "published", "", 0))


def results(root: Location) -> set[str]:
    """Paths of the results that have files; some stores list directories without any."""
    rooms = ("datasets", "models", "recommendations")
    paths = [file.path.split("/") for file in list_root(root).files]
    return {"/".join(path[:2]) for path in paths if path[0] in rooms and len(path) > 2}


def test_a_root_in_a_bucket_is_seen_and_cleaned_like_one_on_a_disk(config):
    root = locate(config.root, config.storage)
    for number in range(5):
        make_night(root, number)
    (root / "datasets/unfinished/part-00000.parquet").write_bytes(b"rows")
    publish_run(read_published(root), "r1")
    neighbour = Location(root.uri.replace("[1]", "1"), config.storage) / "datasets/d0/file"
    neighbour.write_bytes(b"of somebody else")
    with hold(root / "locks" / "model-m9.json", "train of model m9", 60, uses=["datasets/d2"]):
        assert [each.lease for each in read_status(root).at_work] == ["model-m9"]
        clean(config)
    assert results(root) == {
        *("datasets/d1", "datasets/d2", "datasets/d4"),
        *("models/m1", "models/m4", "recommendations/r1", "recommendations/r4"),
    }
    nights = {file.path.split("/")[2] for file in list_root(root).below("reports/nights/")}
    assert nights == {"2026-01-02", "2026-01-04", "2026-01-05"}  # the first is the published one
    assert list_root(root).sizes().get("checkpoints") is None
    assert neighbour.read_bytes() == b"of somebody else"
    write_pages(config, root, "2026-01-05")
    told = read_status(root)
    assert told.published is not None
    assert {night.attempt.date for night in told.nights} == nights
    assert {"datasets", "models", "recommendations", "reports"} <= told.sizes.keys()
    assert b"nightly-2026-01-05.html" in (root / "reports/index.html").read_bytes()
