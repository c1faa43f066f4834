import dataclasses
from collections import Counter

import numpy as np
import pytest

from lightsans.config import ModelConfig, RunConfig, TrainConfig
from lightsans.dataset.events import EventTargets
from lightsans.dataset.sequences import ItemTimes, UserSequences
from lightsans.errors import ConfigError
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


def span_of(span: int) -> RunConfig:
    config = config_of(loss_type="BPR")
    return dataclasses.replace(config, train=dataclasses.replace(config.train, target_span=span))


def test_targets_of_a_span_are_the_next_items_of_the_same_stretch_all_as_likely():
    """Items of `shards` are numbered in order, so differences are distances."""
    distances: Counter[tuple[int, int]] = Counter()
    for epoch in range(40):
        plan = epoch_of(list(range(NUM_SHARDS)), span_of(3), epoch)
        for step in range(plan.longest_shard):
            batch = plan.batch(step)
            for row, length in enumerate(batch.lengths):
                inputs, targets = (x[row, :length] for x in (batch.item_ids, batch.target_ids))
                left = np.arange(length, 0, -1)
                assert (targets > inputs).all()
                assert (targets - inputs <= np.minimum(left, 3)).all()
                distances.update(zip(left.tolist(), (targets - inputs).tolist(), strict=True))
                assert not batch.target_ids[row, length:].any()
    assert {d for left, d in distances if left == 1} == {1}
    free = [sum(n for (left, d), n in distances.items() if left > 2 and d == k) for k in (1, 2, 3)]
    assert max(free) < 1.15 * min(free)


def test_drawn_targets_are_the_same_whatever_the_number_of_workers_and_other_each_epoch():
    config = span_of(4)
    whole = epoch_of(list(range(NUM_SHARDS)), config)
    halves = [epoch_of([0, 2, 4], config), epoch_of([1, 3], config)]
    for step in range(whole.longest_shard):
        joined = sum((rows_of(half.batch(step)) for half in halves), Counter())
        assert rows_of(whole.batch(step)) == joined
    other = epoch_of(list(range(NUM_SHARDS)), config, epoch=1)
    assert any(
        rows_of(whole.batch(step)) != rows_of(other.batch(step))
        for step in range(whole.longest_shard)
    )


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


def timed(users: UserSequences) -> UserSequences:
    """The same, with items some seconds to days apart."""
    random = np.random.default_rng(3)
    gaps = (10 ** random.uniform(6, 11, len(users.item_ids))).astype(np.int64)
    return dataclasses.replace(users, times=ItemTimes(10**15 + np.cumsum(gaps)))


@pytest.mark.parametrize("attention", ["causal", "masked"])
@pytest.mark.parametrize("gaps", ["input", "request"])
def test_inputs_have_their_times_and_requests_lie_before_the_target(attention, gaps):
    config = config_of(attention)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, gaps=gaps))
    users = timed(shards()[4])
    assert users.times is not None
    of_item = dict(zip(users.item_ids.tolist(), users.times.of_items.tolist(), strict=True))
    of_item[0] = 0
    plan = RankEpoch({4: users}, 0, config, 5000)
    plan.set_num_steps(plan.longest_shard)
    shares = []
    for step in range(plan.longest_shard):
        batch = plan.batch(step)
        assert batch.timestamps is not None
        assert batch.timestamps.tolist() == [[of_item[i] for i in r] for r in batch.item_ids]
        if gaps == "input":
            assert batch.now is None
            continue
        assert batch.now is not None
        assert batch.now.shape == batch.target_ids.shape
        for row, length in enumerate(batch.lengths):
            first = 0 if attention == "causal" else length - 1
            nows, targets = np.atleast_1d(batch.now[row]), np.atleast_1d(batch.target_ids[row])
            for place in range(first, length):
                begin = of_item[batch.item_ids[row, place]]
                end = of_item[targets[place - first]]
                shares.append((nows[place - first] - begin) / (end - begin))
    if gaps == "request":
        assert min(shares) >= 0
        assert max(shares) <= 1
        assert abs(np.mean(shares) - 0.5) < 0.05


def test_requests_are_the_same_whatever_the_number_of_workers():
    config = config_of()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, gaps="request"))
    everyone = {shard: timed(users) for shard, users in shards().items()}
    steps = RankEpoch(everyone, 0, config, 5000).longest_shard

    def requests(owned: list[int]) -> Counter[tuple[object, ...]]:
        plan = RankEpoch({shard: everyone[shard] for shard in owned}, 0, config, 5000)
        plan.set_num_steps(steps)
        found: Counter[tuple[object, ...]] = Counter()
        for step in range(steps):
            batch = plan.batch(step)
            assert batch.now is not None
            rows = zip(batch.item_ids, batch.now, batch.lengths, strict=True)
            found.update((tuple(i[:n]), tuple(t[:n])) for i, t, n in rows if n)
        return found

    assert requests([0, 1, 2, 3, 4]) == requests([0, 3]) + requests([1, 2, 4])


def test_of_several_targets_after_an_input_a_request_lies_before_the_first():
    """Input 7 at second 10, then targets at seconds 20 and 90; none follows input 8."""
    second = 1_000_000
    targets = EventTargets(
        item_ids=np.array([1, 2], np.int32),
        offsets=np.array([0, 2]),
        positions=np.array([1, 1]),
        times=np.array([20, 90]) * second,
        weights=np.ones(2, np.float32),
        train_counts=np.array([2]),
        test_counts=np.array([2]),
        input_times=np.array([10, 95]) * second,
        input_is_seen=np.ones(2, bool),
        input_is_view=np.zeros(2, bool),
    )
    tape = np.array([7, 8], np.int32)
    times = ItemTimes(targets.input_times)
    users = UserSequences(tape, np.array([0, 2]), targets=targets, times=times)
    model = ModelConfig(max_seq_len=6, gaps="request")
    for seed in range(20):
        train = TrainConfig(num_workers=1, virtual_shards=1, batch_size=4, seed=seed)
        plan = RankEpoch({0: users}, 0, RunConfig(model=model, train=train), 10)
        plan.set_num_steps(1)
        now = plan.batch(0).now
        assert now is not None
        assert 10 * second <= now[0, 0] <= 20 * second
    spread = RunConfig(model=model, train=TrainConfig(target_span=3))
    with pytest.raises(ConfigError, match=r"target_span=3 does not go with a dataset .*events"):
        RankEpoch({0: users}, 0, spread, 10)


def test_sequences_without_times_are_refused_where_the_model_reads_them():
    config = config_of()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, gaps="input"))
    plan = RankEpoch({4: shards()[4]}, 0, config, 5000)
    plan.set_num_steps(plan.longest_shard)
    with pytest.raises(ConfigError, match=r"model\.gaps or .* reads the times of items"):
        plan.batch(0)
