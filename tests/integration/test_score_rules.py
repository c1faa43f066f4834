"""Scoring under rules on a real Ray: lists keep them, and the run knows them."""

import dataclasses

import pyarrow as pa
import pyarrow.csv
import pytest
import torch

from lightsans import LightSANs
from lightsans.config import AudienceConfig, ItemGroup
from lightsans.config.rules import Boost, Cap, DiversityConfig, Pin, Quota, RulesConfig, SegmentRule
from lightsans.recommendations.reader import wide_schema
from lightsans.recommendations.tables import to_wide
from pipelines.run_pipeline import run_pipeline
from pipelines.score.audience import run_audience
from pipelines.score.one_user import recommend_for_user
from pipelines.score.similar import run_similar
from pipelines.score.stage import run_score


@pytest.fixture(scope="module")
def finished(ray_cluster, tiny_config, tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("root"), "train.epochs=1")
    return config, run_pipeline(config)


def with_rules(config, result, directory):
    """Two brands and a group of ten items, of which ann's segment may have none."""
    items = (result.dataset.location / "items.parquet").read_table()["raw_item_id"].to_pylist()
    kinds = ["ab"[n % 2] for n in range(len(items))]
    is_new = [str(n >= len(items) - 10) for n in range(len(items))]
    table = pa.table({"item_id": items, "brand": kinds, "new": is_new})
    pyarrow.csv.write_csv(table, directory / "items.csv")
    part = (result.recommendations.location / "part-00000.parquet").read_table()
    users = part["user_id"].to_pylist()[::2]
    (directory / "kids.txt").write_text("\n".join(users))
    new = ItemGroup(column="new", values=("True",))
    rules = RulesConfig(
        segments=(SegmentRule(users=str(directory / "kids.txt"), deny=new),),
        quotas=(Quota(group=new, at_least=2, first=5),),
        caps=(Cap(column="brand", at_most=3, first=5),),
        pins=(Pin(item=items[0], position=-1),),
        diversity=DiversityConfig(weight=0.1, candidates=30),
    )
    score = dataclasses.replace(config.score, item_table=str(directory / "items.csv"), rules=rules)
    brands = dict(zip(items, kinds, strict=True))
    return dataclasses.replace(config, score=score), brands, set(items[-10:]), users, items[0]


def test_a_run_keeps_its_rules_counts_what_they_lack_and_is_carried_over(finished, tmp_path):
    config, result = finished
    ruled, brands, new, kids, pinned = with_rules(config, result, tmp_path)
    ids = result.dataset.dataset_id, result.model.model_id
    run = run_score(ruled, *ids)
    assert run.run_id != result.recommendations.run_id
    assert "rules" not in result.recommendations.manifest.settings
    assert result.recommendations.manifest.short_lists is None
    files = [file.path for part in run.manifest.parts for file in part.files]
    tables = [(run.location / path).read_table() for path in files]
    if "rank" in tables[0].column_names:
        tables = [to_wide(table, wide_schema(run.manifest)) for table in tables]
    rows = pa.concat_tables(tables).to_pylist()
    short = unmet = 0
    for row in rows:
        top = row["item_ids"][:5]
        count = {brand: sum(brands[item] == brand for item in top) for brand in "ab"}
        at_end = pinned in row["item_ids"] and row["item_ids"].index(pinned) < 5
        assert max(count.values()) <= 3 + at_end
        if pinned in row["item_ids"]:
            assert row["item_ids"][-1] == pinned
        if row["user_id"] in kids:
            assert not new & set(row["item_ids"])
        unmet += len(new & set(top)) < 2
        short += len(row["item_ids"]) < ruled.score.k
    assert run.manifest.unmet_quotas == unmet
    assert run.manifest.short_lists == short
    assert run.manifest.diversity_candidates == 30
    assert unmet >= len(kids)

    again = run_score(ruled, *ids, force=True, since=result.recommendations.run_id)
    assert again.manifest.carried_users == 0  # made under other rules
    (tmp_path / "kids.txt").write_text(kids[0])
    other = run_score(ruled, *ids, since=run.run_id)
    assert other.run_id != run.run_id
    assert other.manifest.carried_users == 0


def test_what_is_popular_now_is_counted_over_all_parts_and_every_night_anew(finished, capfd):
    config, result = finished
    rules = RulesConfig(boosts=(Boost(recent_days=30, weight=5.0),))
    score = dataclasses.replace(config.score, rules=rules, popular_days=1)  # two windows at once
    boosted = dataclasses.replace(config, score=score)
    ids = result.dataset.dataset_id, result.model.model_id
    run = run_score(boosted, *ids)
    files = [file.path for part in run.manifest.parts for file in part.files]
    rows = pa.concat_tables([(run.location / path).read_table() for path in files]).to_pylist()
    plain_files = [f.path for part in result.recommendations.manifest.parts for f in part.files]
    plain_tables = [(result.recommendations.location / path).read_table() for path in plain_files]
    plain = {row["user_id"]: row["item_ids"] for row in pa.concat_tables(plain_tables).to_pylist()}
    assert any(row["item_ids"] != plain[row["user_id"]] for row in rows)
    for row in rows[:3]:
        view = recommend_for_user(boosted, *ids, row["user_id"], explain=True)
        assert [item for item, _ in view.recommendations] == row["item_ids"]
        assert {move.rule for move in view.moves} <= {"boosts"}
    capfd.readouterr()
    again = run_score(boosted, *ids, force=True, since=result.recommendations.run_id)
    assert again.manifest.carried_users == 0
    assert "score.rules.boosts count what is popular now" in capfd.readouterr().err


def test_similar_items_and_audiences_are_written_found_and_completed(finished, tmp_path):
    config, result = finished
    model = result.model.location
    made = run_similar(config, result.model.model_id)
    rows = (made.location / "part-00000.parquet").read_table()
    assert rows["item_id"].equals((model / "items.parquet").read_table()["raw_item_id"])
    assert not made.skipped
    assert run_similar(config, result.model.model_id).skipped
    (made.location / "manifest.json").delete()  # as an interruption leaves it
    assert not run_similar(config, result.model.model_id).skipped
    assert (made.location / "part-00000.parquet").read_table().equals(rows)

    (tmp_path / "items.txt").write_text("\n".join([*rows["item_id"].to_pylist()[:3], "unheard"]))
    ids = result.dataset.dataset_id, result.model.model_id, str(tmp_path / "items.txt")
    few = dataclasses.replace(config, audience=AudienceConfig(k=5, batch_size=64))
    audience = run_audience(few, *ids)
    table = (audience.location / "audience.parquet").read_table().to_pylist()
    assert audience.manifest.unknown_items == 1
    assert [row["rank"] for row in table] == [1, 2, 3, 4, 5] * 3
    histories = {
        row["user_id"]: row
        for name in ("part-00000", "part-00001", "part-00002")
        for row in (result.dataset.location / f"sequences/{name}.parquet").read_table().to_pylist()
    }
    network = LightSANs.from_pretrained(model.uri)
    shares = {}
    for user, row in histories.items():
        scores = network.score_items(
            torch.tensor([row["item_ids"]]), torch.tensor([len(row["item_ids"])])
        )[0].double()
        scores[[0, *row["item_ids"], *row["also_seen"]]] = -torch.inf
        shares[user] = scores.log_softmax(0)
    for number in range(1, 4):
        best = sorted(float(-found[number]) for found in shares.values())[:5]
        found = [row["log_share"] for row in table[5 * number - 5 : 5 * number]]
        assert found == pytest.approx([-value for value in best], abs=1e-4)
        assert all(
            row["log_share"] == pytest.approx(float(shares[row["user_id"]][number]), abs=1e-4)
            for row in table[5 * number - 5 : 5 * number]
        )
    assert run_audience(few, *ids).skipped


def test_one_user_is_told_which_rule_moved_what(finished, tmp_path):
    config, result = finished
    ruled, _, new, kids, pinned = with_rules(config, result, tmp_path)
    ids = result.dataset.dataset_id, result.model.model_id
    view = recommend_for_user(ruled, *ids, kids[0], explain=True)
    rules = {move.rule for move in view.moves}
    assert rules <= {"segments", "quotas", "caps", "diversity", "pins"}
    denied = [m for m in view.moves if m.rule == "segments" and m.item in new]
    assert all(move.after is None for move in denied)
    listed = [item for item, _ in view.recommendations]
    ranks: dict[object, int | None] = {}
    for move in view.moves:
        assert ranks.get(move.item, move.before) == move.before
        ranks[move.item] = move.after
    for item, rank in ranks.items():
        assert rank == (listed.index(item) + 1 if item in listed else None)
    assert pinned not in listed or listed[-1] == pinned
    plain = recommend_for_user(config, *ids, kids[0], explain=True)
    assert plain.moves == []
