"""Runs in an Iceberg table of an SQLite catalog: each once, all of it or nothing."""

from pathlib import Path

import pyarrow as pa
import pytest

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError
from lightsans.warehouse.catalogs import CatalogTable, open_catalog
from lightsans.warehouse.tables import open_output
from tests.run_tables import NIGHT, commit, key_of, run_rows, write_files
from tests.warehouses import made_catalog

URI = "iceberg://prod/shop.lists"


@pytest.fixture(autouse=True)
def catalog(tmp_path: Path, monkeypatch):
    made_catalog(monkeypatch, tmp_path)


def opened():
    found = CatalogTable("prod", "shop.lists")
    return open_catalog(found, StorageConfig()).load_table(found.name)


def users() -> list[tuple[str, str]]:
    found = opened().scan().to_arrow()
    return sorted(zip(found["run_id"].to_pylist(), found["user_id"].to_pylist(), strict=True))


def put(tmp_path, run_id, *names, mode="append", made=1, digest="abc"):
    table = open_output(URI, StorageConfig())
    commit(tmp_path, table, key_of(run_id, made, digest), mode, run_rows(*names))


def test_runs_are_added_each_once_with_what_says_which_they_are(tmp_path):
    put(tmp_path, "r1", "ann", "ben")
    put(tmp_path, "r2", "cid")
    put(tmp_path, "r1", "ann", "ben")
    assert users() == [("r1", "ann"), ("r1", "ben"), ("r2", "cid")]
    [row] = opened().scan("run_id = 'r2'").to_arrow().to_pylist()
    assert (row["item_ids"], row["scores"], row["as_of"]) == (["cid1", "cid2"], [2.0, 1.0], NIGHT)
    assert [each.summary["lightsans.run-id"] for each in opened().snapshots()] == ["r1", "r2"]


def test_a_table_of_one_run_holds_the_last_one(tmp_path):
    put(tmp_path, "r1", "ann", mode="replace")
    put(tmp_path, "r2", "ben", mode="replace")
    before = len(opened().snapshots())
    put(tmp_path, "r2", "ben", mode="replace")
    assert (users(), len(opened().snapshots())) == ([("r2", "ben")], before)
    put(tmp_path, "r1", "ann", mode="replace")  # rolled back
    assert users() == [("r1", "ann")]


def test_no_version_of_the_table_lacks_the_run_that_is_replaced(tmp_path):
    """The delete and the new files are one commit: its metadata file shows both or neither."""
    put(tmp_path, "r1", "ann", mode="replace")
    put(tmp_path, "r2", "ben", mode="replace")
    assert len(opened().metadata.metadata_log) == 1


def test_files_that_nobody_has_committed_are_no_rows(tmp_path):
    put(tmp_path, "r1", "ann")
    write_files(tmp_path, open_output(URI, StorageConfig()), key_of("r2"), run_rows("ben"))
    assert users() == [("r1", "ann")]
    put(tmp_path, "r2", "ben")
    assert users() == [("r1", "ann"), ("r2", "ben")]


def test_a_run_that_was_made_anew_replaces_its_own_rows(tmp_path):
    put(tmp_path, "r1", "ann")
    put(tmp_path, "r2", "ben")
    put(tmp_path, "r1", "cid", made=2, digest="def")
    assert users() == [("r1", "cid"), ("r2", "ben")]


def test_a_run_whose_snapshot_has_expired_is_known_by_its_files(tmp_path):
    put(tmp_path, "r1", "ann")
    put(tmp_path, "r2", "ben")
    first = opened().snapshots()[0].snapshot_id
    opened().maintenance.expire_snapshots().by_id(first).commit()
    put(tmp_path, "r1", "ann")
    assert (users(), len(opened().snapshots())) == ([("r1", "ann"), ("r2", "ben")], 1)


def test_of_two_who_make_the_table_at_once_both_runs_are_in_it(tmp_path):
    ours, theirs = (open_output(URI, StorageConfig()) for _ in range(2))
    written = write_files(tmp_path, ours, key_of("r1"), run_rows("ann"))
    commit(tmp_path, theirs, key_of("r2"), "append", run_rows("ben"))
    ours.commit(key_of("r1"), "append", *written)
    assert users() == [("r1", "ann"), ("r2", "ben")]


def test_a_table_with_other_columns_is_refused_with_their_names(tmp_path):
    put(tmp_path, "r1", "ann")
    rows = run_rows("ben").append_column("price", pa.array([1.5]))
    with pytest.raises(ConfigError, match="price is not there and would be double"):
        commit(tmp_path, open_output(URI, StorageConfig()), key_of("r2"), "append", rows)


@pytest.mark.parametrize("uri", ["iceberg:///data/lists", "iceberg://other/shop.lists"])
def test_a_table_of_no_catalog_is_refused_with_the_catalogs_there_are(uri):
    with pytest.raises(ConfigError, match=r"written through its catalog.*which has: prod"):
        open_output(uri, StorageConfig())


def test_a_run_without_users_leaves_a_table_of_one_run_empty(tmp_path):
    put(tmp_path, "r1", "ann", mode="replace")
    table, key = open_output(URI, StorageConfig()), key_of("r2")
    schema, _ = write_files(tmp_path, table, key, run_rows("ben"))
    table.commit(key, "replace", schema, [])
    assert users() == []
    assert table.has(key, "replace")
