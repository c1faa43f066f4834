"""Runs in a Delta table: each once, all of it or nothing, read back by delta-rs and DuckDB."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError, StorageError
from lightsans.warehouse.delta_output import DeltaOutput
from lightsans.warehouse.tables import open_output
from tests.run_tables import NIGHT, commit, key_of, run_rows, write_files


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"delta://{tmp_path}/the lists"


def opened(uri: str) -> DeltaTable:
    return DeltaTable(uri.removeprefix("delta://"))


def users(uri: str) -> list[tuple[str, str]]:
    found = opened(uri).to_pyarrow_table()
    return sorted(zip(found["run_id"].to_pylist(), found["user_id"].to_pylist(), strict=True))


def put(tmp_path, uri, run_id, *names, mode="append", made=1, digest="abc"):
    table = open_output(uri, StorageConfig())
    commit(tmp_path, table, key_of(run_id, made, digest), mode, run_rows(*names))


def test_runs_are_added_each_once_with_what_says_which_they_are(tmp_path, uri):
    put(tmp_path, uri, "r1", "ann", "ben")
    put(tmp_path, uri, "r2", "cid")
    put(tmp_path, uri, "r1", "ann", "ben")
    assert users(uri) == [("r1", "ann"), ("r1", "ben"), ("r2", "cid")]
    [row] = opened(uri).to_pyarrow_table().filter(pa.compute.field("user_id") == "cid").to_pylist()
    assert (row["item_ids"], row["scores"], row["as_of"]) == (["cid1", "cid2"], [2.0, 1.0], NIGHT)
    assert opened(uri).version() == 1


def test_a_table_of_one_run_holds_the_last_one_in_a_single_commit(tmp_path, uri):
    put(tmp_path, uri, "r1", "ann", mode="replace")
    put(tmp_path, uri, "r2", "ben", mode="replace")
    put(tmp_path, uri, "r2", "ben", mode="replace")
    assert (users(uri), opened(uri).version()) == ([("r2", "ben")], 1)
    put(tmp_path, uri, "r1", "ann", mode="replace")  # rolled back
    assert users(uri) == [("r1", "ann")]


def test_files_that_nobody_has_committed_are_no_rows(tmp_path, uri):
    put(tmp_path, uri, "r1", "ann")
    table = open_output(uri, StorageConfig())
    write_files(tmp_path, table, key_of("r2"), run_rows("ben"))  # and killed
    assert users(uri) == [("r1", "ann")]
    put(tmp_path, uri, "r2", "ben")
    assert users(uri) == [("r1", "ann"), ("r2", "ben")]


def test_a_run_that_was_made_anew_replaces_its_own_rows(tmp_path, uri):
    put(tmp_path, uri, "r1", "ann")
    put(tmp_path, uri, "r2", "ben")
    before = opened(uri).version()
    put(tmp_path, uri, "r1", "cid", made=2, digest="def")
    assert users(uri) == [("r1", "cid"), ("r2", "ben")]
    old = DeltaTable(uri.removeprefix("delta://"), version=before)
    assert sorted(old.to_pyarrow_table()["user_id"].to_pylist()) == ["ann", "ben"]


def test_a_run_whose_rows_were_deleted_is_not_added_again(tmp_path, uri):
    put(tmp_path, uri, "r1", "ann")
    put(tmp_path, uri, "r2", "ben")
    opened(uri).delete("run_id = 'r1'")
    opened(uri).create_checkpoint()
    put(tmp_path, uri, "r1", "ann")
    assert users(uri) == [("r2", "ben")]


def test_of_two_who_commit_a_run_at_once_one_does(tmp_path, uri, monkeypatch):
    put(tmp_path, uri, "r1", "ann")
    ours, theirs = (open_output(uri, StorageConfig()) for _ in range(2))
    key = key_of("r2")
    schema, files = write_files(tmp_path, ours, key, run_rows("ben"))
    stale = opened(uri)
    theirs.commit(key, "append", schema, files)
    look = DeltaOutput._open
    first = iter([stale, stale])  # what ours saw before theirs came
    monkeypatch.setattr(DeltaOutput, "_open", lambda self: next(first, None) or look(self))
    ours.commit(key, "append", schema, files)
    assert users(uri) == [("r1", "ann"), ("r2", "ben")]
    assert opened(uri).version() == 1


def test_whoever_is_never_fast_enough_is_told(tmp_path, uri, monkeypatch):
    put(tmp_path, uri, "r1", "ann")
    ours, key, stale = open_output(uri, StorageConfig()), key_of("r2"), opened(uri)
    schema, files = write_files(tmp_path, ours, key, run_rows("ben"))
    open_output(uri, StorageConfig()).commit(key, "append", schema, files)
    monkeypatch.setattr(DeltaOutput, "_open", lambda self: stale)
    with pytest.raises(StorageError, match="run the same command again"):
        ours.commit(key, "append", schema, files)


def test_a_table_that_is_none_for_runs_is_refused_with_what_is_wrong(tmp_path, uri):
    directory = uri.removeprefix("delta://")
    write_deltalake(directory, run_rows("ann"))
    with pytest.raises(ConfigError, match="partition column run_id, and this one has none"):
        put(tmp_path, uri, "r1", "ann")
    other = f"{uri} 2"
    put(tmp_path, other, "r1", "ann")
    rows = run_rows("ben").append_column("price", pa.array([1.5]))
    with pytest.raises(ConfigError, match="price is not there and would be double"):
        commit(tmp_path, open_output(other, StorageConfig()), key_of("r2"), "append", rows)


def test_a_run_without_users_leaves_a_table_of_one_run_empty(tmp_path, uri):
    put(tmp_path, uri, "r1", "ann", mode="replace")
    table, key = open_output(uri, StorageConfig()), key_of("r2")
    schema, _ = write_files(tmp_path, table, key, run_rows("ben"))
    table.commit(key, "replace", schema, [])
    assert users(uri) == []
    assert table.has(key, "replace")
