"""Finished runs in a table: what is written, when, and that it is once; tasks run in here."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from deltalake import DeltaTable

from lightsans.errors import NotFoundError
from lightsans.warehouse.output import RunKey
from pipelines.score import table
from pipelines.score.table import write_to_table
from tests.scored_here import USERS, configure, make_root, score_with, train_again, without_ray

LAYOUTS = {
    "wide": (),
    "long": ("score.layout=long",),
    "by source": ("score.partition_by=source",),
    "long by rank": ("score.layout=long", "score.partition_by=rank"),
    "in pieces": ("score.max_users_per_file=7",),
}

WIDE = ("user_id", "item_ids", "scores", "source")
LONG = ("user_id", "rank", "item_id", "score", "source")


@pytest.fixture
def root(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    monkeypatch.setattr(table, "ensure_ray", lambda memory: None)
    monkeypatch.setattr(table, "remote", lambda task: SimpleNamespace(remote=task))
    monkeypatch.setattr(table, "run_tasks", lambda submit, files, title: map(submit, files))
    return make_root(tmp_path / "root")


def lists(tmp_path: Path):
    return DeltaTable(tmp_path / "lists")


def put(root, tmp_path, *settings):
    settings = (f"score.table.uri=delta://{tmp_path}/lists", *settings)
    result = score_with(root, *settings)
    write_to_table(configure(root, *settings), result.run_id)
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_has_the_rows_of_the_run_whatever_its_layout(root, tmp_path, layout):
    run = put(root, tmp_path, *LAYOUTS[layout])
    found = lists(tmp_path).to_pyarrow_table()
    assert set(found["run_id"].to_pylist()) == {run.run_id}
    assert len(set(found["user_id"].to_pylist())) == USERS
    assert set(found.column_names) == {*(LONG if "long" in layout else WIDE), "run_id", "as_of"}
    rows = sum(file.rows for part in run.manifest.parts for file in part.files)
    assert found.num_rows == rows


def test_the_setting_changes_no_id_and_the_same_command_adds_nothing(root, tmp_path, capsys):
    plain = score_with(root)
    run = put(root, tmp_path)
    assert (run.run_id, run.skipped) == (plain.run_id, True)
    assert "60 rows of run" in capsys.readouterr().err
    put(root, tmp_path)
    assert lists(tmp_path).version() == 0
    assert f"has run {run.run_id}" in capsys.readouterr().err


def test_a_run_that_is_made_of_other_weights_replaces_its_rows(root, tmp_path):
    put(root, tmp_path)
    before = lists(tmp_path).to_pyarrow_table().sort_by("user_id")["scores"].to_pylist()
    train_again(root, -1.0)
    first_key = RunKey.of

    def later(manifest):  # the clock of manifests knows seconds
        key = first_key(manifest)
        return RunKey(key.run_id, key.made + 1, key.digest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunKey, "of", later)
        put(root, tmp_path)
    after = lists(tmp_path).to_pyarrow_table().sort_by("user_id")
    assert after.num_rows == USERS
    assert after["scores"].to_pylist() != before


def test_a_run_that_is_not_finished_is_not_written(root, tmp_path):
    config = configure(root, f"score.table.uri=delta://{tmp_path}/lists")
    with pytest.raises(NotFoundError):
        write_to_table(config, "0123456789ab")
    assert not (tmp_path / "lists").exists()


def test_nothing_is_written_unless_asked_for(root, tmp_path):
    write_to_table(configure(root), score_with(root).run_id)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
