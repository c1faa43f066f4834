"""Published lists against what users did next, by hand: no Ray."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lightsans.columns.hashing import bucket_range, user_buckets
from lightsans.config.file import load_config
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.storage.manifest_kinds import DatasetPart, JudgedModel, ModelManifest
from lightsans.storage.manifests import require_manifest, write_manifest
from lightsans.storage.parts import part_name
from lightsans.storage.schemas import recommendations_schema, sequences_schema
from lightsans.synthetic.directories import write_synthetic_model
from pipelines.backtest.next_days import measure_next_days
from tests.factories import local
from tests.manifests import dataset_manifest, run_file, run_manifest, run_part
from tests.models import small_config

DAY = 86_400_000_000
ITEMS = Vocabulary(pa.array(["a", "b", "c", "d", "e"]), np.full(5, 9, np.int64))
LISTS = {"ann": ["a", "b"], "bob": ["c", "d"], "cid": ["a", "b", "c"], "dot": []}
"""The published lists; eve has none."""
NEXT = {"ann": ["b", "a"], "bob": ["a", "d"], "cid": [], "dot": ["a"], "eve": ["a"], "fay": ["b"]}
"""Items met after the night; each user but fay, who is new, has met e before."""
NEWCOMERS = {"fay"}


def spread(users, num_parts):
    """Users by part, each part in order of buckets."""
    buckets = dict(zip(users, user_buckets(pa.array(list(users))).tolist(), strict=True))
    for part in range(num_parts):
        first, end = bucket_range(part, num_parts)
        chosen = [user for user in users if first <= buckets[user] < end]
        yield part_name(part), sorted(chosen, key=buckets.__getitem__)


def write_run(root, num_parts, **changes):
    schema, parts = recommendations_schema(pa.string(), pa.string()), []
    for name, users in spread(LISTS, num_parts):
        rows = [{"user_id": u, "item_ids": LISTS[u], "scores": [1.0] * len(LISTS[u]),
                 "source": "model"} for u in users]  # fmt: skip
        (root / "recommendations/r" / name).write_table(pa.Table.from_pylist(rows, schema))
        file = run_file(root / "recommendations/r", name, len(rows))
        parts.append(run_part(name, users=len(rows), files=(file,)))
    made = run_manifest(
        num_parts=num_parts, parts=tuple(parts), dataset_id="before", model_id="m", **changes
    )
    write_manifest(root / "recommendations/r", made)


def write_model(root, name):
    """A model of the items with random weights."""
    write_synthetic_model(root / "models" / name, small_config(), 5, "before")
    model = root / "models" / name
    ITEMS.save(model / "items.parquet")
    manifest = require_manifest(ModelManifest, model, "")
    write_manifest(model, replace(manifest, vocabulary_fingerprint=ITEMS.fingerprint))


def write_datasets(root, num_parts=1):
    """The dataset of the night, whose users have met e, and that of the next night."""
    known: dict[str, list[str]] = {user: [] for user in NEXT if user not in NEWCOMERS}
    write_dataset(root, "before", known, num_parts)
    write_dataset(root, "d", NEXT, num_parts)


def write_dataset(root, name, later, num_parts):
    directory = root / "datasets" / name
    ITEMS.save(directory / "items.parquet")
    number, parts = {item: n for n, item in enumerate("abcde", 1)}, []
    for part, users in spread(later, num_parts):
        firsts = [[] if user in NEWCOMERS else [5] for user in users]
        items = [[number[item] for item in later[user]] for user in users]
        rows = {
            "user_id": users,
            "item_ids": [[*f, *i] for f, i in zip(firsts, items, strict=True)],
            "timestamps": [
                [*([DAY - 1] * len(f)), *(DAY + n for n in range(len(i)))]
                for f, i in zip(firsts, items, strict=True)
            ],
            "also_seen": [[] for _ in users],
            "fingerprint": range(len(users)),
        }
        schema = sequences_schema(pa.string())
        schema = pa.schema([schema.field(name) for name in rows])
        (directory / "sequences" / part).write_table(pa.table(rows, schema))
        total = f"{sum(range(len(users))):016x}"
        made = DatasetPart(name=part, rows=1, users=len(users), trainable=0, interactions=1,
                           fingerprint=total, buckets=(0, 1))  # fmt: skip
        parts.append(made)
    described = {"vocabulary_fingerprint": ITEMS.fingerprint, "num_parts": num_parts}
    write_manifest(directory, dataset_manifest(name, parts=tuple(parts), **described))


def measure(root, since=DAY):
    config = load_config(None, [f"root={root}", "score.k=5"]).config
    return measure_next_days(config, root, "r", "d", since)


@pytest.mark.parametrize("num_parts", [(1, 1), (3, 2), (2, 5)])
def test_lists_are_measured_by_the_first_item_and_by_any_item_of_the_time(tmp_path, num_parts):
    root = local(tmp_path)
    write_run(root, num_parts[0])
    write_datasets(root, num_parts[1])
    write_model(root, "m")
    found = measure(root)
    # ann: b at rank 2, a as well; bob: a is not in the list, d is, at rank 2; cid met nothing.
    # dot's list is empty and eve has none: readers had nothing for them.
    assert len(found.published) == 4
    values = [each.value for each in found.published.means().values()]
    second = 1 / math.log2(3)
    part = second / (1 + second)
    assert values == pytest.approx([1 / 4, second / 4, 2 / 4, (1 + part) / 4])
    assert found.judged is None


def test_users_without_history_are_measured_apart_by_the_fallback(tmp_path):
    root = local(tmp_path)
    write_run(root, 2)
    write_datasets(root)
    write_model(root, "m")
    newcomers = measure(root).newcomers
    assert len(newcomers) == 1
    assert newcomers.means()["first ndcg@10"].value == pytest.approx(1 / math.log2(3))  # a, then b


def test_users_outside_a_runs_segment_do_not_count(tmp_path):
    root = local(tmp_path)
    write_run(root, 1, settings={"k": 5, "segment": "some"})
    write_datasets(root)
    write_model(root, "m")
    assert len(measure(root).published) == 3  # eve is not in it; dot is, and her list is empty


def test_lists_of_the_judged_model_are_measured_from_the_same_histories(tmp_path):
    root = local(tmp_path)
    judged = JudgedModel(model_id="j", weights_sha256="", dataset_id="before", method="full")
    write_run(root, 1, judged=judged)
    write_datasets(root, 3)
    write_model(root, "m")
    write_model(root, "j")
    found = measure(root)
    assert found.judged is not None
    assert np.array_equal(np.sort(found.judged.buckets), np.sort(found.published.buckets))
    # Only e is seen, so the other four items make every list.
    assert found.judged.means()["any hit@10"].value == 1
    lead = found.published.leads(found.judged)["any hit@10"]
    assert lead.value == pytest.approx(-0.5)


def test_where_nobody_met_anything_there_is_no_figure(tmp_path):
    root = local(tmp_path)
    write_run(root, 2)
    write_datasets(root, 2)
    found = measure(root, 9 * DAY)
    assert (len(found.published), len(found.newcomers), found.published.means()) == (0, 0, {})
