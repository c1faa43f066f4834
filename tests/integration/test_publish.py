"""Publishing, rollback and the lease, on local disk and on a real S3 server."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pyarrow as pa
import pytest

from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.config import ScoreConfig, StorageConfig
from lightsans.errors import LeaseError, NotFoundError, PublishError
from lightsans.recommendations.reader import RunRows
from lightsans.recommendations.writer import FileLayout, PartFiles
from lightsans.storage.conditional_writes import Versioned, read_versioned, write_if_unchanged
from lightsans.storage.listing import list_files
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import RunFile
from lightsans.storage.manifests import Manifest, write_manifest
from lightsans.storage.parts import part_name
from lightsans.storage.schemas import recommendations_schema
from pipelines.operations.runs import list_runs
from pipelines.publish import (
    HISTORY,
    LATEST,
    latest_run_id,
    publish_run,
    read_published,
    roll_back,
)
from pipelines.score.old_runs import remove_old_runs
from pipelines.session.lease import Lease, hold
from pipelines.session.stage import find_or_make
from tests.factories import local
from tests.manifests import dataset_manifest, run_manifest, run_part


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing(Manifest):
    kind: ClassVar = "thing"
    number: int


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    if request.param == "local":
        return local(tmp_path)
    server = request.getfixturevalue("s3_server")
    return locate(server.uri(tmp_path.name), StorageConfig(endpoint_url=server.endpoint_url))


def make_run(root, name, as_of=None):
    """A finished run of two empty parts, and the manifest of its dataset."""
    data = {"as_of": as_of, "timezone": "UTC"}
    write_manifest(root / "datasets" / f"data-of-{name}", dataset_manifest(data=data))
    run = root / "recommendations" / name
    for part in ("part-00000.parquet", "part-00001.parquet"):
        (run / part).write_bytes(b"")
    names = [part_name(i) for i in (0, 1)]
    files = [RunFile(path=name, rows=0, bytes=0, sha256="") for name in names]
    parts = tuple(run_part(file.path, files=(file,)) for file in files)
    ids = {"dataset_id": f"data-of-{name}", "model_id": "m"}
    write_manifest(run, run_manifest(name, **ids, users=3, popular_users=1, parts=parts))


def latest_text(root):
    return (root / "recommendations" / LATEST).read_bytes()


# ---- publishing


def test_the_pointer_is_the_plain_run_id_and_the_listing_marks_it(root):
    assert latest_run_id(root) is None
    make_run(root, "one")
    make_run(root, "two")
    publish_run(read_published(root), "two")
    assert latest_text(root) == b"two"
    assert latest_run_id(root) == "two"
    listed = {run.id: run.published for run in list_runs(root)}
    assert listed == {"one": False, "two": True}


def test_a_publication_remembers_the_date_of_its_log_and_what_it_replaced(root):
    make_run(root, "one", "2026-11-05")
    make_run(root, "two", "2026-11-06T01:00:00+01:00")
    first = publish_run(read_published(root), "one", "nightly")
    second = publish_run(read_published(root), "two")
    assert (first.action, first.as_of, first.instead_of) == (
        "nightly",
        "2026-11-05T00:00:00+00:00",
        None,
    )
    assert (second.action, second.as_of, second.instead_of) == (
        "publish",
        "2026-11-06T00:00:00+00:00",
        "one",
    )
    assert read_published(root).current == second


def test_rollbacks_go_back_one_publication_each_and_then_say_that_there_is_no_more(root):
    for name in ("one", "two", "three"):
        make_run(root, name)
        publish_run(read_published(root), name)
    for expected in ("two", "one"):
        assert roll_back(read_published(root)).run_id == expected
        assert latest_text(root).decode() == expected
    with pytest.raises(NotFoundError, match="nothing was published before one"):
        roll_back(read_published(root))
    assert latest_text(root) == b"one"
    assert len(read_published(root).history) == 5  # nothing is forgotten


def test_after_a_rollback_publishing_goes_on_from_there(root):
    for name in ("one", "two", "three"):
        make_run(root, name)
    for name in ("one", "two"):
        publish_run(read_published(root), name)
    roll_back(read_published(root))
    publish_run(read_published(root), "three")
    assert roll_back(read_published(root)).run_id == "one"


def test_a_run_is_withdrawn_from_its_rollback_until_it_is_published_again(root):
    for name in ("one", "two", "three"):
        make_run(root, name)
    for name in ("one", "two"):
        publish_run(read_published(root), name)
    assert read_published(root).withdrawn("two") is None
    back = roll_back(read_published(root))
    assert read_published(root).withdrawn("two") == back
    assert read_published(root).withdrawn("one") is None
    publish_run(read_published(root), "three")
    assert read_published(root).withdrawn("two") == back
    publish_run(read_published(root), "two")
    assert read_published(root).withdrawn("two") is None
    assert read_published(root).withdrawn("three") is None


def test_a_run_with_missing_parts_or_without_manifest_is_not_published(root):
    make_run(root, "one")
    publish_run(read_published(root), "one")
    make_run(root, "two")
    (root / "recommendations" / "two" / "part-00001.parquet").delete()
    with pytest.raises(NotFoundError, match=r"1 of 2 files are gone, such as part-00001\.parquet"):
        publish_run(read_published(root), "two")
    (root / "recommendations" / "two" / "part-00001.parquet").write_bytes(b"half")
    with pytest.raises(NotFoundError, match="not as large as they were written, such as part-0000"):
        publish_run(read_published(root), "two")
    with pytest.raises(NotFoundError, match=r"three/manifest\.json: not found.*recommendations"):
        publish_run(read_published(root), "three")
    with pytest.raises(NotFoundError):
        publish_run(read_published(root), LATEST)
    assert latest_text(root) == b"one"


def test_a_rollback_to_a_run_that_was_removed_changes_nothing(root):
    for name in ("one", "two"):
        make_run(root, name)
        publish_run(read_published(root), name)
    (root / "recommendations" / "one").delete()
    with pytest.raises(NotFoundError, match="one/manifest"):
        roll_back(read_published(root))
    assert latest_text(root) == b"two"


def test_who_read_before_another_published_is_refused_and_told_what_is_there(root):
    for name in ("zero", "one", "two", "three"):
        make_run(root, name)
    publish_run(read_published(root), "zero")
    publish_run(read_published(root), "one")
    before = read_published(root)
    publish_run(read_published(root), "two")
    with pytest.raises(PublishError, match=r"it was one and is two now\. Run three was not"):
        publish_run(before, "three")
    with pytest.raises(PublishError):
        roll_back(before)
    assert latest_text(root) == b"two"
    publish_run(read_published(root), "three")
    assert latest_text(root) == b"three"


def test_who_read_between_the_two_steps_of_another_is_refused_too(root):
    """The history of the other is there already, its pointer not yet: the pointer decides."""
    for name in ("one", "two", "three"):
        make_run(root, name)
    publish_run(read_published(root), "one")
    pointer = read_published(root).latest
    publish_run(read_published(root), "two")
    with pytest.raises(PublishError, match="it was one and is two now"):
        publish_run(replace(read_published(root), latest=pointer), "three")
    assert latest_text(root) == b"two"


def test_of_many_who_publish_at_once_one_moves_the_pointer(root):
    names = [f"run-{i}" for i in range(6)]
    for name in names:
        make_run(root, name)
    before = read_published(root)

    def attempt(name):
        try:
            return publish_run(before, name)
        except PublishError:
            return None

    with ThreadPoolExecutor(6) as pool:
        made = [entry for entry in pool.map(attempt, names) if entry is not None]
    assert [entry.run_id for entry in made] == [latest_text(root).decode()]
    assert read_published(root).current == made[0]


def test_a_crash_between_history_and_pointer_counts_for_nothing(root):
    """The history of a publication that died is put back in place; LATEST never moved."""
    for name in ("one", "two", "three"):
        make_run(root, name)
    publish_run(read_published(root), "one")
    pointer = latest_text(root)
    publish_run(read_published(root), "two")
    (root / "recommendations" / LATEST).write_bytes(pointer)
    assert len(read_published(root).history) == 2
    current = read_published(root).current
    assert current is not None
    assert current.run_id == "one"
    assert publish_run(read_published(root), "two").number == 3
    assert roll_back(read_published(root)).run_id == "one"


def test_a_pointer_that_was_written_by_hand_can_be_published_over(root):
    make_run(root, "one")
    (root / "recommendations" / LATEST).write_bytes(b"one\n")
    published = read_published(root)
    assert (published.run_id, published.current) == ("one", None)
    with pytest.raises(NotFoundError, match="nothing was published before one"):
        roll_back(published)
    make_run(root, "two")
    assert publish_run(read_published(root), "two").instead_of == "one"


def test_only_runs_are_listed_not_the_files_beside_them(root):
    make_run(root, "one")
    publish_run(read_published(root), "one")
    (root / "recommendations" / "unfinished" / "part-00000.parquet").write_bytes(b"")
    assert [run.id for run in list_runs(root)] == ["one"]
    assert set((root / "recommendations").children()) == {LATEST, HISTORY, "one", "unfinished"}


# ---- files and retention


def test_the_files_of_a_part_come_back_from_either_storage(root):
    schema = recommendations_schema(pa.string(), pa.string())
    rows = pa.Table.from_pylist(
        [
            {"user_id": f"u{i}", "item_ids": ["a", "b"], "scores": [2.0, 1.0], "source": "model"}
            for i in range(5)
        ],
        schema,
    )
    layout = FileLayout("long", "rank", max_users_per_file=3, users_per_row_group=2)
    run, part = root / "recommendations" / "one", part_name(0)
    with PartFiles(run, part, schema, layout, {}) as files:
        files.write(rows)
    found = {file.location.uri: file.size for file in list_files(run.uri, run.storage)}
    assert found == {(run / file.path).uri: file.bytes for file in files.files}
    assert (run / "rank=2" / "part-00000-00001.parquet").uri in found
    written = run_part(part, files=tuple(files.files))
    manifest = run_manifest(settings={"layout": "long", "k": 2}, parts=(written,))
    again = RunRows(run, manifest, [part], 2).between(0, NUM_BUCKETS - 1)
    assert sorted(again.to_pylist(), key=lambda row: row["user_id"]) == rows.to_pylist()


def test_old_runs_go_save_the_published_one(root):
    for name in ("one", "two", "three"):
        make_run(root, name)
        manifest = root / "recommendations" / name / "manifest.json"
        manifest.write_json({**manifest.read_json(), "created_at": f"20{len(name):02}-01-01"})
    publish_run(read_published(root), "one")
    assert remove_old_runs(root, ScoreConfig(keep_runs=1), newest="three") == ["two"]
    # A server may go on listing a directory without files.
    assert (root / "recommendations" / "two").children() == []
    assert [run.id for run in list_runs(root)] == ["three", "one"]


# ---- conditional writes and the lease


def test_of_many_conditional_writes_one_succeeds(root):
    location = root / "locks" / "x"
    version = None
    for attempt in range(3):
        contents = [b"%d-%d" % (attempt, writer) for writer in range(6)]
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda c, v=version: write_if_unchanged(location, c, v), contents))
        winners = [i for i, new in enumerate(made) if new is not None]
        assert len(winners) == 1
        version = made[winners[0]]
        assert version is not None
        assert read_versioned(location) == Versioned(contents[winners[0]], version)


def test_a_conditional_write_to_a_file_that_was_removed_is_refused(root):
    location = root / "locks" / "x"
    version = write_if_unchanged(location, b"one", None)
    location.delete()
    assert write_if_unchanged(location, b"two", version) is None
    assert read_versioned(location) is None


@pytest.mark.parametrize("root", ["s3"], indirect=True)  # on disk: a unit test
def test_a_lease_keeps_others_out_while_it_is_renewed_and_not_after(root):
    location = root / "locks" / "nightly.json"
    with hold(location, "first", 1.5) as lease:
        time.sleep(3)
        with pytest.raises(LeaseError, match=r"held by first \(host"), hold(location, "x", 60):
            pass
        lease.renew()
    with hold(location, "second", 60):
        assert location.read_json()["owner"] == "second"


def test_a_lease_that_ended_is_taken_over_and_its_holder_hears_of_it(root):
    location = root / "locks" / "nightly.json"
    with hold(location, "slow", 60) as slow:
        ended = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        location.write_json({**location.read_json(), "expires_at": ended})
        quick = Lease(location, "quick", 60)
        quick.take()
        with pytest.raises(LeaseError, match="lost to quick"):
            slow.renew()
    assert location.read_json()["owner"] == "quick"


@pytest.mark.parametrize("root", ["s3"], indirect=True)  # on disk: a unit test
def test_of_two_that_make_the_same_result_at_once_one_makes_it(root, monkeypatch):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.1)
    directory, made = root / "things" / "0123", []

    def make(owner, anew):
        made.append(anew)
        time.sleep(0.5)
        owner.require()
        return Thing(number=len(made))

    def run(_):
        return find_or_make(Thing, directory, root, stage="make", kind="thing", make=make)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4)))
    assert made == [False]
    assert sorted(found for _, found in results) == [False, True, True, True]
    assert {manifest.number for manifest, _ in results} == {1}


@pytest.mark.parametrize("root", ["s3"], indirect=True)  # on disk: a unit test
def test_who_loses_the_lease_of_a_result_ends_at_once_and_writes_no_manifest(root, monkeypatch):
    monkeypatch.setattr("pipelines.session.stage.LEASE_S", 1.2)
    directory = root / "things" / "0123"
    lock = root / "locks" / "thing-0123.json"

    def make(owner, anew):
        ended = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        lock.write_json({**lock.read_json(), "expires_at": ended})
        Lease(lock, "quick", 60).take()
        time.sleep(60)
        return Thing(number=0)

    begun = time.monotonic()
    with pytest.raises(LeaseError, match="lost to quick"):
        find_or_make(Thing, directory, root, stage="make", kind="thing", make=make)
    assert time.monotonic() - begun < 20
    assert directory.children() == []
