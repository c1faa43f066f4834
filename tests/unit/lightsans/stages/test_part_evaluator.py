"""Parts of an evaluation, ranked in this process, against naive ranks of every user."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans import LightSANs
from lightsans.columns.times import to_iso
from lightsans.config import ModelConfig, RunConfig
from lightsans.config.file import load_config
from lightsans.dataset.loading import load_trainable
from lightsans.errors import InputError, LeaseError
from lightsans.ranking.baselines import TransitionCounts
from lightsans.ranking.recent import DAY
from lightsans.recommendations.user_groups import groups_identity
from lightsans.reports.evaluation_figures import (
    add_measured,
    describe_evaluation,
    measured_from_bytes,
)
from lightsans.stages.evaluate_job import RANKS, RECENT, SPLITS, TRANSITIONS, WORK, EvaluateJob
from lightsans.stages.part_evaluator import PartEvaluator as Evaluator
from lightsans.stages.window import count_here, find_window, recent_rows, window_end
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.parts import sequence_parts
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from pipelines.session.lease import Lease, Owner

USERS, ITEMS, HISTORY, DAYS = 60, 40, 6, 5
MODEL = ModelConfig(
    max_seq_len=8, hidden_size=16, inner_size=16, n_layers=1, k_interests=2, n_heads=2
)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A dataset of two parts whose rows lie hours apart, and what its baselines count."""
    directory = tmp_path_factory.mktemp("evaluate")
    users = directory / "users.csv"
    lines = [f"u{number},{'even' if number % 2 == 0 else 'odd'}\n" for number in range(USERS)]
    users.write_text("user_id,kind\n" + "".join(lines))
    settings = [f"root={directory}", f"evaluate.user_table={users}", "evaluate.user_column=kind"]
    settings += [f"evaluate.popular_days={DAYS}", "evaluate.remove_seen=true"]
    config: RunConfig = load_config(None, settings).config
    root = locate(str(directory), config.storage)
    torch.manual_seed(0)
    dataset, model, report = root / "datasets" / "d", root / "models" / "m", root / "reports" / "e"
    write_synthetic_dataset(dataset, USERS, ITEMS, history=HISTORY, num_parts=2)
    write_synthetic_model(model, MODEL, ITEMS, "d")
    manifest = require_manifest(DatasetManifest, dataset, "")
    for number, part in enumerate(sequence_parts(dataset, manifest)):
        part.write_table(spread_over_days(part.read_table(), number))
    parts = sequence_parts(dataset, manifest)
    window = find_window(config.evaluate.popular_days, manifest)
    assert window is not None
    made = EvaluateJob(
        config=config, dataset=dataset, dataset_manifest=manifest, model=model,
        map_items=False, window=window, report=report, require_owner=lambda: None,
        groups=groups_identity(config, manifest.data),
    )  # fmt: skip
    counts = [TransitionCounts.count(load_trainable(part), ITEMS) for part in parts]
    (report / WORK / TRANSITIONS).write_bytes((counts[0] + counts[1]).to_bytes())
    rows = [recent_rows(part, window) for part in parts]
    (report / WORK / RECENT).write_bytes((rows[0] + rows[1]).to_bytes())
    evaluator = Evaluator(made)
    for part in parts:
        evaluator(pa.table({"name": [part.name]}))
    return made, parts


def spread_over_days(table, seed):
    """The same rows, each user's at random times within 30 days, in order."""
    generator = np.random.default_rng(seed)
    times = [
        sorted(generator.integers(0, 30 * DAY, len(items)).tolist())
        for items in table["item_ids"].to_pylist()
    ]
    place = table.schema.get_field_index("timestamps")
    return table.set_column(place, table.schema.field(place), pa.array(times, pa.list_(pa.int64())))


@pytest.fixture(scope="module")
def users(job):
    return [row for part in job[1] for row in part.read_table().to_pylist() if row["item_ids"]]


@pytest.fixture(scope="module")
def ranks(job):
    tables = [(job[0].report / RANKS / part.name).read_table() for part in job[1]]
    return {(row["user_id"], row["split"]): row for row in pa.concat_tables(tables).to_pylist()}


def rank_of(scores, target, seen):
    candidates = [item for item in range(1, ITEMS + 1) if item == target or item not in seen]
    return sum(scores[item] >= scores[target] for item in candidates), len(candidates)


def test_every_user_has_a_rank_on_both_splits_that_a_naive_sort_gives(job, users, ranks):
    assert set(ranks) == {(user["user_id"], split) for user in users for split in SPLITS}
    model = LightSANs.from_pretrained(job[0].model).eval()
    for user in users:
        for split, end in (("valid", HISTORY - 2), ("test", HISTORY - 1)):
            history, target = user["item_ids"][:end], user["item_ids"][end]
            with torch.inference_mode():
                scores = model.score_items(torch.tensor([history]), torch.tensor([end]))[0]
            row = ranks[user["user_id"], split]
            assert (row["rank"], row["candidates"]) == rank_of(scores.tolist(), target, history)
            assert (row["history_length"], row["newcomer"]) == (end, False)
            assert row["group"] == ("even" if int(user["user_id"][1:]) % 2 == 0 else "odd")
            assert row["bucket"] == user["bucket"]


def test_recent_popularity_counts_nothing_held_out_and_nothing_later_than_the_target(users, ranks):
    train = [
        (time, item)
        for user in users
        for time, item in list(zip(user["timestamps"], user["item_ids"], strict=True))[:-2]
    ]
    popularity = np.bincount([item for _, item in train], minlength=ITEMS + 1)
    for user in users:
        now, target = user["timestamps"][-1], user["item_ids"][-1]
        inside = [item for time, item in train if now - DAYS * DAY <= time < now]
        scores = np.bincount(inside, minlength=ITEMS + 1) + popularity / (1 + popularity.max())
        expected, _ = rank_of(scores, target, user["item_ids"][:-1])
        row = ranks[user["user_id"], "test"]
        assert row["popular_recent_rank"] == expected
        assert row["popular_rank"] == rank_of(popularity, target, user["item_ids"][:-1])[0]


def test_parts_add_up_to_the_metrics_of_all_users(job, users, ranks):
    made, parts = job
    files = [made.report / WORK / f"{part.name}.npz" for part in parts]
    measured = add_measured(measured_from_bytes(file.read_bytes()) for file in files)
    scorers = ["model", *made.baselines]
    found = describe_evaluation(measured, scorers, SPLITS, made.config.evaluate.ks)
    test = [row for (_, split), row in ranks.items() if split == "test"]
    hits = np.mean([row["rank"] <= 10 for row in test])
    assert found.metrics["model"]["test"]["hit@10"] == pytest.approx(hits)
    odd = [row["popular_recent_rank"] <= 10 for row in test if row["group"] == "odd"]
    segment = found.segments["kind"]["odd"]
    assert segment.users == len(odd)
    assert segment.scorers["popular_recent"]["hit@10"].value == pytest.approx(np.mean(odd))
    assert found.lists["model"].means["novelty@10"].value > 0
    lists = measured["items/model"]
    assert lists.sum() == 10 * len(users)


def test_the_fallback_counts_the_last_days_before_the_newest_row_or_as_of(job, users):
    made, _ = job
    manifest = require_manifest(DatasetManifest, made.dataset, "")
    rows = [pair for u in users for pair in zip(u["timestamps"], u["item_ids"], strict=True)]
    moment = 20 * DAY
    newest = replace(manifest, time_range=(to_iso(0), to_iso(moment - 1)))
    until = {**manifest.data, "as_of": "1970-01-21"}
    as_of = replace(manifest, time_range=(to_iso(0), to_iso(30 * DAY)), data=until)
    inside = [item for time, item in rows if moment - 3 * DAY <= time < moment]
    expected = np.bincount(inside, minlength=ITEMS + 1)
    for changed in (newest, as_of):
        assert window_end(changed) == moment
        np.testing.assert_array_equal(count_here(made.dataset, changed, [2, 3])[3], expected)


def copy_of(made, directory, **changes):
    """The same job with a report of its own, and what its baselines count."""
    report = made.report.parent / directory
    for name in (TRANSITIONS, RECENT):
        (report / WORK / name).write_bytes((made.report / WORK / name).read_bytes())
    return replace(made, report=report, **changes)


def test_users_that_are_ranked_at_once_change_nothing(job):
    made, parts = job
    evaluate = replace(made.config.evaluate, batch_size=7)
    other = copy_of(made, "by-seven", config=replace(made.config, evaluate=evaluate))
    evaluator = Evaluator(other)
    for part in parts:
        evaluator(pa.table({"name": [part.name]}))
        ranks, again = ((one.report / RANKS / part.name).read_table() for one in (made, other))
        assert again.equals(ranks)


def test_a_worker_of_a_lost_owner_writes_nothing(job, tmp_path):
    made, parts = job
    lock = locate(str(tmp_path / "lock.json"), made.report.storage)
    lease = Lease(lock, "another owner", 60)
    lease.take()
    other = copy_of(made, "lost", require_owner=Owner(lock, "the token of before").require)
    evaluator = Evaluator(other)
    with pytest.raises(LeaseError, match="lost to another owner"):
        evaluator(pa.table({"name": [parts[0].name]}))
    assert (other.report / RANKS).children() == []
    assert sorted((other.report / WORK).children()) == sorted([TRANSITIONS, RECENT])


def test_a_table_of_users_that_was_replaced_meanwhile_is_an_error(job):
    made, _ = job
    assert made.groups is not None
    other = copy_of(made, "replaced", groups={**made.groups, "size": 1})
    with pytest.raises(InputError, match=r"evaluate\.user_table: .* changed meanwhile"):
        Evaluator(other)
