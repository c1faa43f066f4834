"""How much the baselines are counted on, and what their counts take."""

import numpy as np
import pytest

from lightsans.config import EvaluateConfig
from lightsans.ranking.baselines import TransitionCounts
from lightsans.ranking.recent import RecentRows
from lightsans.stages.evaluate_job import counted_parts, evaluator_bytes, most_counted
from lightsans.storage.manifest_kinds import DatasetPart
from tests.manifests import dataset_manifest


def manifest(*interactions, items=10**6):
    parts = [
        DatasetPart(
            name=f"part-{number:05d}.parquet", rows=0, users=1, trainable=1, interactions=count,
            fingerprint="f", buckets=(number, number + 1),
        )
        for number, count in enumerate(interactions)
    ]  # fmt: skip
    return dataset_manifest(parts=tuple(parts), items=items)


@pytest.mark.parametrize(("most", "kept"), [(30, 3), (29, 2), (20, 2), (19, 1), (10, 1), (1, 1)])
def test_whole_parts_are_counted_up_to_the_bound_and_at_least_one(most, kept):
    assert counted_parts("abc", manifest(10, 10, 10), most) == list("abc"[:kept])


def test_recent_popularity_has_a_smaller_bound_of_its_own():
    assert most_counted(EvaluateConfig(), recent=False) == 50_000_000
    assert most_counted(EvaluateConfig(), recent=True) == 20_000_000
    small = EvaluateConfig(counted_interactions=1000)
    assert most_counted(small, recent=True) == most_counted(small, recent=False) == 1000


def test_what_a_process_is_counted_to_hold_follows_the_bound_the_catalogue_and_the_model():
    log = manifest(*[10**7] * 20)
    whole = EvaluateConfig(popular_days=None)
    assert evaluator_bytes(whole, log, 0) == 33 * 5 * 10**7
    assert evaluator_bytes(whole, log, 10**6) == 33 * 5 * 10**7 + 12 * 10**6
    assert evaluator_bytes(EvaluateConfig(), log, 0) == 33 * 5 * 10**7
    large = manifest(5 * 10**7, 5 * 10**7)
    assert evaluator_bytes(EvaluateConfig(), large, 0) == (16 + 12 + 60) * 5 * 10**7
    bounded = EvaluateConfig(popular_days=None, counted_interactions=10**7)
    assert evaluator_bytes(bounded, log, 0) == (16 + 60) * 10**7
    few_pairs = manifest(*[10**7] * 20, items=100)
    assert evaluator_bytes(bounded, few_pairs, 0) == 16 * 10**4 + 60 * 10**7


def test_counts_take_the_bytes_that_are_counted_for_them():
    """Bytes that stay; peaks of reading and adding up were measured: docs/decisions.md."""
    counts = TransitionCounts(3, np.zeros(4, np.int64), *np.ones((2, 1000), np.int64))
    assert counts.pairs.nbytes + counts.pair_counts.nbytes == 16 * 1000
    rows = RecentRows(np.zeros(1000, np.int64), np.zeros(1000, np.int32))
    assert rows.times.nbytes + rows.item_ids.nbytes == 12 * 1000
