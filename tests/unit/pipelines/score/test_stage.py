"""Scoring runs are made of the weights that the model has: without Ray, part by part in here."""

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from lightsans import LightSANs
from lightsans.config import ModelConfig
from lightsans.config.file import load_config
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.errors import ConfigError, InputError, LeaseError
from lightsans.reports.evaluation_figures import EvaluationFigures
from lightsans.storage import model_files as files
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest, RunManifest, RunPart
from lightsans.storage.manifests import is_finished, read_manifest, require_manifest, write_manifest
from lightsans.storage.records import from_json
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from pipelines.evaluate import stage as evaluate
from pipelines.evaluate.stage import run_evaluate
from pipelines.publish import publish_run, read_published
from pipelines.score import stage
from pipelines.score.parts import PartScorer
from pipelines.score.shared_model import load_shared
from pipelines.score.stage import run_score
from pipelines.session.lease import Lease

MODEL = ModelConfig(
    max_seq_len=8, hidden_size=16, inner_size=16, n_layers=1, k_interests=2, n_heads=2
)
USERS, ITEMS = 60, 40


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A dataset of three parts and a model; parts are scored and counted in this process."""
    root = locate(str(tmp_path), load_config(None, []).config.storage)
    write_synthetic_dataset(root / "datasets" / "d", USERS, ITEMS, history=6, num_parts=3)
    write_synthetic_model(root / "models" / "m", MODEL, ITEMS, "d")
    (root / "models" / "m" / files.METRICS).write_json({"valid": {}})
    train_again(root)
    monkeypatch.setattr(stage, "ensure_ray", lambda: None)
    monkeypatch.setattr(stage, "preflight", lambda name, config: config)
    monkeypatch.setattr(stage, "write_report", lambda job, eligible, content, previous: [])
    monkeypatch.setattr(stage, "_score_parts", score_here)
    monkeypatch.setattr(ray, "get", lambda packed: packed)
    monkeypatch.setattr(evaluate, "ensure_ray", lambda: None)
    monkeypatch.setattr(evaluate, "preflight", lambda name, config: config)
    monkeypatch.setattr(evaluate, "_evaluate", metrics_of_weights)
    monkeypatch.setattr(evaluate, "draw_evaluation", lambda found, heading: b"")
    return root


MADE: list[str] = []
local_shared: Any = vars(load_shared)["_function"]  # what Ray would run elsewhere


def score_here(job, choice):
    """The parts that are missing, one after the other."""
    names = [part.name for part in job.dataset_manifest.parts]
    done = stage._finished_parts(job)
    shared = local_shared(
        job.config, job.dataset, job.model, dict(job.question), job.dataset_manifest.user_id_type,
        choice,
    )  # fmt: skip
    scorer = PartScorer(job, [shared])
    for name in names:
        if name not in done:
            commit = scorer(pa.table({"name": [name]}))["commit"][0].as_py()
            done[name] = from_json(RunPart, json.loads(commit), name)
            MADE.append(name)
    return [done[name] for name in names]


def metrics_of_weights(job, parts, manifest):
    number = float(LightSANs.from_pretrained(job.model).item_embedding.weight.detach().sum())
    values = {"valid": {}, "test": {"ndcg@10": number}}
    return EvaluationFigures(
        metrics=dict.fromkeys(("model", "popular", "successor"), values),
        users={"valid": 1, "test": 1},
        intervals={"model": {"valid": {}, "test": {}}},
    ), ()


def train_again(root, scale=1.0):
    """Replace the weights under the same id, as `train --force` does."""
    model = root / "models" / "m"
    network = LightSANs.from_pretrained(model)
    with torch.no_grad():
        network.item_embedding.weight.mul_(scale)
    weights = files.weights_to_bytes(network)
    (model / files.WEIGHTS).write_bytes(weights)
    manifest = require_manifest(ModelManifest, model, "")
    write_manifest(model, replace(manifest, weights_sha256=files.sha256(weights)))


def configure(root):
    return load_config(None, [f"root={root}", "score.k=5"]).config


def score(root, **arguments):
    MADE.clear()
    return run_score(configure(root), "d", "m", **arguments)


def rows(root, result):
    return (result.location / "part-00000.parquet").read_table().to_pylist()


def made(result):
    """Parts that the last call of `score`, which gave this result, made."""
    return len(MADE)


def test_a_run_is_found_until_its_model_has_other_weights(root):
    first = score(root)
    assert first.manifest.weights_sha256 == files.weights_hash(root / "models" / "m")
    assert first.manifest.dataset_users == USERS
    assert score(root).skipped
    lists = rows(root, first)
    train_again(root, -1.0)
    second = score(root)
    assert (second.run_id, second.skipped, made(second)) == (first.run_id, False, 3)
    assert rows(root, second) != lists
    assert score(root).skipped


def test_parts_of_other_weights_do_not_complete_a_run(root):
    first = score(root)
    (first.location / "manifest.json").delete()
    (first.location / "part-00001.parquet").delete()
    assert made(score(root)) == 1  # an interrupted run goes on
    (first.location / "manifest.json").delete()
    train_again(root, -1.0)
    assert made(score(root)) == 3


def test_lists_of_other_weights_are_not_carried_over(root, capfd):
    first = score(root)
    train_again(root, -1.0)
    other = run_score(
        load_config(None, [f"root={root}", "score.k=5", "score.users_per_row_group=7"]).config,
        "d",
        "m",
        since=first.run_id,
    )
    assert other.manifest.carried_users == 0
    assert f"model m was trained again since run {first.run_id}" in capfd.readouterr().err


def test_a_published_run_whose_model_was_trained_again_is_not_replaced(root):
    first = score(root)
    publish_run(read_published(root), first.run_id)
    with pytest.raises(ConfigError, match="is published"):
        score(root, force=True)
    train_again(root, -1.0)
    with pytest.raises(ConfigError, match="is published"):
        score(root)
    assert read_manifest(RunManifest, first.location) == first.manifest


def test_metrics_of_other_weights_are_not_served(root):
    before = run_evaluate(configure(root), "d", "m")
    assert run_evaluate(configure(root), "d", "m").skipped
    train_again(root, -2.0)
    after = run_evaluate(configure(root), "d", "m")
    assert not after.skipped
    assert after.location == before.location
    number = before.metrics["model"]["test"]["ndcg@10"]
    assert after.metrics["model"]["test"]["ndcg@10"] == pytest.approx(-2 * number)
    metrics = (root / "models" / "m" / files.METRICS).read_json()
    assert metrics["test"] == after.metrics["model"]["test"]  # beside the weights they are of
    assert run_evaluate(configure(root), "d", "m").skipped


def test_a_model_that_is_trained_again_while_it_is_scored_gives_no_run(root, monkeypatch):
    def score_and_train(job, choice):
        done = score_here(job, choice)
        train_again(root, -1.0)
        return done

    monkeypatch.setattr(stage, "_score_parts", score_and_train)
    with pytest.raises(InputError, match="trained again meanwhile"):
        score(root)
    assert not list_manifests(root)


def list_manifests(root):
    runs = root / "recommendations"
    return [name for name in runs.children() if is_finished(runs / name)]


def test_a_worker_of_a_lost_owner_replaces_nothing(root, monkeypatch):
    """Its driver slept for longer than the lease; the run is another's by now."""
    first = score(root)
    (first.location / "manifest.json").delete()
    committed = (first.location / "_commits" / "part-00000.parquet.json").read_bytes()
    lock = root / "locks" / f"run-{first.run_id}.json"

    def lose(job, choice):
        content = lock.read_json()
        lock.write_json({**content, "expires_at": "2020-01-01T00:00:00+00:00"})
        Lease(lock, "another owner", 60).take()
        shared = local_shared(
            job.config, job.dataset, job.model, dict(job.question), "string", choice
        )
        PartScorer(job, [shared])(pa.table({"name": ["part-00000.parquet"]}))

    monkeypatch.setattr(stage, "_score_parts", lose)
    with pytest.raises(LeaseError, match="lost to another owner"):
        score(root)
    assert (first.location / "_commits" / "part-00000.parquet.json").read_bytes() == committed
    assert not list_manifests(root)


def test_a_report_that_fails_does_not_cost_the_run(root, monkeypatch, capfd):
    def fail(job, eligible, content, previous):
        raise ValueError("no font")

    monkeypatch.setattr(stage, "write_report", fail)
    assert score(root).manifest.warnings == ("no report was written: no font",)
    assert "WARNING: score: no report was written: ValueError: no font" in capfd.readouterr().err


def score_with(root, *settings, **arguments):
    config = load_config(None, [f"root={root}", "score.k=5", *settings]).config
    return run_score(config, "d", "m", **arguments)


def lists_of(result):
    """Recommended items of all users."""
    parts = [(result.location / part.name).read_table() for part in result.manifest.parts]
    return {item for part in parts for items in part["item_ids"].to_pylist() for item in items}


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
    assert not list_manifests(root)


def test_lists_with_an_item_that_was_erased_since_are_not_carried_over(root, capfd):
    """As a dataset made from a base without some users: it keeps the item, which counts 0."""
    before = score(root)
    shutil.copytree((root / "datasets" / "d").path, (root / "datasets" / "e").path)
    items = load_vocabulary(root / "datasets" / "e")
    gone = sorted(lists_of(before))[0]
    counts = np.where(np.array(items.raw_item_ids.to_pylist()) == gone, 0, items.counts)
    Vocabulary(items.raw_item_ids, counts).save(root / "datasets" / "e" / "items.parquet")
    manifest = require_manifest(DatasetManifest, root / "datasets" / "d", "")
    write_manifest(root / "datasets" / "e", replace(manifest, id="e"))
    after = run_score(configure(root), "e", "m", since=before.run_id)
    assert gone not in lists_of(after)
    assert after.manifest.carried_users == 0
    assert "datasets d and e count other items 0 times" in capfd.readouterr().err


def with_rule_about(root, tmp_path, users, *settings):
    (tmp_path / "kids.txt").write_text(users)
    (tmp_path / "denied.txt").write_text("i1\n")
    rule = f"{{users: {tmp_path}/kids.txt, deny: {{items: {tmp_path}/denied.txt}}}}"
    return score_with(root, f"score.rules.segments=[{rule}]", *settings)


def test_the_users_that_a_rule_lists_are_counted_and_must_be_there(root, tmp_path, capfd):
    found = with_rule_about(root, tmp_path, "u1\nu2\nnobody\n", "score.batch_size=7")
    assert "score.rules: 2 of 3 listed users were found" in capfd.readouterr().err
    assert sum(part.segment_users[0] for part in found.manifest.parts) == 2
    with pytest.raises(InputError, match=r"score\.rules: .*kids\.txt: none of its 1 ids was found"):
        with_rule_about(root, tmp_path, "nobody\n")
    allowed = with_rule_about(root, tmp_path, "nobody\n", "score.allow_unmatched=true")
    assert not allowed.skipped
    assert "WARNING: score.rules: " in capfd.readouterr().err


def test_users_that_are_scored_at_once_change_no_list(root):
    first = score(root)
    lists = [row["item_ids"] for row in rows(root, first)]
    again = score_with(root, "score.batch_size=7", force=True)
    assert again.run_id == first.run_id
    assert [row["item_ids"] for row in rows(root, again)] == lists


def test_a_picture_that_cannot_be_drawn_costs_no_evaluation(root, monkeypatch, capfd):
    def fail(found, heading):
        raise ValueError("no font")

    monkeypatch.setattr(evaluate, "draw_evaluation", fail)
    made = run_evaluate(configure(root), "d", "m")
    assert is_finished(made.location)
    assert "WARNING: evaluate: no pictures were drawn" in capfd.readouterr().err
    monkeypatch.setattr(evaluate, "draw_evaluation", lambda found, heading: b"png")
    assert run_evaluate(configure(root), "d", "m").skipped
    assert (made.location / "report.png").read_bytes() == b"png"


def test_a_removal_that_is_interrupted_leaves_nothing_that_looks_finished(root, monkeypatch):
    """With --force, between the first and the last file of the earlier run."""
    first = score(root)

    class KilledError(BaseException):
        pass

    def kill(path):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", kill)
        with pytest.raises(KilledError):
            score(root, force=True)
    assert not is_finished(first.location)
    again = score(root)
    assert (again.run_id, again.skipped) == (first.run_id, False)


def test_an_evaluation_that_is_made_anew_is_unfinished_meanwhile(root, monkeypatch):
    made = run_evaluate(configure(root), "d", "m")

    def fail(job, parts, manifest):
        assert not is_finished(made.location)
        raise InputError("interrupted")

    monkeypatch.setattr(evaluate, "_evaluate", fail)
    with pytest.raises(InputError, match="interrupted"):
        run_evaluate(configure(root), "d", "m", force=True)
    assert not is_finished(made.location)
