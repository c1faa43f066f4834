import dataclasses
from collections import Counter

import numpy as np
import pytest

from lightsans.config import ModelConfig, RunConfig, TrainConfig
from lightsans.dataset.sequences import UserSequences
from lightsans.training.batches import Batch, RankEpoch, draw_negatives, shard_batch_size
from tests.factories import sequences_of

NUM_SHARDS = 5


def config_of(attention: str = "causal", loss_type: str = "CE") -> RunConfig:
    model = ModelConfig(attention=attention, max_seq_len=6, loss_type=loss_type)  # type: ignore[arg-type]
    return RunConfig(model=model, train=TrainConfig(virtual_shards=NUM_SHARDS, batch_size=12))


def shards() -> dict[int, UserSequences]:
    """Uneven shards, one of them empty, whose items are all different."""
    random = np.random.default_rng(7)
    made, first = {}, 1
    for shard in range(NUM_SHARDS):
        lengths = random.integers(1, 30, 9 * shard)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        made[shard] = UserSequences(np.arange(first, first + offsets[-1], dtype=np.int32), offsets)
        first += int(offsets[-1])
    return made


def epoch_of(owned: list[int], config: RunConfig, epoch: int = 0) -> RankEpoch:
    everyone = shards()
    plan = RankEpoch({shard: everyone[shard] for shard in owned}, epoch, config, 5000)
    steps = RankEpoch(everyone, epoch, config, 5000).longest_shard
    plan.set_num_steps(steps)
    return plan


def rows_of(batch: Batch) -> Counter[tuple[object, ...]]:
    """Targets of a batch, without padding and order of rows."""
    rows = []
    for row, length in enumerate(batch.lengths):
        if length == 0:
            continue
        targets = np.atleast_1d(batch.target_ids[row])[:length]
        negatives = (
            () if batch.negative_ids is None else np.atleast_1d(batch.negative_ids[row])[:length]
        )
        inputs = batch.item_ids[row, :length]
        rows.append((tuple(inputs.tolist()), tuple(targets.tolist()), tuple(np.array(negatives))))
    return Counter(rows)


@pytest.mark.parametrize("attention", ["causal", "masked"])
@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_each_step_learns_from_the_same_samples_whatever_the_number_of_workers(
    attention, loss_type
):
    config = config_of(attention, loss_type)
    alone = epoch_of(list(range(NUM_SHARDS)), config)
    for world_size in (2, 3, 5):
        ranks = [
            epoch_of(list(range(rank, NUM_SHARDS, world_size)), config)
            for rank in range(world_size)
        ]
        targets = sum(rank.targets_per_step() for rank in ranks)
        np.testing.assert_array_equal(targets, alone.targets_per_step())
        for step in range(alone.longest_shard):
            together = sum((rows_of(rank.batch(step)) for rank in ranks), Counter())
            assert together == rows_of(alone.batch(step))


def test_an_epoch_predicts_every_training_item_and_nothing_else():
    config = config_of("masked")
    alone = epoch_of(list(range(NUM_SHARDS)), config)
    seen = Counter(
        int(target)
        for step in range(alone.longest_shard)
        for target in alone.batch(step).target_ids
        if target
    )
    expected: Counter[int] = Counter()
    for users in shards().values():
        for start, length in zip(users.offsets, users.lengths, strict=False):
            train = length - 2 if length >= 3 else length
            expected.update(users.item_ids[start + 1 : start + train].tolist())
    assert seen == expected


def test_targets_per_step_count_what_the_batches_hold():
    alone = epoch_of(list(range(NUM_SHARDS)), config_of())
    held = [int((alone.batch(s).target_ids > 0).sum()) for s in range(alone.longest_shard)]
    assert alone.targets_per_step().tolist() == held


def test_epochs_and_seeds_differ_and_repeat_exactly():
    config = config_of()
    first = epoch_of([1, 2, 3, 4], config).batch(0)
    again = epoch_of([1, 2, 3, 4], config).batch(0)
    np.testing.assert_array_equal(first.item_ids, again.item_ids)
    reseeded = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=1))
    assert rows_of(epoch_of([1, 2, 3, 4], config, epoch=1).batch(0)) != rows_of(first)
    assert rows_of(epoch_of([1, 2, 3, 4], reseeded).batch(0)) != rows_of(first)


def test_targets_follow_their_inputs():
    alone = epoch_of([4], config_of())
    for step in range(alone.longest_shard):
        batch = alone.batch(step)
        is_target = batch.target_ids > 0
        assert (batch.target_ids[is_target] == batch.item_ids[is_target] + 1).all()


def test_a_rank_that_has_run_out_gets_one_row_of_padding():
    idle = epoch_of([0], config_of())
    batch = idle.batch(0)
    assert batch.item_ids.tolist() == [[0]]
    assert batch.target_ids.tolist() == [[0]]
    assert idle.targets_per_step().sum() == 0


def test_batches_of_a_step_are_similarly_long():
    """Lined up by length, padding stays below a third; random batches would waste more."""
    alone = epoch_of([2, 3, 4], config_of())
    cells = filled = 0
    for step in range(alone.longest_shard):
        batch = alone.batch(step)
        cells += batch.item_ids.size
        filled += int(batch.lengths.sum())
    assert filled / cells > 2 / 3


def test_the_global_batch_is_shared_out_among_shards():
    assert [shard_batch_size(12, shard, 5) for shard in range(5)] == [3, 3, 2, 2, 2]


def test_negatives_are_never_the_target_and_cover_the_catalogue():
    targets = np.full((1, 4000), 3, np.int32)
    drawn = draw_negatives(np.array([5], np.uint64), targets, num_items=6)
    counts = np.bincount(drawn[0], minlength=7)
    assert counts[3] == 0
    assert counts[0] == 0
    assert counts[[1, 2, 4, 5, 6]].min() > 600


def test_there_is_no_negative_where_there_is_no_target():
    drawn = draw_negatives(np.array([1], np.uint64), np.array([[2, 0]], np.int32), num_items=9)
    assert drawn[0, 1] == 0


def test_negatives_are_drawn_from_the_candidates_alone():
    config, candidates = config_of(loss_type="BPR"), np.arange(1, 10) * 2
    users = {0: sequences_of([2, 4, 6, 8, 10, 12], [18, 16, 14, 12, 10])}
    epoch = RankEpoch(users, 0, config, 20, candidates)
    epoch.set_num_steps(epoch.longest_shard)
    drawn: list[int] = []
    for step in range(epoch.longest_shard):
        batch = epoch.batch(step)
        assert batch.negative_ids is not None
        has_target = batch.target_ids > 0
        assert (batch.negative_ids[has_target] != batch.target_ids[has_target]).all()
        assert (batch.negative_ids[~has_target] == 0).all()
        drawn += batch.negative_ids[has_target].tolist()
    assert drawn
    assert set(drawn) <= set(candidates.tolist())
