"""Through a network that loses requests and answers: the same result, or an error that says where.

Everything that s3fs asks passes a proxy before the real server.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.errors import AccessError, InputError, StorageError
from lightsans.reading.units import plan_reading, read_unit
from lightsans.storage.listing import BegunObject, begin_reading, check_unchanged, list_files
from lightsans.storage.location import FileInfo, locate
from pipelines.preprocess.stage import run_preprocess
from tests.s3_faults import Fault, Faults, run_faulty_proxy

ROUGH: dict[Fault, float] = {
    "busy": 0.08, "reset": 0.05, "lost_answer": 0.05, "cut_body": 0.08, "slow": 0.1,
    "stalled": 0.02,
}  # fmt: skip
STRINGS = ("string", "string")


@pytest.fixture
def behind_proxy(s3_server) -> Iterator[Callable[..., StorageConfig]]:
    """Storage settings that lead through a proxy with some faults; it stops with the test."""
    with ExitStack() as stack:

        def start(faults: Faults, timeout_s: float = 1.0, max_attempts: int = 10) -> StorageConfig:
            url = stack.enter_context(run_faulty_proxy(s3_server.endpoint_url, faults))
            return StorageConfig(endpoint_url=url, timeout_s=timeout_s, max_attempts=max_attempts)

        yield start


def test_every_operation_survives_a_rough_network(s3_server, behind_proxy):
    faults = Faults(dict(ROUGH), seed=1, stalled_s=1.5)
    root = locate(s3_server.uri("rough"), behind_proxy(faults))
    table = pa.table({"x": np.arange(50_000)})
    for number in range(2):
        directory = root / f"{number}"
        assert not directory.exists()
        (directory / "t.parquet").write_table(table)
        (directory / "j.json").write_json({"number": number})
        assert directory.children() == ["j.json", "t.parquet"]
        assert (directory / "t.parquet").read_table() == table
        assert (directory / "j.json").read_json() == {"number": number}
        whole = (directory / "t.parquet").read_bytes()
        assert (directory / "t.parquet").read_range(100, 9000) == whole[100:9000]
        assert [file.size for file in list_files(f"{directory}/*.parquet", root.storage)] == [
            len(whole)
        ]
        directory.delete()
        assert directory.children() == []
    assert {"busy", "reset", "lost_answer", "cut_body"} <= set(faults.made), faults.made


def test_a_preprocessed_log_is_the_same_through_a_rough_network(
    ray_cluster, tmp_path, small_log, tiny_config, s3_server, behind_proxy
):
    here = run_preprocess(tiny_config(tmp_path))
    faults = Faults({name: rate / 3 for name, rate in ROUGH.items()}, seed=2, stalled_s=1.5)
    storage = behind_proxy(faults)
    log = locate(s3_server.uri("rough-log/small.inter"), storage)
    log.write_bytes(small_log.read_bytes())
    settings = [f"storage.endpoint_url={storage.endpoint_url}", "storage.timeout_s=1"]
    settings += [f"data.input={log.uri}", "data.read_unit_bytes=20000"]
    there = run_preprocess(tiny_config(s3_server.uri("rough-root"), *settings))
    assert there.manifest.fingerprint == here.manifest.fingerprint
    assert faults.made.total() >= 5, faults.made


def test_an_object_that_is_replaced_while_it_is_read_is_an_error_that_names_it(s3_server):
    storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
    location = locate(s3_server.uri("replaced/x.bin"), storage)
    location.write_bytes(b"first")
    with location.open() as opened:
        location.write_bytes(b"other")
        message = "s3://lightsans/replaced/x.bin: the object was replaced while it was being read"
        with pytest.raises(StorageError, match=message):
            opened.read()
    assert location.read_bytes() == b"other"


@pytest.fixture
def many_files(s3_server, behind_proxy) -> tuple[Faults, list[FileInfo], DataConfig]:
    """Thirty small files of a log behind a proxy that counts requests."""
    faults = Faults({})
    storage = behind_proxy(faults)
    root = locate(s3_server.uri("many-files"), storage)
    for number in range(30):
        (root / f"{number:02}.csv").write_bytes(
            f"user_id,item_id,timestamp\nu,i,{number}\n".encode()
        )
    data = DataConfig(input=(f"{root}/*.csv",), format="csv")
    return faults, list_files(f"{root}/*.csv", storage), data


def test_a_small_file_costs_two_requests_to_its_last_look(many_files):
    faults, files, data = many_files
    faults.requests.clear()
    plan = plan_reading(files, data)
    tables = [rows.table for unit in plan.units for _, rows in read_unit(unit, data, *STRINGS)]
    check_unchanged(files)
    assert sum(table.num_rows for table in tables) == 30
    of_files = sum(count for what, count in faults.requests.items() if ".csv" in what)
    assert of_files <= 2 * len(files), faults.requests
    assert faults.requests.total() <= of_files + 3, faults.requests


def test_a_look_at_a_large_object_asks_for_its_beginning_alone(s3_server):
    storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
    location = locate(s3_server.uri("large/x.csv"), storage)
    content = b"user_id,item_id,timestamp\n" + b"u,i,1\n" * 50_000
    location.write_bytes(content)
    begun = begin_reading(location.info())
    assert isinstance(begun, BegunObject)
    assert len(begun.beginning) == 64 << 10
    location.delete()
    assert begun.read_range(10, 20_000) == content[10:20_000]
    with pytest.raises(FileNotFoundError):
        begun.read_range(10, 200_000)
    location.write_bytes(content)
    with begin_reading(location.info()).open() as opened:
        assert opened.read() == content


def test_a_file_of_many_that_changes_is_named_wherever_it_is_noticed(many_files):
    _, files, data = many_files
    plan = plan_reading(files, data)
    changed = files[7].location
    changed.write_bytes(b"user_id,item_id,timestamp\nu,j,7\nu,j,8\n")
    told = f"{changed}: the file changed while it was being read: 32 bytes, etag"
    for look in (
        lambda: check_unchanged(files),
        lambda: plan_reading(files, data),
        lambda: [*read_unit(plan.units[0], data, *STRINGS)],
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            look()
    changed.delete()
    for look in (
        lambda: check_unchanged(files),
        lambda: plan_reading(files, data),
        lambda: [*read_unit(plan.units[0], data, *STRINGS)],
    ):
        with pytest.raises(InputError, match=f"{changed}: the file vanished while it was being"):
            look()


def test_a_store_that_stays_busy_is_an_error_that_names_the_object(s3_server, behind_proxy):
    faults = Faults({"busy": 1.0})
    location = locate(s3_server.uri("busy/x.json"), behind_proxy(faults, max_attempts=2))
    for action in (location.read_bytes, lambda: location.write_bytes(b"1"), location.exists):
        faults.requests.clear()
        with pytest.raises(StorageError, match=r"s3://lightsans/busy/x.json: gave up after 2 att"):
            action()
        assert faults.requests.total() == 2, faults.requests
    with pytest.raises(StorageError, match=r"s3://lightsans/busy.*storage.max_attempts"):
        location.parent.children()


def test_an_address_where_nobody_listens_is_an_error_that_names_the_object(s3_server):
    storage = StorageConfig(endpoint_url="http://127.0.0.1:1", max_attempts=2, timeout_s=1)
    with pytest.raises(StorageError, match=r"x.json: gave up after 2 attempts.*127.0.0.1:1"):
        locate(s3_server.uri("nobody/x.json"), storage).read_bytes()


def test_what_is_missing_or_forbidden_is_asked_for_once(s3_server, behind_proxy, monkeypatch):
    faults = Faults({})
    missing = locate(s3_server.uri("missing.json"), behind_proxy(faults))
    with pytest.raises(FileNotFoundError):
        missing.read_json()
    repeated = {request for request, count in faults.requests.items() if count > 1}
    assert not repeated, faults.requests
    faults.requests.clear()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    forbidden = locate(s3_server.uri("x"), behind_proxy(faults, timeout_s=2.0))
    with pytest.raises(AccessError, match=r"s3://lightsans/x: no access: .*storage\.profile"):
        forbidden.write_bytes(b"1")
    assert faults.requests.total() == 1, faults.requests


def test_a_whole_object_is_read_or_missed_in_one_request(s3_server, behind_proxy):
    faults = Faults({})
    location = locate(s3_server.uri("whole/x.json"), behind_proxy(faults))
    location.write_json({"a": 1})
    faults.requests.clear()
    assert location.read_json() == {"a": 1}
    with pytest.raises(FileNotFoundError):
        (location.parent / "missing.json").read_json()
    assert faults.requests.total() == 2, faults.requests


def test_no_part_of_a_new_dataset_is_looked_for_by_a_listing_of_its_own(
    ray_cluster, small_log, tiny_config, s3_server, behind_proxy
):
    faults = Faults({})
    storage = behind_proxy(faults)
    settings = [f"storage.endpoint_url={storage.endpoint_url}", f"data.input={small_log}"]
    listings = []
    for parts in (2, 12):
        faults.requests.clear()
        run_preprocess(tiny_config(s3_server.uri("listings"), *settings, f"data.num_parts={parts}"))
        listings.append(sum(n for what, n in faults.requests.items() if "list-type=2" in what))
    few, many = listings
    assert many <= few + 3, f"{listings}; a bar looks at the directory now and then"


def test_credentials_come_from_where_the_settings_say(s3_server, tmp_path, monkeypatch):
    location = locate(s3_server.uri("who"), StorageConfig(endpoint_url=s3_server.endpoint_url))
    location.write_bytes(b"1")
    profiles = tmp_path / "config"
    profiles.write_text(
        f"[profile team]\naws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}\n"
    )

    def read(**settings) -> bytes:
        storage = StorageConfig(endpoint_url=s3_server.endpoint_url, timeout_s=9.0, **settings)
        return locate(location.uri, storage).read_bytes()

    with pytest.raises(AccessError, match="no access: Access Denied"):  # though there are keys
        read(anonymous=True)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert read(profile="team") == b"1"
    with pytest.raises(AccessError, match=r"who: no access: .*profile \(nobody\)"):
        read(profile="nobody")
    with pytest.raises(AccessError, match="Unable to locate credentials"):
        read()


def test_faults_depend_on_the_seed_and_the_request_alone():
    def draw(seed, names):
        faults = Faults(dict(ROUGH), seed=seed)
        return {(name, n): faults.draw(name) for n, name in itertools.product(range(20), names)}

    assert draw(1, "abc") == draw(1, "cba")
    assert draw(1, "abc") != draw(2, "abc")
