"""Published lists against what users did until the next night.

A user counts who has a list and met an item in between. Two questions are asked: where the first
item of that time stands in the list, and whether any item of it does.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lightsans.arrays import Int32
from lightsans.columns.hashing import NUM_BUCKETS, bucket_range, user_buckets
from lightsans.dataset.bucket_cursor import overlapping_parts
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.ranking.bootstrap import Estimate, estimate_means, resample, sum_groups
from lightsans.recommendations.reader import RunRows
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.parts import part_index, sequence_parts

AT = 10
NAMES = (f"first hit@{AT}", f"first ndcg@{AT}", f"any hit@{AT}")
_ROWS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class NextDays:
    """How good the published lists were."""

    users: int
    """Users with a list who met an item."""
    others: int
    """Users without a list who did: newcomers."""
    metrics: dict[str, Estimate]
    """Means over the users, with 95 % intervals; empty where there are none."""


def measure_next_days(root: Location, run_id: str, dataset_id: str, since_us: int) -> NextDays:
    """Measure a run by what the sequences of a later dataset hold from a moment on.

    Args:
        root: Where both lie.
        run_id: The run that was published.
        dataset_id: The dataset of the next night. What happened to items that it does not know is
            not there: under a temporal split, those that only the one of its refit knows.
        since_us: The moment, in microseconds since 1970: that of the published night.
    """
    run, dataset = root / "recommendations" / run_id, root / "datasets" / dataset_id
    run_manifest = require_manifest(RunManifest, run, "this run of the backtest was removed")
    manifest = require_manifest(
        DatasetManifest, dataset, "this dataset of the backtest was removed"
    )
    vocabulary = load_vocabulary(dataset)
    users, values, others = [np.zeros(0, np.int32)], [np.zeros((0, len(NAMES)))], 0
    for location in sequence_parts(dataset, manifest):
        rows = location.read_table(columns=["user_id", "item_ids", "timestamps"])
        targets = _targets(rows, since_us)
        if not targets:
            continue
        lists = _lists(run, run_manifest, location.name, manifest.num_parts)
        known = {user: items for user, items in targets.items() if user in lists}
        others += len(targets) - len(known)
        found = [
            _score([str(item) for item in lists[user]], _raw(vocabulary, items))
            for user, items in known.items()
        ]
        ids = pa.array(list(known), rows.schema.field("user_id").type)
        users.append(user_buckets(ids))
        values.append(np.array(found, np.float64).reshape(-1, len(NAMES)))
    buckets, scores = np.concatenate(users), np.concatenate(values)
    if not len(buckets):
        return NextDays(users=0, others=others, metrics={})
    sums = sum_groups(buckets.astype(np.int64), scores, NUM_BUCKETS)
    estimates = estimate_means(sums, resample(sums))
    metrics = dict(zip(NAMES, estimates, strict=True))
    return NextDays(users=len(buckets), others=others, metrics=metrics)


def _targets(rows: pa.Table, since_us: int) -> dict[str | int, Int32]:
    """Item ids from the moment on, oldest first, of each user who has some."""
    found = {}
    for user, items, times in zip(
        rows["user_id"].to_pylist(),
        rows["item_ids"].to_pylist(),
        rows["timestamps"].to_pylist(),
        strict=True,
    ):
        first = int(np.searchsorted(np.asarray(times, np.int64), since_us))
        if first < len(items):
            found[user] = np.asarray(items[first:], np.int32)
    return found


def _lists(
    run: Location, manifest: RunManifest, part: str, num_parts: int
) -> dict[str | int, list[str | int]]:
    """Lists of the users of a dataset's part in the run."""
    names = [each.name for each in manifest.parts]
    beside = overlapping_parts(part, num_parts, names, manifest.num_parts)
    begin, end = bucket_range(part_index(part), num_parts)
    rows = RunRows(run, manifest, beside, _ROWS).between(begin, end - 1)
    return {row["user_id"]: row["item_ids"][:AT] for row in rows.to_pylist() if row["item_ids"]}


def _raw(vocabulary: Vocabulary, items: Int32) -> list[str]:
    return [str(item) for item in vocabulary.decode(items).to_pylist()]


def _score(listed: list[str], met: list[str]) -> tuple[float, float, float]:
    rank = listed.index(met[0]) + 1 if met[0] in listed else 0
    gain = 1 / np.log2(rank + 1) if rank else 0.0
    return float(rank > 0), float(gain), float(any(item in listed for item in met))
