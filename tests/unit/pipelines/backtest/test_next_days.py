"""Published lists against what users did next, by hand: no Ray."""

import math

import numpy as np
import pyarrow as pa
import pytest

from lightsans.columns.hashing import bucket_range, user_buckets
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.storage.manifest_kinds import DatasetPart, RunFile
from lightsans.storage.manifests import write_manifest
from lightsans.storage.parts import part_name
from lightsans.storage.schemas import recommendations_schema
from pipelines.backtest.next_days import NAMES, measure_next_days
from tests.factories import local
from tests.manifests import dataset_manifest, run_manifest, run_part

DAY = 86_400_000_000
LISTS = {"ann": ["a", "b"], "bob": ["c", "d"], "cid": ["a", "b", "c"], "dot": []}
"""The published lists; eve has none."""
NEXT = {"ann": ["b", "a"], "bob": ["a", "d"], "cid": [], "dot": ["a"], "eve": ["a"]}
"""Items met after the night; each user has met e before."""


def spread(users, num_parts):
    """Users by part, each part in order of buckets."""
    buckets = dict(zip(users, user_buckets(pa.array(list(users))).tolist(), strict=True))
    for part in range(num_parts):
        first, end = bucket_range(part, num_parts)
        chosen = [user for user in users if first <= buckets[user] < end]
        yield part_name(part), sorted(chosen, key=buckets.__getitem__)


def write_run(root, num_parts):
    schema, parts = recommendations_schema(pa.string(), pa.string()), []
    for name, users in spread(LISTS, num_parts):
        rows = [{"user_id": u, "item_ids": LISTS[u], "scores": [1.0] * len(LISTS[u]),
                 "source": "model"} for u in users]  # fmt: skip
        (root / "recommendations/r" / name).write_table(pa.Table.from_pylist(rows, schema))
        file = RunFile(path=name, rows=len(rows), bytes=1, sha256="")
        parts.append(run_part(name, users=len(rows), files=(file,)))
    write_manifest(
        root / "recommendations/r", run_manifest(num_parts=num_parts, parts=tuple(parts))
    )


def write_dataset(root, num_parts):
    items = Vocabulary(pa.array(["a", "b", "c", "d", "e"]), np.full(5, 9, np.int64))
    items.save(root / "datasets/d/items.parquet")
    number, parts = {item: n for n, item in enumerate("abcde", 1)}, []
    for name, users in spread(NEXT, num_parts):
        rows = {
            "user_id": pa.array(users, pa.string()),
            "item_ids": pa.array([[5, *(number[i] for i in NEXT[u])] for u in users],
                                 pa.list_(pa.int32())),
            "timestamps": pa.array([[DAY - 1, *(DAY + n for n in range(len(NEXT[u])))]
                                    for u in users], pa.list_(pa.int64())),
        }  # fmt: skip
        (root / "datasets/d/sequences" / name).write_table(pa.table(rows))
        made = DatasetPart(name=name, rows=1, users=len(users), trainable=0, interactions=1,
                           fingerprint="", buckets=(0, 1))  # fmt: skip
        parts.append(made)
    made_of = dataset_manifest(num_parts=num_parts, parts=tuple(parts))
    write_manifest(root / "datasets/d", made_of)


@pytest.mark.parametrize("num_parts", [(1, 1), (3, 2), (2, 5)])
def test_lists_are_measured_by_the_first_item_and_by_any_item_of_the_time(tmp_path, num_parts):
    root = local(tmp_path)
    write_run(root, num_parts[0])
    write_dataset(root, num_parts[1])
    found = measure_next_days(root, "r", "d", DAY)
    assert (found.users, found.others) == (2, 2)  # dot's list is empty, eve has none
    # ann: b at rank 2; bob: a is not in the list, d is; cid met nothing.
    first_hit, first_ndcg, any_hit = (found.metrics[name] for name in NAMES)
    assert first_hit.value == pytest.approx(0.5)
    assert first_ndcg.value == pytest.approx(0.5 / math.log2(3))
    assert any_hit.value == pytest.approx(1.0)
    assert first_hit.low <= first_hit.value <= first_hit.high


def test_where_nobody_met_anything_there_is_no_figure(tmp_path):
    root = local(tmp_path)
    write_run(root, 2)
    write_dataset(root, 2)
    found = measure_next_days(root, "r", "d", 9 * DAY)
    assert (found.users, found.others, found.metrics) == (0, 0, {})
