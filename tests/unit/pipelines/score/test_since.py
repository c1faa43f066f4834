"""Lists that an earlier run has already are carried over, unless they would be others."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config.file import load_config
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    ItemFeaturesSummary,
    ModelManifest,
)
from lightsans.storage.manifests import require_manifest, write_manifest
from lightsans.storage.parts import sequence_parts
from lightsans.synthetic.directories import write_synthetic_model
from pipelines.score.stage import run_score
from tests.scored_here import (
    ITEMS,
    MODEL,
    USERS,
    configure,
    lists_of,
    make_root,
    score,
    score_with,
    train_again,
    without_ray,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    return make_root(tmp_path)


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


@pytest.mark.parametrize("changes", [True, False])
def test_other_features_of_items_make_all_lists_anew(root, capfd, changes):
    """A model that has learned of features may recommend items that it did not know."""
    model = root / "models" / "m"
    manifest = require_manifest(ModelManifest, model, "")
    write_manifest(model, replace(manifest, item_features_sha256="0"))
    made = require_manifest(DatasetManifest, root / "datasets" / "d", "")
    summary = ItemFeaturesSummary(sha256="1", listed=1, new=0, files=())
    write_manifest(root / "datasets" / "d", replace(made, item_features=summary))
    before = score(root)
    shutil.copytree((root / "datasets" / "d").path, (root / "datasets" / "e").path)
    later = replace(summary, sha256="2") if changes else summary
    write_manifest(root / "datasets" / "e", replace(made, id="e", item_features=later))
    after = run_score(configure(root), "e", "m", since=before.run_id)
    assert (after.manifest.carried_users == 0) == changes
    assert ("datasets d and e have other item features" in capfd.readouterr().err) == changes


def test_lists_of_the_same_weights_are_carried_over(root):
    first = score(root)
    other = score_with(root, "score.users_per_row_group=7", since=first.run_id)
    by_model = USERS - other.manifest.popular_users  # popular lists are always made anew
    assert other.manifest.carried_users == by_model > 0


def test_lists_are_carried_over_where_a_rule_takes_the_same_items_away(root):
    """In dataset e the days end long after every interaction: there nothing is seen any more."""
    rule = "score.remove_seen={days: 40000}"
    first = score_with(root, rule)
    assert lists_of(first) == lists_of(score(root))
    again = score_with(root, rule, "score.users_per_row_group=7", since=first.run_id)
    assert again.manifest.carried_users == USERS - again.manifest.popular_users > 0
    shutil.copytree((root / "datasets" / "d").path, (root / "datasets" / "e").path)
    manifest = require_manifest(DatasetManifest, root / "datasets" / "d", "")
    late = (manifest.time_range[0], "2189-01-01T00:00:00+00:00")
    write_manifest(root / "datasets" / "e", replace(manifest, id="e", time_range=late))
    after = run_score(configure(root, rule), "e", "m", since=first.run_id)
    assert after.manifest.carried_users == 0
    assert lists_of(after) == lists_of(score_with(root, "score.remove_seen=false"))


def test_another_length_of_the_lists_is_named_and_nothing_is_carried_over(root, capfd):
    first = score(root)
    assert score_with(root, "score.k=6", since=first.run_id).manifest.carried_users == 0
    assert f"k was 5 in run {first.run_id} and is 6 now" in capfd.readouterr().err


def test_before_the_first_publication_nothing_is_carried_over(root, capfd):
    assert score_with(root, since="LATEST").manifest.carried_users == 0
    assert "nothing is published yet" in capfd.readouterr().err


def timed_root(root, gaps):
    """A model that reads times, and a copy ``e`` of the dataset in which those of u7 differ."""
    write_synthetic_model(root / "models" / "m", replace(MODEL, gaps=gaps), ITEMS, "d")
    train_again(root)
    shutil.copytree((root / "datasets" / "d").path, (root / "datasets" / "e").path)
    manifest = require_manifest(DatasetManifest, root / "datasets" / "d", "")
    write_manifest(root / "datasets" / "e", replace(manifest, id="e"))
    for part in sequence_parts(root / "datasets" / "e", manifest):
        rows = part.read_table()
        times = [
            [t - 10**12 * (len(row["timestamps"]) - n) for n, t in enumerate(row["timestamps"])]
            if row["user_id"] == "u7"
            else row["timestamps"]
            for row in rows.to_pylist()
        ]
        at = rows.column_names.index("timestamps")
        part.write_table(rows.set_column(at, rows.schema.field(at), pa.array(times)))


def test_a_list_is_carried_over_where_the_times_that_the_model_reads_are_the_same(root):
    timed_root(root, "input")
    before = score(root)
    after = run_score(configure(root), "e", "m", since=before.run_id)
    assert before.manifest.popular_users + after.manifest.carried_users == USERS - 1
    again = run_score(configure(root), "e", "m", force=True)
    assert lists_by_user(again) == lists_by_user(after)


def test_lists_for_the_moment_of_the_request_are_made_anew(root, capfd):
    timed_root(root, "request")
    before = score(root)
    after = run_score(configure(root), "e", "m", since=before.run_id)
    assert after.manifest.carried_users == 0
    assert "model m reads the time of the request (model.gaps)" in capfd.readouterr().err


def lists_by_user(result):
    parts = [(result.location / part.name).read_table() for part in result.manifest.parts]
    return {row["user_id"]: row["item_ids"] for part in parts for row in part.to_pylist()}
