"""Which runs are removed: no Ray, real files."""

from datetime import UTC, datetime, timedelta

import pytest

from lightsans.config import NightlyTrainConfig, ScoreConfig
from lightsans.errors import NotFoundError
from lightsans.storage.manifest_kinds import RunFile
from lightsans.storage.manifests import manifest_json
from pipelines import publish as publishing
from pipelines.publish import Publication, latest_run_id, publish_run, read_published, roll_back
from pipelines.score import old_runs
from pipelines.score.old_runs import remove_old_runs, remove_run
from pipelines.session.lease import hold
from tests.factories import local
from tests.manifests import run_manifest, run_part

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path):
    """Seven finished runs a to g, one a day, and one that is not finished."""
    root = local(tmp_path)
    for day, name in enumerate("abcdefg"):
        run = root / "recommendations" / name
        (run / "part-00000.parquet").write_bytes(b"rows")
        created_at = (LONG_AGO + timedelta(days=day)).isoformat()
        file = RunFile(path="part-00000.parquet", rows=0, bytes=4, sha256="")
        parts = (run_part(file.path, files=(file,)),)
        manifest = run_manifest(name, parts=parts, created_at=created_at)
        (run / "manifest.json").write_json(manifest_json(manifest))
    (root / "recommendations" / "unfinished" / "part-00000.parquet").write_bytes(b"rows")
    return root


def remove(root, keep, newest, **settings):
    return remove_old_runs(root, ScoreConfig(keep_runs=keep, **settings), newest)


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


@pytest.mark.parametrize(
    ("policy", "kept"),
    [(NightlyTrainConfig(), "dg"), (NightlyTrainConfig(start="warm"), "bdg"),
     (NightlyTrainConfig(every_nights=7), "bdg")],
)  # fmt: skip
def test_the_run_stays_by_which_the_published_night_decides_again(root, policy, kept):
    """Nights of two dates, the second published twice: its model may be that of the first."""
    publish_long_ago(root, "abcd")
    history = root / "recommendations" / "history.json"
    content = history.read_json()
    for entry, day in zip(content["publications"], (1, 2, 3, 3), strict=True):
        entry["as_of"] = (LONG_AGO + timedelta(days=day)).isoformat()
    history.write_json(content)
    score = ScoreConfig(keep_runs=1, keep_published=1, readers_hours=0)
    remove_old_runs(root, score, "g", policy)
    assert left(root / "recommendations") == kept


def test_without_a_rule_everything_stays(root):
    assert remove(root, None, "g") == []
    assert left(root / "recommendations") == "abcdefg"


def test_the_newest_stay_and_unfinished_ones_are_left_alone(root):
    assert remove(root, 3, "g") == ["a", "b", "c", "d"]
    assert left(root / "recommendations") == "efg"
    assert "unfinished" in (root / "recommendations").children()
    assert remove(root, 3, "g") == []


def test_a_run_whose_manifest_cannot_be_read_is_left_alone_and_holds_up_no_other(root):
    (root / "recommendations" / "a" / "manifest.json").write_bytes(b"{")
    assert remove(root, 3, "g") == list("bcd")
    assert left(root / "recommendations") == "aefg"


def test_the_published_run_and_two_before_it_stay_for_rollbacks(root):
    publish_long_ago(root, "abcd")
    assert remove(root, 1, "g") == ["a", "e", "f"]
    assert left(root / "recommendations") == "bcdg"
    assert roll_back(read_published(root)).run_id == "c"
    assert roll_back(read_published(root)).run_id == "b"


@pytest.mark.parametrize(("keep", "stays"), [(1, "dg"), (2, "cdg"), (4, "abcdg")])
def test_so_many_of_the_published_runs_stay_as_are_asked_for(root, keep, stays):
    publish_long_ago(root, "abcd")
    remove(root, 1, "g", keep_published=keep)
    assert left(root / "recommendations") == stays


@pytest.mark.parametrize(("hours", "stays"), [(0, "dg"), (0.5, "dg"), (2, "cdg"), (24, "abcdg")])
def test_for_some_hours_readers_have_what_was_published_before(root, hours, stays):
    for name in "abcd":
        publish_run(read_published(root), name)
    history = root / "recommendations" / "history.json"
    content = history.read_json()
    now = datetime.now(UTC)
    for entry, ago in zip(content["publications"], (30, 20, 10, 1), strict=True):
        entry["published_at"] = (now - timedelta(hours=ago)).isoformat()
    history.write_json(content)
    remove(root, 1, "g", keep_published=1, readers_hours=hours)
    assert left(root / "recommendations") == stays


def test_a_run_that_was_published_twice_counts_once(root):
    publish_long_ago(root, "abababcbc")
    remove(root, 1, "g", keep_published=3)
    assert left(root / "recommendations") == "abcg"
    assert roll_back(read_published(root)).run_id == "b"
    assert roll_back(read_published(root)).run_id == "a"


def test_publishing_a_run_again_does_not_cost_the_one_a_rollback_needs(root):
    publish_long_ago(root, "ab")
    history = root / "recommendations" / "history.json"
    content = history.read_json()
    again = {**content["publications"][-1], "number": 3, "instead_of": "b", "previous": 2}
    history.write_json({"publications": [*content["publications"], again]})  # as before
    remove(root, 1, "g")
    assert left(root / "recommendations") == "abg"
    assert roll_back(read_published(root)).run_id == "a"


def test_a_run_that_is_published_in_the_last_moment_gets_its_manifest_back(root, monkeypatch):
    published: list[Publication] = []

    def publish_first(root):
        name = latest_run_id(root)
        if not published:  # between the look at LATEST and the removal
            published.append(publish_run(read_published(root), "a"))
        return name

    monkeypatch.setattr(old_runs, "latest_run_id", publish_first)
    assert remove(root, 6, "g") == []
    assert publish_run(read_published(root), "a").run_id == "a"  # whole


def test_a_run_that_is_published_while_others_are_removed_stays(root, monkeypatch):
    publish_long_ago(root, "b")
    asked = []

    def publish_meanwhile(root):
        asked.append(root)
        if len(asked) == 2:
            publish_run(read_published(root), "d")
        return latest_run_id(root)

    monkeypatch.setattr(old_runs, "latest_run_id", publish_meanwhile)
    assert "d" not in remove(root, 1, "g")
    assert "d" in left(root / "recommendations")


def test_a_run_stays_for_its_readers_after_another_was_published(root):
    publish_long_ago(root, "ab")
    for name in "cdef":
        publish_run(read_published(root), name)
    # b was LATEST until a moment ago, c and d for a moment.
    assert remove(root, 1, "g") == ["a"]
    assert left(root / "recommendations") == "bcdefg"


def test_the_run_that_was_just_made_stays_whatever_its_date(root):
    assert remove(root, 1, "a") == ["b", "c", "d", "e", "f"]
    assert left(root / "recommendations") == "ag"


def test_a_run_that_another_one_carries_lists_over_from_stays_meanwhile(root):
    lock = root / "locks" / "run-new.json"
    with hold(lock, "score of run new", 60, uses=["datasets/d", "recommendations/b"]):
        assert remove(root, 3, "g") == ["a", "c", "d"]
    assert remove(root, 3, "g") == ["b"]


@pytest.mark.parametrize("before", [[], ["g"]])
def test_a_run_that_is_removed_while_it_is_published_is_not_published(root, before, monkeypatch):
    """Either who removes it sees that it is published, or who publishes it that it is gone."""
    if before:
        publish_long_ago(root, before)
    state = read_published(root)
    whole = publishing.require_complete

    def remove_then(run):
        manifest = whole(run)
        assert remove_run(root, "a")
        return manifest

    monkeypatch.setattr(publishing, "require_complete", remove_then)
    with pytest.raises(NotFoundError, match="a: it was removed while it was published"):
        publish_run(state, "a")
    assert latest_run_id(root) == (before[0] if before else None)
