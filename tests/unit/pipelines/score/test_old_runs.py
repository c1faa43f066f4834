"""Which runs are removed: no Ray, real files."""

from datetime import UTC, datetime, timedelta

import pytest

from lightsans.config import StorageConfig
from lightsans.storage.location import locate
from pipelines.publish import publish_run, read_published, roll_back
from pipelines.score.old_runs import remove_old_runs

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path):
    """Seven finished runs a to g, one a day, and one that is not finished."""
    root = locate(str(tmp_path), StorageConfig())
    for day, name in enumerate("abcdefg"):
        run = root / "recommendations" / name
        (run / "part-00000.parquet").write_bytes(b"rows")
        created_at = (LONG_AGO + timedelta(days=day)).isoformat()
        parts = [{"files": [{"path": "part-00000.parquet"}]}]
        (run / "manifest.json").write_json(
            {"dataset_id": "d", "parts": parts, "created_at": created_at}
        )
    (root / "recommendations" / "unfinished" / "part-00000.parquet").write_bytes(b"rows")
    return root


def left(root) -> str:
    return "".join(name for name in root.children() if len(name) == 1)


def publish_long_ago(root, names):
    """Publications of years ago."""
    for name in names:
        publish_run(read_published(root), name)
    history = root / "recommendations" / "history.json"
    content = history.read_json()
    for entry in content["publications"]:
        entry["published_at"] = LONG_AGO.isoformat()
    history.write_json(content)


def test_without_a_rule_everything_stays(root):
    assert remove_old_runs(root, None, "g") == []
    assert left(root / "recommendations") == "abcdefg"


def test_the_newest_stay_and_unfinished_ones_are_left_alone(root):
    assert remove_old_runs(root, 3, "g") == ["a", "b", "c", "d"]
    assert left(root / "recommendations") == "efg"
    assert "unfinished" in (root / "recommendations").children()
    assert remove_old_runs(root, 3, "g") == []


def test_the_published_run_and_the_one_before_it_stay(root):
    publish_long_ago(root, "abc")
    assert remove_old_runs(root, 1, "g") == ["a", "d", "e", "f"]
    assert left(root / "recommendations") == "bcg"
    assert roll_back(read_published(root)).run_id == "b"


def test_a_run_stays_for_its_readers_after_another_was_published(root):
    publish_long_ago(root, "ab")
    publish_run(read_published(root), "c")
    publish_run(read_published(root), "d")
    # b was LATEST until a moment ago, c for a moment.
    assert remove_old_runs(root, 1, "g") == ["a", "e", "f"]
    assert left(root / "recommendations") == "bcdg"


def test_the_run_that_was_just_made_stays_whatever_its_date(root):
    assert remove_old_runs(root, 1, "a") == ["b", "c", "d", "e", "f"]
    assert left(root / "recommendations") == "ag"
