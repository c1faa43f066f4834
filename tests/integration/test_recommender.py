"""The same log, settings and seed give the same numbers in one process and on Ray."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from lightsans import Recommender
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.recommendations.tables import to_long
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import require_manifest
from lightsans.synthetic.logs import generate_log
from pipelines.engine import RayEngine
from pipelines.score.stage import run_score

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "min_item_interactions": 2,
    "train": {"num_workers": 1},
    "model": {"max_seq_len": 10, "hidden_size": 16, "inner_size": 16, "n_layers": 1},
}


@pytest.fixture(scope="module")
def log(ray_cluster):
    made = generate_log(80, 50, 1500, seed=2)
    users = pa.array([f"u{user}" for user in made.user_ids])
    return pa.table(
        {"user_id": users, "item_id": made.item_ids, "timestamp": made.timestamps}
    ).to_pandas()


@pytest.fixture(scope="module")
def both(tmp_path_factory, log):
    """A Recommender of this process and one on Ray, fitted to the same frame."""
    root = str(tmp_path_factory.mktemp("ray"))
    lists = tmp_path_factory.mktemp("lists") / "incumbent.csv"
    lists.write_text("user_id,items\nu1,3|7|999\nu2,5|1\nnobody,2\n")
    settings = SETTINGS | {"recommendations": str(lists), "probability": True, "buy_again": 1}
    return (
        Recommender(**settings).fit(log),
        Recommender(engine=RayEngine(), root=root, **settings).fit(log),
    )


def test_datasets_have_the_same_content(both):
    here, on_ray = (each._require().manifest for each in both)
    assert isinstance(here, DatasetManifest)
    for name in ("fingerprint", "vocabulary_fingerprint", "rows", "time_range", "trainable_users"):
        assert getattr(here, name) == getattr(on_ray, name)


def test_epochs_have_the_same_losses_and_metrics(both):
    here, on_ray = (each.history for each in both)
    assert len(here) == len(on_ray) == 2
    for mine, theirs in zip(here, on_ray, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        assert mine["valid"] == pytest.approx(theirs["valid"], rel=1e-6)


def test_evaluations_have_the_same_metrics_and_intervals(both):
    here, on_ray = (each.evaluate() for each in both)
    assert here.users == on_ray.users
    assert here.matched == on_ray.matched
    assert here.matched.users_found == 2
    for scorer in ("model", "popular", "popular_recent", "successor", "recommendations"):
        for split in ("valid", "test"):
            mine, theirs = here.metrics[scorer][split], on_ray.metrics[scorer][split]
            assert mine == pytest.approx(theirs, rel=1e-6)
        low, high = on_ray.intervals[scorer]["test"]["ndcg@10"]
        assert here.intervals[scorer]["test"]["ndcg@10"] == pytest.approx([low, high], rel=1e-6)


def test_lists_are_those_that_the_pipeline_scores_whatever_stands_beside_them(both, tmp_path):
    here, on_ray = both
    fitted = on_ray._require()
    table = tmp_path / "items.csv"
    table.write_text("item_id,title\n" + "".join(f"{item},film {item}\n" for item in range(1, 51)))
    score = replace(fitted.config.score, item_table=str(table), item_columns=("title",), because=1)
    config = replace(fitted.config, score=score)
    made = run_score(config, fitted.dataset.name, fitted.model.name)
    require_manifest(RunManifest, made.location, "")
    files = [file.path for part in made.manifest.parts for file in part.files]
    wide = pa.concat_tables([(made.location / path).read_table() for path in files])
    long = to_long(wide, ["title", "because", "probability", "item_source"]).to_pylist()
    scored = {(row["user_id"], row["rank"]): row for row in long}
    assert all(row["title"] == f"film {row['item_id']}" for row in long)
    assert any(row["because"] for row in long if row["source"] == "model")
    for row in long:
        is_chosen = row["item_source"] == "model"
        assert (row["probability"] is not None) == is_chosen
    kept = (made.location / "calibration.json").read_json()
    assert kept["temperature"] == pytest.approx(here.calibration.temperature, rel=1e-5)
    assert {"report.json", "calibration.png"} <= set(made.location.children())
    lists = here.recommend(k=5)
    assert (lists["item_source"] != "buy_again").sum() == 5 * here._require().manifest.users
    again = {row["user_id"]: row["item_id"] for row in long if row["item_source"] == "buy_again"}
    for row in lists.to_dict("records"):
        if row["item_source"] == "buy_again":  # behind lists of different lengths
            assert row["item_id"] == again[row["user_id"]]
            continue
        same = scored[row["user_id"], row["rank"]]
        assert (row["item_id"], row["source"]) == (same["item_id"], same["source"])
        assert row["item_source"] == same["item_source"]
        if same["probability"] is not None:
            assert row["probability"] == pytest.approx(same["probability"], rel=1e-4)
        assert row["score"] == pytest.approx(same["score"], rel=1e-5)


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_a_refit_learns_the_same_everywhere(log, tmp_path, split):
    """Everything is learnt for the best number of epochs; the first model stays the judged one."""
    cuts = {"temporal": {"valid_fraction": 0.1, "test_fraction": 0.1}}
    data = {"split": split} | (cuts if split == "temporal" else {})
    settings = SETTINGS | {"epochs": 1, "data": data}
    here = Recommender(**settings).fit(log, refit=True)
    on_ray = Recommender(engine=RayEngine(), root=str(tmp_path), **settings).fit(log, refit=True)
    mine, theirs = (each._require() for each in (here, on_ray))
    assert all(each.judged is not None and each.judged.method == "full" for each in (mine, theirs))
    assert mine.manifest.fingerprint == theirs.manifest.fingerprint
    assert mine.manifest.items == load_vocabulary(mine.model).num_items
    assert here.history[0]["loss"] == pytest.approx(on_ray.history[0]["loss"], rel=1e-6)
    lists, same = (each.recommend(["u1", "u2"], k=3) for each in (here, on_ray))
    assert lists["item_id"].tolist() == same["item_id"].tolist()
    assert lists["score"].tolist() == pytest.approx(same["score"].tolist(), rel=1e-5)
