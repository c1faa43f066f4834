"""Scoring runs are made of the weights that the model has: without Ray, part by part in here."""

import shutil
from dataclasses import replace

import pyarrow.compute as pc
import pytest

from lightsans.errors import ConfigError, InputError
from lightsans.storage import model_files as files
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import (
    is_finished,
    read_manifest,
    require_manifest,
    write_manifest,
)
from pipelines.publish import publish_run, read_published
from pipelines.score import stage
from tests.scored_here import (
    MADE,
    USERS,
    finished_runs,
    lists_of,
    make_root,
    score,
    score_here,
    score_with,
    train_again,
    without_ray,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    return make_root(tmp_path)


def rows(root, result):
    return (result.location / "part-00000.parquet").read_table().to_pylist()


def with_rule_about(root, tmp_path, users, *settings):
    (tmp_path / "kids.txt").write_text(users)
    (tmp_path / "denied.txt").write_text("i1\n")
    rule = f"{{users: {tmp_path}/kids.txt, deny: {{items: {tmp_path}/denied.txt}}}}"
    return score_with(root, f"score.rules.segments=[{rule}]", *settings)


def test_a_run_is_found_until_its_model_has_other_weights(root):
    first = score(root)
    assert first.manifest.weights_sha256 == files.weights_hash(root / "models" / "m")
    assert first.manifest.dataset_users == USERS
    assert score(root).skipped
    lists = rows(root, first)
    train_again(root, -1.0)
    second = score(root)
    assert (second.run_id, second.skipped, len(MADE)) == (first.run_id, False, 3)
    assert rows(root, second) != lists
    assert score(root).skipped


def test_parts_of_other_weights_do_not_complete_a_run(root):
    first = score(root)
    (first.location / "manifest.json").delete()
    (first.location / "part-00001.parquet").delete()
    score(root)
    assert len(MADE) == 1  # an interrupted run goes on
    (first.location / "manifest.json").delete()
    train_again(root, -1.0)
    score(root)
    assert len(MADE) == 3


def test_commits_that_an_interrupted_removal_left_complete_nothing(root):
    first = score(root)
    for name in first.location.children():
        if name != "_commits":
            (first.location / name).delete()
    score(root)
    assert len(MADE) == 3


def test_a_published_run_whose_model_was_trained_again_is_not_replaced(root):
    first = score(root)
    publish_run(read_published(root), first.run_id)
    with pytest.raises(ConfigError, match="is published"):
        score(root, force=True)
    train_again(root, -1.0)
    with pytest.raises(ConfigError, match="is published"):
        score(root)
    assert read_manifest(RunManifest, first.location) == first.manifest


def test_a_model_that_is_trained_again_while_it_is_scored_gives_no_run(root, monkeypatch):
    def score_and_train(job, choice):
        done = score_here(job, choice)
        train_again(root, -1.0)
        return done

    monkeypatch.setattr(stage, "_score_parts", score_and_train)
    with pytest.raises(InputError, match="trained again meanwhile"):
        score(root)
    assert not finished_runs(root)


def test_a_report_that_fails_does_not_cost_the_run(root, monkeypatch, capfd):
    def fail(job, eligible, content, previous):
        raise ValueError("no font")

    monkeypatch.setattr(stage, "write_report", fail)
    assert score(root).manifest.warnings == ("no report was written: no font",)
    assert "WARNING: score: no report was written: ValueError: no font" in capfd.readouterr().err


def test_a_list_that_is_replaced_while_scoring_is_the_one_that_the_id_names(
    root, tmp_path, monkeypatch
):
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("i1\ni2\ni3\n")

    def replace_and_score(job, choice):
        allowed.write_text("i9\n")
        return score_here(job, choice)

    monkeypatch.setattr(stage, "_score_parts", replace_and_score)
    assert lists_of(score_with(root, f"score.allow_items={allowed}")) <= {"i1", "i2", "i3"}


def test_a_list_of_users_that_is_replaced_while_scoring_is_an_error(root, tmp_path, monkeypatch):
    users = tmp_path / "users.txt"
    users.write_text("u1\n")

    def replace_and_score(job, choice):
        users.write_text("u2\nu3\n")
        return score_here(job, choice)

    monkeypatch.setattr(stage, "_score_parts", replace_and_score)
    with pytest.raises(InputError, match=r"score\.users: .*users\.txt changed meanwhile"):
        score_with(root, f"score.users={users}")
    assert not finished_runs(root)


def test_the_users_that_a_rule_lists_are_counted_and_must_be_there(root, tmp_path, capfd):
    found = with_rule_about(root, tmp_path, "u1\nu2\nnobody\n", "score.batch_size=7")
    assert "score.rules: 2 of 3 listed users were found" in capfd.readouterr().err
    assert sum(part.segment_users[0] for part in found.manifest.parts) == 2
    with pytest.raises(InputError, match=r"score\.rules: .*kids\.txt: none of its 1 ids was found"):
        with_rule_about(root, tmp_path, "nobody\n")
    allowed = with_rule_about(root, tmp_path, "nobody\n", "score.allow_unmatched=true")
    assert not allowed.skipped
    assert "WARNING: score.rules: " in capfd.readouterr().err


def test_a_part_without_users_hides_no_list_of_which_nobody_is_there(root, tmp_path):
    dataset = root / "datasets" / "d"
    manifest = require_manifest(DatasetManifest, dataset, "")
    first, *others = manifest.parts
    sequences = dataset / "sequences" / first.name
    sequences.write_table(sequences.read_table().slice(0, 0))
    parts, users = (
        (replace(first, users=0, fingerprint=f"{0:016x}"), *others),
        manifest.users - first.users,
    )
    write_manifest(dataset, replace(manifest, users=users, parts=parts))
    with pytest.raises(InputError, match=r"score\.rules: .*kids\.txt: none of its 1 ids was found"):
        with_rule_about(root, tmp_path, "nobody\n")


def test_users_that_are_scored_at_once_change_no_list(root):
    first = score(root)
    lists = [row["item_ids"] for row in rows(root, first)]
    again = score_with(root, "score.batch_size=7", force=True)
    assert again.run_id == first.run_id
    assert [row["item_ids"] for row in rows(root, again)] == lists


def test_a_removal_that_is_interrupted_leaves_nothing_that_looks_finished(root, monkeypatch):
    """With --force, between the first and the last file of the earlier run."""
    first = score(root)

    class KilledError(BaseException):
        pass

    def kill(path, **options):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", kill)
        with pytest.raises(KilledError):
            score(root, force=True)
    assert not is_finished(first.location)
    again = score(root)
    assert (again.run_id, again.skipped) == (first.run_id, False)


@pytest.mark.parametrize("kind", ["datasets/d", "models/m"])
def test_items_that_were_replaced_are_refused(root, kind):
    items = root / kind / "items.parquet"
    table = items.read_table()
    items.write_table(table.set_column(1, "raw_item_id", table["raw_item_id"][::-1]))
    with pytest.raises(InputError, match=rf"{kind}/items\.parquet: other items than the manifest"):
        score(root)
    assert not finished_runs(root)


def test_a_part_that_was_replaced_by_one_as_large_is_refused(root):
    sequences = root / "datasets" / "d" / "sequences"
    table = (sequences / "part-00001.parquet").read_table()
    changed = table.set_column(6, "fingerprint", pc.add(table["fingerprint"], 1))
    (sequences / "part-00001.parquet").write_table(changed)
    with pytest.raises(InputError, match=r"part-00001\.parquet: another file than the dataset"):
        score(root)
    assert not finished_runs(root)
