"""Evaluation and scoring on a real Ray, against computations on one machine."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from lightsans import LightSANs
from lightsans.config import RunConfig
from lightsans.config.file import dump_yaml
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError, InputError, NotFoundError, VocabularyMismatchError
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import ModelManifest
from lightsans.storage.manifests import require_manifest, write_manifest
from pipelines.commands.app import app
from pipelines.evaluate.stage import EvaluateResult, run_evaluate
from pipelines.run_pipeline import PipelineResult, run_pipeline
from pipelines.score.one_user import load_titles, recommend_for_user
from pipelines.score.stage import run_score


@pytest.fixture(scope="module")
def finished(ray_cluster, tiny_config, tmp_path_factory) -> tuple[RunConfig, PipelineResult]:
    config = tiny_config(tmp_path_factory.mktemp("root"), "data.min_rating=3", "train.epochs=8")
    return config, run_pipeline(config)


def rows_of(directory: Location, subdirectory: str = ""):
    base = directory / subdirectory if subdirectory else directory
    names = [name for name in base.children() if name.startswith("part-")]
    return pa.concat_tables([(base / name).read_table() for name in names]).to_pylist()


def history_of(result: PipelineResult, user_id: str) -> list[str]:
    """A user's items as received, oldest first."""
    raw = (result.dataset.location / "items.parquet").read_table()["raw_item_id"].to_pylist()
    [row] = [
        row for row in rows_of(result.dataset.location, "sequences") if row["user_id"] == user_id
    ]
    return [raw[item - 1] for item in row["item_ids"]]


def test_every_user_gets_one_row_and_nothing_that_was_seen(finished):
    _, result = finished
    sequences = {row["user_id"]: row for row in rows_of(result.dataset.location, "sequences")}
    rows = rows_of(result.recommendations.location)
    assert sorted(row["user_id"] for row in rows) == sorted(sequences)
    raw = (result.dataset.location / "items.parquet").read_table()["raw_item_id"].to_pylist()
    assert any(row["also_seen"] for row in sequences.values())
    for row in rows:
        own = sequences[row["user_id"]]
        seen = {raw[i - 1] for i in own["item_ids"] + own["also_seen"]}
        assert not seen & set(row["item_ids"])
        assert len(set(row["item_ids"])) == len(row["item_ids"]) == min(7, len(raw) - len(seen))
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert row["source"] == ("model" if own["item_ids"] else "popular")


def test_the_lists_are_those_of_the_model_alone(finished):
    """Scores of the whole catalogue, sorted naively, for users of every part."""
    _, result = finished
    model = LightSANs.from_pretrained(result.model.location.uri)
    raw = (result.dataset.location / "items.parquet").read_table()["raw_item_id"].to_pylist()
    rows = {row["user_id"]: row for row in rows_of(result.recommendations.location)}
    for own in rows_of(result.dataset.location, "sequences")[::17]:
        if not own["item_ids"]:
            continue
        history = torch.tensor([own["item_ids"]])
        scores = model.score_items(history, torch.tensor([history.shape[1]]))[0]
        scores[[0, *own["item_ids"], *own["also_seen"]]] = float("-inf")
        best = scores.topk(7)
        written = rows[own["user_id"]]
        np.testing.assert_allclose(written["scores"], best.values, rtol=1e-4, atol=1e-5)
        assert written["item_ids"] == [raw[i - 1] for i in best.indices.tolist()]


def test_the_published_run_is_not_taken_away_from_its_readers(finished):
    config, result = finished
    run = result.recommendations.location
    (run.parent / "LATEST").write_bytes(run.name.encode())
    with pytest.raises(ConfigError, match=r"is published .* publish another run first"):
        run_score(config, result.dataset.dataset_id, result.model.model_id, force=True)
    (run.parent / "LATEST").delete()
    assert (run / "manifest.json").exists()


def test_parts_name_the_model_dataset_and_run_they_come_from(finished):
    _, result = finished
    metadata = pq.read_metadata(
        result.recommendations.location.path + "/part-00000.parquet"
    ).metadata
    assert metadata[b"model_id"].decode() == result.model.model_id
    assert metadata[b"dataset_id"].decode() == result.dataset.dataset_id
    assert metadata[b"run_id"].decode() == result.recommendations.run_id


def test_metrics_do_not_depend_on_how_users_are_spread(finished, tiny_config):
    config, result = finished
    other = tiny_config(config.root, "data.min_rating=3", "train.epochs=8", "data.num_parts=1")
    from pipelines.preprocess.stage import run_preprocess

    dataset = run_preprocess(other)
    assert dataset.dataset_id != result.dataset.dataset_id
    assert dataset.manifest.fingerprint == result.dataset.manifest.fingerprint
    again = run_evaluate(other, dataset.dataset_id, result.model.model_id)
    assert again.metrics == result.evaluation.metrics
    assert again.figures.users == result.evaluation.figures.users
    segments = result.evaluation.figures.segments
    assert list(again.figures.segments["target item"]) == list(segments["target item"])
    low, high = result.evaluation.figures.intervals["model"]["test"]["ndcg@10"]
    assert again.figures.intervals["model"]["test"]["ndcg@10"] == pytest.approx((low, high))


def test_training_and_evaluation_agree_on_valid(finished):
    _, result = finished
    evaluated = result.evaluation.metrics["model"]["valid"]
    for name, value in result.model.metrics.valid.items():
        assert evaluated[name] == pytest.approx(value, abs=1e-9), name


def test_the_model_directory_has_all_metrics_and_can_be_read_by_people(finished):
    config, result = finished
    directory = result.model.location
    metrics = (directory / "metrics.json").read_json()
    assert set(metrics) == {"valid", "test", "baselines", "intervals"}
    assert set(metrics["baselines"]) == {"popular", "popular_recent", "successor"}
    low, high = metrics["intervals"]["test"]["ndcg@10"]
    assert low <= metrics["test"]["ndcg@10"] <= high
    assert {"hit@10", "ndcg@10", "mrr@10", "recall@10", "precision@10"} <= set(metrics["test"])
    assert (directory / "config.yaml").read_bytes().decode() == dump_yaml(config)


def test_removing_seen_items_changes_the_protocol_and_the_report(finished, tiny_config):
    config, result = finished
    other = tiny_config(
        config.root, "data.min_rating=3", "train.epochs=8", "evaluate.remove_seen=true"
    )
    removed: EvaluateResult = run_evaluate(other, result.dataset.dataset_id, result.model.model_id)
    assert removed.location != result.evaluation.location
    assert (
        removed.metrics["popular"]["test"]["hit@10"]
        >= result.evaluation.metrics["popular"]["test"]["hit@10"]
    )


def test_a_model_of_other_items_is_refused_unless_mapped(finished, tmp_path_factory):
    config, result = finished
    model = locate(config.root, config.storage) / "models" / "shuffled"
    for name in ("model.safetensors", "manifest.json", "metrics.json"):
        (model / name).write_bytes((result.model.location / name).read_bytes())
    items = Vocabulary.load(result.model.location / "items.parquet")
    backwards = pa.array(range(items.num_items - 1, -1, -1))
    reversed_items = Vocabulary(items.raw_item_ids.take(backwards), items.counts[::-1])
    reversed_items.save(model / "items.parquet")
    known = require_manifest(ModelManifest, model, "")
    write_manifest(model, replace(known, vocabulary_fingerprint=reversed_items.fingerprint))
    with pytest.raises(VocabularyMismatchError, match="--map-items"):
        run_score(config, result.dataset.dataset_id, "shuffled")
    mapped = run_score(config, result.dataset.dataset_id, "shuffled", map_items=True)
    assert mapped.manifest.users == result.recommendations.manifest.users


def test_an_unknown_model_or_dataset_is_named(finished):
    config, result = finished
    with pytest.raises(NotFoundError, match="models/none/manifest"):
        run_score(config, result.dataset.dataset_id, "none")
    with pytest.raises(NotFoundError, match="datasets/none/manifest"):
        run_evaluate(config, "none", result.model.model_id)


def test_one_user_is_shown_what_the_batch_wrote(finished, tmp_path):
    config, result = finished
    row = rows_of(result.recommendations.location)[5]
    view = recommend_for_user(
        config, result.dataset.dataset_id, result.model.model_id, row["user_id"]
    )
    assert [item for item, _ in view.recommendations] == row["item_ids"]
    with pytest.raises(NotFoundError, match="user 'nobody' is not in dataset"):
        recommend_for_user(config, result.dataset.dataset_id, result.model.model_id, "nobody")
    table = tmp_path / "films.item"
    table.write_text('item_id:token\tmovie_title:token_seq\n007\tA "quoted" title\n')
    dataset = result.dataset.dataset_id
    with pytest.raises(InputError, match=r"--items: .*none of its 1 ids was found among the items"):
        load_titles(config, dataset, str(table))
    known = row["item_ids"][0]
    table.write_text(f'item_id:token\tmovie_title:token_seq\n{known}\tA "quoted" title\n')
    assert load_titles(config, dataset, str(table)) == {known: 'A "quoted" title'}


def test_the_command_shows_history_and_recommendations_with_titles(finished, tmp_path):
    config, result = finished
    row = rows_of(result.recommendations.location)[5]
    best, newest = row["item_ids"][0], history_of(result, row["user_id"])[-1]
    (tmp_path / "my.yaml").write_text(dump_yaml(config))
    titles = f"item_id:token\tmovie_title:token_seq\n{best}\tThe best\n{newest}\tThe newest\n"
    (tmp_path / "films.item").write_text(titles)
    arguments = ["recommend", "--config", f"{tmp_path}/my.yaml", "--user", row["user_id"]]
    arguments += ["--items", f"{tmp_path}/films.item", "-k", "7"]
    shown = CliRunner().invoke(app, [*arguments, "--json"]).stdout
    found = json.loads(shown)
    assert found["history"][0] == {"item": newest, "title": "The newest"}
    assert [entry["item"] for entry in found["recommendations"]] == row["item_ids"]
    first = {"item": best, "title": "The best", "score": pytest.approx(row["scores"][0])}
    assert found["recommendations"][0] == first
    table = CliRunner().invoke(app, arguments).stdout
    assert "The best" in table
    assert "The newest" in table


def test_only_eligible_items_are_recommended_and_lists_are_part_of_the_run_id(
    finished, tiny_config, tmp_path, capsys
):
    config, result = finished
    raw = (result.dataset.location / "items.parquet").read_table()["raw_item_id"].to_pylist()
    (tmp_path / "allow.txt").write_text("\n".join([*raw[:40], "unheard-of"]))
    (tmp_path / "deny.txt").write_text("\n".join(raw[:5]))
    rows = [f"{item},{'false' if item in raw[5:8] else 'true'}" for item in raw]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,on_sale", *rows]))
    overrides = [f"score.allow_items={tmp_path}/allow.txt", f"score.deny_items={tmp_path}/deny.txt"]
    overrides += [f"score.item_table={tmp_path}/items.csv", "score.eligible_column=on_sale"]

    def score(*more: str):
        other = tiny_config(config.root, *overrides, *more)
        return run_score(other, result.dataset.dataset_id, result.model.model_id)

    listed = score()
    assert "32 of" in (said := capsys.readouterr().err), said
    assert "1 of 41 ids of score.allow_items are unknown" in said
    rows = rows_of(listed.location)
    assert {item for row in rows for item in row["item_ids"]} <= set(raw[8:40])
    best = sorted(row["scores"][0] for row in rows if row["source"] == "model")
    (tmp_path / "deny.txt").write_text("\n".join(raw[:9]))
    cut = score("score.min_score=" + str(best[len(best) // 2]))
    assert cut.manifest.settings["eligible_items"] != listed.manifest.settings["eligible_items"]
    rows = rows_of(cut.location)
    assert {item for row in rows for item in row["item_ids"]} <= set(raw[9:40])
    kept = [s for row in rows if row["source"] == "model" for s in row["scores"]]
    assert kept
    assert min(kept) >= best[len(best) // 2] - 1e-6
