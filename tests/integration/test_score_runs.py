"""Runs of made-up datasets: layouts, segments, carrying over, the manifest and the report."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from lightsans.columns.hashing import NUM_BUCKETS, bucket_range, pieces_of, user_buckets
from lightsans.config import ModelConfig
from lightsans.config.file import load_config
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import InputError, NotFoundError
from lightsans.model.network import LightSANs
from lightsans.recommendations.reader import RunRows
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import DatasetManifest, DatasetPart
from lightsans.storage.manifests import require_manifest, write_manifest
from lightsans.storage.parts import fingerprint_part, part_name
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from pipelines.commands.app import app
from pipelines.score.stage import run_score

MODEL = ModelConfig(
    max_seq_len=8, hidden_size=16, inner_size=16, n_layers=1, k_interests=2, n_heads=2
)
USERS, ITEMS, K = 600, 300, 7
TOLERANCE = 1e-5
"""Relative difference of scores: users are encoded in other company when only some are scored."""


class World:
    """A root with a dataset, a model and a first run, wide and with all settings as they come."""

    def __init__(self, root):
        self.config = load_config(None, [f"root={root}", f"score.k={K}"]).config
        self.root = locate(str(root), self.config.storage)
        write_synthetic_dataset(
            self.root / "datasets" / "monday", USERS, ITEMS, history=8, num_parts=3, newcomers=0.05
        )
        write_synthetic_model(self.root / "models" / "m", MODEL, ITEMS, "monday")
        self.monday = self.score("monday", "score.num_workers=2")

    def score(self, dataset, *overrides, model="m", **arguments):
        settings = [f"root={self.root}", f"score.k={K}", "score.num_workers=1", *overrides]
        return run_score(load_config(None, settings).config, dataset, model, **arguments)

    def sequences(self, dataset):
        """All rows of a dataset."""
        directory = self.root / "datasets" / dataset / "sequences"
        return pa.concat_tables([(directory / name).read_table() for name in directory.children()])

    def derive(self, name, change, *, num_parts):
        """A dataset like Monday's with other rows and parts."""
        source, target = self.root / "datasets" / "monday", self.root / "datasets" / name
        rows, schema = change(self.sequences("monday").to_pylist()), self.sequences("monday").schema
        users = pa.array([row["user_id"] for row in rows])
        for row, bucket in zip(rows, user_buckets(users).tolist(), strict=True):
            row["bucket"] = bucket
        rows.sort(key=lambda row: (row["bucket"], row["user_id"].encode()))
        piece = pieces_of(np.array([row["bucket"] for row in rows], np.int32), num_parts)
        parts = []
        for index in range(num_parts):
            chosen = [row for row, part in zip(rows, piece, strict=True) if part == index]
            table = pa.Table.from_pylist(chosen, schema=schema)
            (target / "sequences" / part_name(index)).write_table(table)
            parts.append(
                DatasetPart(
                    name=part_name(index),
                    rows=0,
                    users=len(chosen),
                    trainable=len(chosen),
                    interactions=0,
                    fingerprint=f"{fingerprint_part(table):016x}",
                    buckets=bucket_range(index, num_parts),
                )
            )
        load_vocabulary(source).save(target / "items.parquet")
        manifest = require_manifest(DatasetManifest, source, "")
        described: dict[str, Any] = {"id": name, "users": len(rows), "num_parts": num_parts}
        write_manifest(target, replace(manifest, parts=tuple(parts), **described))

    def rows(self, result):
        """All rows of a run, wide, by user; every user once."""
        names = [part.name for part in result.manifest.parts]
        rows = (
            RunRows(result.location, result.manifest, names, 100)
            .between(0, NUM_BUCKETS - 1)
            .to_pylist()
        )
        by_user = {row["user_id"]: row for row in rows}
        assert len(by_user) == len(rows)
        return by_user


@pytest.fixture(scope="module")
def world(ray_cluster, tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def assert_same_lists(found, expected):
    assert found.keys() == expected.keys()
    for user, row in expected.items():
        assert found[user]["source"] == row["source"], user
        np.testing.assert_allclose(found[user]["scores"], row["scores"], rtol=TOLERANCE)
        assert found[user]["item_ids"] == row["item_ids"], user


def a_day_later(rows):
    """Some users went on, one left, one is new, and one met an item that a filter removed."""
    for row in rows[:40]:
        row["item_ids"] = [*row["item_ids"], 17]
    rows[50]["also_seen"] = [3]
    return [*rows[:60], *rows[61:], {**rows[70], "user_id": "new"}]


def test_the_manifest_has_rows_and_checksums_that_hold(world):
    manifest = world.monday.manifest
    assert manifest.users == USERS == sum(part.users for part in manifest.parts)
    assert len(manifest.parts) == 3
    for part in manifest.parts:
        (file,) = part.files
        content = (world.monday.location / file.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
        assert (file.rows, file.bytes) == (part.users, len(content))


def test_the_report_counts_what_is_there(world):
    rows = world.rows(world.monday)
    report = (world.monday.location / "report.json").read_json()
    figures = report["figures"]
    recommended = [item for row in rows.values() for item in row["item_ids"]]
    popular = [row for row in rows.values() if row["source"] == "popular"]
    assert figures["users"] == USERS
    assert figures["fallback_share"] == len(popular) / USERS > 0
    assert figures["coverage"] == len(set(recommended)) / ITEMS
    assert figures["never_recommended_share"] == pytest.approx(1 - figures["coverage"])
    assert figures["mean_list_length"] == len(recommended) / USERS
    head = {"i1", "i2", "i3"}
    assert figures["top_1_percent_share"] == sum(i in head for i in recommended) / len(recommended)
    best = np.median([row["scores"][0] for row in rows.values() if row["source"] == "model"])
    assert figures["median_best_score"] == pytest.approx(best, rel=0.04)
    assert figures["overlap"] is None
    assert sum(report["popularity"]["recommendations"]) == pytest.approx(1)
    assert (world.monday.location / "report.png").read_bytes().startswith(b"\x89PNG")


def test_carrying_over_equals_scoring_all_in_other_batches_and_drift_is_told(world, capsys):
    """Tuesday has other users, other histories, and another number of parts."""
    world.derive("tuesday", a_day_later, num_parts=5)
    bounds = ["score.warn_above={users_change: -0.5}", "score.warn_below={overlap: 0.1}"]
    carried = world.score("tuesday", *bounds, since=world.monday.run_id)
    found = world.rows(carried)
    known = [
        {row["user_id"]: (row["item_ids"], row["also_seen"]) for row in rows.to_pylist()}
        for rows in (world.sequences("monday"), world.sequences("tuesday"))
    ]
    is_same = [known[0].get(user) == own and bool(own[0]) for user, own in known[1].items()]
    assert carried.manifest.carried_users == sum(is_same) > USERS / 2
    assert f"carried over from {world.monday.run_id}" in capsys.readouterr().err
    report = (carried.location / "report.json").read_json()
    before = world.rows(world.monday)
    shares = [
        len(set(row["item_ids"]) & set(before[user]["item_ids"])) / K
        for user, row in found.items()
        if user in before
    ]
    assert report["figures"]["overlap"] == pytest.approx(np.mean(shares))
    assert report["figures"]["users_change"] == 0
    assert report["previous_run"] == world.monday.run_id
    assert list(carried.manifest.warnings) == report["warnings"]
    assert report["warnings"] == ["users_change is 0, more than score.warn_above (-0.5)"]
    everyone = world.score("tuesday", "score.batch_size=64", force=True)
    assert everyone.run_id == carried.run_id
    assert everyone.manifest.carried_users == 0
    assert_same_lists(found, world.rows(everyone))


def test_it_says_why_all_are_scored(world, tmp_path, capsys):
    (tmp_path / "some.txt").write_text("u1\nu2\n\nnobody\n")
    some = world.score(
        "monday", f"score.users={tmp_path}/some.txt", "score.k=9", since=world.monday.run_id
    )
    said = capsys.readouterr().err
    assert "all users are scored, nothing is carried over: k was 7 in run " in said
    assert "and is 9 now" in said
    assert some.manifest.carried_users == 0
    rows = world.rows(some)
    assert rows.keys() == {"u1", "u2"}
    assert some.manifest.other_users == USERS - 2
    before = world.rows(world.monday)
    for user, row in rows.items():
        assert row["item_ids"][:K] == before[user]["item_ids"]
    with pytest.raises(NotFoundError, match="nowhere/manifest"):
        world.score("monday", "score.k=3", since="nowhere")
    (tmp_path / "none.txt").write_text("nobody\n")
    with pytest.raises(InputError, match=r"score\.users: .*none of its 1 ids was found in dataset"):
        world.score("monday", f"score.users={tmp_path}/none.txt")


def test_long_rows_in_directories_are_read_by_others_and_carried_over(world):
    layout = ["score.layout=long", "score.partition_by=rank", "score.max_users_per_file=90"]
    long = world.score("monday", *layout, since=world.monday.run_id)
    assert long.manifest.carried_users == USERS - long.manifest.popular_users
    expected = world.rows(world.monday)
    assert_same_lists(world.rows(long), expected)
    table = sorted(
        (user, rank, item)
        for user, row in expected.items()
        for rank, item in enumerate(row["item_ids"], 1)
    )
    pattern = f"{long.location}/*/*.parquet"
    columns = ["user_id", "rank", "item_id"]
    source = f"read_parquet('{pattern}', hive_partitioning = true)"
    query = f"select user_id, rank, item_id from {source}"
    by_duckdb = duckdb.connect().execute(query).fetchall()
    assert sorted(by_duckdb) == table
    by_polars = pl.scan_parquet(pattern, hive_partitioning=True).select(columns).collect()
    assert sorted(by_polars.rows()) == table
    paths = [f"{long.location}/rank={rank}" for rank in range(1, K + 1)]
    by_pandas = pd.concat([pd.read_parquet(path).assign(rank=r) for r, path in enumerate(paths, 1)])
    assert sorted(by_pandas[columns].itertuples(index=False, name=None)) == table
    # Each file has at most 90 users: three parts of about 200 are three files each.
    assert len(list(Path(long.location.path, "rank=1").iterdir())) == sum(
        -(-part.users // 90) for part in long.manifest.parts
    )


def test_wide_rows_are_read_by_others(world):
    expected = {user: row["item_ids"] for user, row in world.rows(world.monday).items()}
    pattern = f"{world.monday.location}/part-*.parquet"
    assert (
        dict(duckdb.connect().execute(f"select user_id, item_ids from '{pattern}'").fetchall())
        == expected
    )
    by_polars = pl.read_parquet(pattern, columns=["user_id", "item_ids"])
    assert dict(by_polars.rows()) == expected
    names = sorted(Path(world.monday.location.path).glob("part-*.parquet"))
    by_pandas = pd.concat([pd.read_parquet(name) for name in names])
    lists = [list(items) for items in by_pandas["item_ids"]]
    assert dict(zip(by_pandas["user_id"], lists, strict=True)) == expected


def test_a_rerun_writes_the_parts_of_which_a_file_is_missing(world):
    layout = ["score.partition_by=source", "score.max_users_per_file=150"]
    run = world.score("monday", *layout)
    paths = [file.path for part in run.manifest.parts for file in part.files]
    assert "source=popular/part-00001-00000.parquet" in paths
    stamps = {path: (run.location / path).info().etag for path in paths}
    (run.location / "manifest.json").delete()
    gone = "source=model/part-00001-00001.parquet"
    (run.location / gone).delete()
    again = world.score("monday", *layout)
    assert again.run_id == run.run_id
    assert [part.files for part in again.manifest.parts] == [
        part.files for part in run.manifest.parts
    ]
    changed = {path for path in paths if (run.location / path).info().etag != stamps[path]}
    assert changed == {path for path in paths if "part-00001" in path}
    assert_same_lists(world.rows(again), world.rows(world.monday))
    assert world.score("monday", *layout).skipped


def test_yesterdays_model_leaves_out_what_it_does_not_know(world):
    """Its vocabulary is the beginning of the dataset's: no mapping by raw id is needed."""
    known = ITEMS - 60
    write_synthetic_model(world.root / "models" / "yesterday", MODEL, known, "monday")
    run = world.score("monday", model="yesterday")
    own = {row["user_id"]: row["item_ids"] for row in world.sequences("monday").to_pylist()}
    model = LightSANs.from_pretrained(world.root / "models" / "yesterday")
    unknown = 0
    for user, row in world.rows(run).items():
        history = [item for item in own[user] if item <= known]
        unknown += len(own[user]) - len(history)
        assert row["source"] == ("model" if history else "popular")
        if history:
            scores = model.score_items(torch.tensor([history]), torch.tensor([len(history)]))[0]
            scores[[0, *history]] = -torch.inf
            best = [f"i{item}" for item in scores.topk(K).indices.tolist()]
            assert row["item_ids"] == best, user
    assert run.manifest.unknown_interactions == unknown > 0


def test_the_command_takes_since_and_prints_what_became_of_it(world):
    arguments = ["--dataset", "monday", "--model", "m", "--since", world.monday.run_id, "--json"]
    settings = ["-s", f"root={world.root}", "-s", f"score.k={K}"]
    done = CliRunner().invoke(app, ["score", *arguments, *settings], catch_exceptions=False)
    printed = json.loads(done.stdout.splitlines()[-1])
    assert (printed["run_id"], printed["skipped"]) == (world.monday.run_id, True)
    assert (printed["carried_users"], printed["warnings"]) == (0, [])
