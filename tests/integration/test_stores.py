"""Properties of gs:// and abfs:// that nights need, tried on local servers of their protocols."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lightsans.config import StorageConfig
from lightsans.errors import AccessError, ConfigError, LeaseError, StorageError
from lightsans.storage.conditional_writes import Versioned, read_versioned, write_if_unchanged
from lightsans.storage.filesystems import open_filesystem
from lightsans.storage.listing import list_files
from lightsans.storage.location import locate
from lightsans.warehouse.access import delta_options
from lightsans.warehouse.tables import open_output
from pipelines.operations.listing import list_root
from pipelines.publish import LATEST, publish_run, read_published, roll_back
from pipelines.session.lease import hold
from tests.azure_server import ACCOUNT, CONTAINER, run_azure_server
from tests.commands import ROOT
from tests.gcs_server import BUCKET, run_gcs_server
from tests.integration.conftest import TINY
from tests.integration.test_publish import latest_text, make_run
from tests.logs_on_disk import read_log
from tests.nights import FIRST, write_log
from tests.run_tables import commit, key_of, run_rows

GCS, AZURE = StorageConfig(anonymous=True), StorageConfig()


@contextmanager
def reached_by(variables):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        open_filesystem.cache_clear()
        yield
    open_filesystem.cache_clear()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An empty bucket, as long as the tests of this file run."""
    with run_gcs_server(tmp_path_factory.mktemp("gcs")) as variables, reached_by(variables):
        yield f"gs://{BUCKET}"


@pytest.fixture(scope="module")
def container(tmp_path_factory):
    """An empty container, as long as the tests of this file run."""
    with run_azure_server(tmp_path_factory.mktemp("azure")) as variables, reached_by(variables):
        yield f"abfs://{CONTAINER}"


@pytest.fixture
def gcs_root(bucket, tmp_path):
    return locate(f"{bucket}/{tmp_path.name}", GCS)


@pytest.fixture
def azure_root(container, tmp_path):
    return locate(f"{container}/{tmp_path.name}", AZURE)


@pytest.fixture(params=["gcs_root", "azure_root"], ids=["gs", "abfs"])
def root(request):
    """A directory of either store."""
    return request.getfixturevalue(request.param)


# ---- files


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # how gcsfs uploads
def test_what_is_written_is_read_back_listed_and_deleted(root):
    large = np.random.default_rng(0).bytes(6 << 20)  # above 5 MiB it goes up in pieces
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


ODD = ["a*", "[ab]", "a?c", "{a,b}", "**", "a#1", "a%20b", "a b+c", "ü~"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_deletion_takes_names_as_they_are(root, name):
    """A name that fsspec takes for a pattern, or for part of an address, removes nothing else."""
    check_deletion(root, name)


def check_deletion(root, name):
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


def test_a_replaced_file_of_the_same_size_is_told_apart_however_it_is_listed(root):
    (root / "logs" / "x.csv").write_bytes(b"one")
    patterns = [f"{root}/logs", f"{root}/logs/*.csv", f"{root}/logs/x.csv"]
    before = [list_files(pattern, root.storage) for pattern in patterns]
    (root / "logs" / "x.csv").write_bytes(b"two")
    after = [list_files(pattern, root.storage) for pattern in patterns]
    assert before[0] == before[1] == before[2]
    assert after[0] == after[1] == after[2]
    assert before[0][0].size == after[0][0].size == 3
    assert "" != before[0][0].etag != after[0][0].etag


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # how gcsfs uploads
def test_ray_writes_and_deletes_through_arrow(root):
    """Ray Train and Tune keep small files there by Arrow's interface."""
    disk, large = root.arrow_filesystem, bytes(12 << 20)
    disk.create_dir(f"{root.path}/run")
    for name, content in (("a", b"x"), ("b 1", b""), ("c", large)):
        with disk.open_output_stream(f"{root.path}/run/deep/{name}") as stream:
            stream.write(content[: len(content) // 2])
            stream.write(content[len(content) // 2 :])
        assert (root / "run" / "deep" / name).read_bytes() == content
    assert disk.get_file_info(f"{root.path}/run/deep/c").size == len(large)
    (root / "run" / "deepest").write_bytes(b"y")
    disk.delete_file(f"{root.path}/run/deep/b 1")
    disk.delete_dir(f"{root.path}/run/deep")
    assert (root / "run").children() == ["deepest"]


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


def test_ages_and_sizes_of_files_are_known_to_who_cleans_up(root):
    (root / "runs" / "x").write_bytes(b"123")
    assert list_root(root).total_bytes() == 3


# ---- gs:// alone


def test_deletion_on_gcs_takes_names_with_control_characters_too(gcs_root):
    check_deletion(gcs_root, "ü~\n")


def test_a_file_that_another_process_writes_to_gcs_is_seen_in_a_listed_directory(gcs_root):
    (gcs_root / "one").write_bytes(b"1")
    assert gcs_root.children() == ["one"]
    another = type(gcs_root.filesystem)(token="anon", skip_instance_cache=True)
    another.pipe_file((gcs_root / "two").path, b"2")
    assert gcs_root.children() == ["one", "two"]


def test_writing_to_a_bucket_that_is_missing_is_an_error(bucket):
    with pytest.raises(FileNotFoundError):
        write_if_unchanged(locate("gs://no-such-bucket/x", GCS), b"one", None)


# ---- abfs:// alone


def test_a_file_that_another_process_writes_to_azure_is_seen_in_a_listed_directory(azure_root):
    (azure_root / "one").write_bytes(b"1")
    assert azure_root.children() == ["one"]
    (locate(azure_root.uri, StorageConfig(timeout_s=7)) / "two").write_bytes(b"2")  # another client
    assert azure_root.children() == ["one", "two"]


def test_a_name_with_control_characters_is_refused(azure_root):
    with pytest.raises(ConfigError, match="no name for a blob"):
        (azure_root / "a\nb").write_bytes(b"x")


def test_a_container_that_is_missing_is_an_error(container):
    with pytest.raises(FileNotFoundError):
        write_if_unchanged(locate("abfs://no-such-container/x", AZURE), b"one", None)
    assert not locate("abfs://no-such-container/x", AZURE).exists()
    assert locate("abfs://no-such-container/x", AZURE).children() == []


def test_a_log_on_azure_is_read_and_named_with_its_account_too(azure_root):
    (azure_root / "logs" / "day=1" / "a.csv").write_bytes(
        b"user_id,item_id,timestamp\nu,i,1\nu,j,2\n"
    )
    (azure_root / "logs" / "_SUCCESS").write_bytes(b"")
    [plain] = list_files(f"{azure_root}/logs", AZURE)
    assert [item for _, item, _ in read_log(f"{azure_root}/logs").rows] == ["i", "j"]
    account = f"abfss://{CONTAINER}@{ACCOUNT}.dfs.core.windows.net/{azure_root.name}"
    for pattern in (f"{account}/logs", f"{account}/logs/*/*.csv"):
        [named] = list_files(pattern, AZURE)
        assert named.location.uri == f"{account.replace('abfss', 'abfs')}/logs/day=1/a.csv"
        assert (named.location.path, named.etag) == (plain.location.path, plain.etag)


def test_delta_tables_are_read_and_take_runs(azure_root, tmp_path):
    rows = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [1]})
    write_deltalake(f"{azure_root}/log", rows, storage_options=delta_options(azure_root))
    write_deltalake(
        f"{azure_root}/log", rows, mode="append", storage_options=delta_options(azure_root)
    )
    assert [item for _, item, _ in read_log(f"delta://{azure_root}/log@v0").rows] == ["i"]
    assert [item for _, item, _ in read_log(f"{azure_root}/log").rows] == ["i", "i"]
    for _ in range(2):
        table = open_output(f"delta://{azure_root}/lists", AZURE)
        commit(tmp_path, table, key_of("r1"), "append", run_rows("ann", "ben"))
    lists = DeltaTable(f"{azure_root}/lists", storage_options=delta_options(azure_root))
    assert (lists.version(), lists.to_pyarrow_table().num_rows) == (0, 2)


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(azure_root):
    (azure_root / "x").write_bytes(bytes(8 << 20))
    with (azure_root / "x").open() as opened:
        opened.read(10)
        (azure_root / "x").write_bytes(b"y" * (8 << 20))
        opened.seek(7 << 20)
        with pytest.raises(StorageError, match="replaced while it was being read"):
            opened.read(1 << 20)


def test_wrong_keys_and_servers_that_do_not_answer_are_told(container, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "eHh4eHh4eHg=")
    open_filesystem.cache_clear()
    with pytest.raises(AccessError, match=f"abfs://{CONTAINER}/x: no access: .*AZURE_STORAGE_SAS"):
        locate(f"{container}/x", AZURE).read_bytes()
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/x")
    dead = StorageConfig(max_attempts=2, timeout_s=1)
    with pytest.raises(StorageError, match=f"abfs://{CONTAINER}/x: gave up"):
        locate(f"{container}/x", dead).exists()


# ---- without a server


def test_all_names_of_azure_are_the_same_place():
    for scheme in ("abfss", "az", "ABFS"):
        assert locate(f"{scheme}://container/x", AZURE) == locate("abfs://container/x", AZURE)


def test_a_name_that_no_container_has_and_a_missing_account_are_told(monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    fresh = StorageConfig(timeout_s=3)
    with pytest.raises(ConfigError, match="'My_Lake' cannot be the name of a container"):
        locate("abfs://My_Lake/x", fresh).exists()
    with pytest.raises(AccessError, match=r"of which account\? Give AZURE_STORAGE_ACCOUNT_NAME"):
        locate("abfs://lake/x", fresh).exists()


def test_both_names_of_gcs_are_the_same_place():
    assert locate("gcs://bucket/x", GCS) == locate("gs://bucket/x", GCS)


def test_without_gcsfs_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)  # as if it were not there
    location = locate("gs://bucket/x", StorageConfig(anonymous=True, timeout_s=1.5))  # not cached
    with pytest.raises(ConfigError, match=r"gs:// needs the package gcsfs.*requirements\.lock"):
        location.exists()


@pytest.mark.timeout(600)
def test_a_whole_night_works_on_azure_and_the_same_command_finds_it_done(azure_root, tmp_path):
    """One command, with a Ray of its own whose workers have the variables of the store too."""
    write_log(tmp_path / "log.csv")
    (azure_root / "logs" / "log.csv").write_bytes((tmp_path / "log.csv").read_bytes())
    settings = [f"root={azure_root}/root", f"data.input={azure_root}/logs", *TINY]
    settings += ["data.num_parts=1", "train.epochs=3", "train.num_workers=1"]
    settings += ["model.hidden_size=32", "score.num_workers=1"]
    words = ["nightly", "--as-of", FIRST, "--json"]
    words += [word for setting in settings for word in ("--set", setting)]
    without = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    published = []
    for environment in (without, without | {"RAY_ADDRESS": "127.0.0.1:1"}):
        done = subprocess.run(
            [sys.executable, "submit.py", *words],
            cwd=ROOT, env=environment, timeout=500, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        published.append(read_published(azure_root / "root").run_id)
    assert published[0] is not None
    assert published[0] == published[1]
    run = azure_root / "root" / "recommendations" / published[0]
    lists = [run / name for name in run.children() if name.endswith(".parquet")]
    assert sum(each.read_table(["user_id"]).num_rows for each in lists) >= 500
