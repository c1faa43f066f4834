"""The order of training: the batches of every step of an epoch, whatever the number of workers.

Users belong to V virtual shards by their bucket. Global step s of an epoch takes from every shard
one batch that depends on (seed, epoch, shard, s) alone; a rank owns some of the shards and joins
their batches into one. So world size changes who computes what, and nothing else. A shard that has
run out contributes nothing to a step, and all ranks step equally often.

Shapes:
    B samples of a batch   L inputs of the longest of them
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from lightsans.arrays import Array, Float32, Float64, Int32, Int64, UInt64
from lightsans.columns.hashing import mix
from lightsans.columns.segments import expand
from lightsans.config import RunConfig
from lightsans.config.kinds import ATTENTION, LOSSES, LossSetting
from lightsans.dataset.events import EventTargets
from lightsans.dataset.samples import Samples, cut_prefixes, cut_windows, gather
from lightsans.dataset.sequences import UserSequences
from lightsans.errors import ConfigError

LENGTH_CLASS = 8
"""Samples whose lengths fall into the same class of this width may share a batch: little padding,
and still many partners to be shuffled with."""
_REQUESTS: Final = np.uint64(0x9E3779B97F4A7C15)
_SPANS: Final = np.uint64(0xC2B2AE3D27D4EB4F)
"""Tell what is drawn for requests, and for targets, apart from what is drawn for negatives."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples that one rank trains on in one step; ids are right-padded with 0."""

    item_ids: Int32
    """(B, L) inputs, oldest first."""
    lengths: Int64
    """(B,) inputs of each sample."""
    target_ids: Int32
    """causal: (B, L) the item after each input, or one of the next few; otherwise (B,) the item
    after the last input. Where a log has events, 0 after inputs that no target follows, and
    (B, L, M) where several do."""
    negative_ids: Int32 | None
    """One drawn item per target, in the same shape, when the loss needs them."""
    weights: Float32 | None = None
    """Weights of the targets, in the same shape; None where all weigh the same."""
    timestamps: Int64 | None = None
    """(B, L) microseconds of the inputs, for a model that reads them."""
    now: Int64 | None = None
    """Likewise a moment of the request for each vector, (B, L) or (B,): after its newest input and
    before its target, at random. A night comes at any time between the two."""

    def map(self, change: Callable[[Array], Array]) -> "Batch":
        """The batch with every array changed alike."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {
            name: change(array) for name, array in arrays.items() if array is not None
        }
        return replace(self, **changed)


@dataclass(frozen=True, slots=True)
class ShardEpoch:
    """One shard's samples of one epoch, in the order of its batches."""

    samples: Samples
    keys: UInt64
    """A random number per sample, from which anything else random about it is drawn."""
    batch_size: int
    trains_prefixes: bool
    """Whether every input but the last has a target, or the last input alone."""

    @property
    def targets(self) -> Int64:
        """Targets of each sample."""
        if self.samples.num_targets is not None:
            return self.samples.num_targets
        targets = self.samples.lengths - 1
        return targets if self.trains_prefixes else np.minimum(targets, 1)

    @property
    def num_batches(self) -> int:
        """Batches of this shard in the epoch; the last one may be smaller."""
        return -(-len(self.samples) // self.batch_size)


def shard_batch_size(batch_size: int, shard: int, num_shards: int) -> int:
    """Samples that a shard gives to every global batch."""
    return batch_size // num_shards + (shard < batch_size % num_shards)


def plan_shard_epoch(users: UserSequences, shard: int, epoch: int, config: RunConfig) -> ShardEpoch:
    """Cut, shuffle and group one shard's samples; a pure function of seed, epoch and shard."""
    train, model, kind = config.train, config.model, ATTENTION[config.model.attention]
    random = np.random.default_rng([train.seed, epoch, shard])
    if kind.trains_prefixes:
        stride = train.window_stride or max(1, model.max_seq_len // 2)
        offset = random.integers(1, stride + 1, len(users.lengths))
        samples = cut_windows(users, model.max_seq_len, stride, offset)
    else:
        samples = cut_prefixes(users, model.max_seq_len)
    order = random.permutation(len(samples))
    if kind.masks_padding:  # otherwise every batch is padded to the same width
        order = order[np.argsort(samples.lengths[order] // LENGTH_CLASS, kind="stable")]
    salt = random.integers(0, 2**63, dtype=np.int64).astype(np.uint64)
    keys = mix(salt + np.arange(len(samples), dtype=np.uint64))
    batch_size = shard_batch_size(train.batch_size, shard, train.virtual_shards)
    return ShardEpoch(samples.take(order), keys, batch_size, kind.trains_prefixes)


class RankEpoch:
    """One rank's batches of one epoch.

    Args:
        users: The sequences of each shard that the rank owns.
        epoch: Number of the epoch, from 0.
        config: The run; only data order, model kind and loss matter here.
        num_items: Negatives are drawn from 1 to this.
        candidates: Items, ascending, that are drawn as negatives; None for all.
    """

    def __init__(
        self,
        users: dict[int, UserSequences],
        epoch: int,
        config: RunConfig,
        num_items: int,
        candidates: Int64 | None = None,
    ) -> None:
        self._users, self._config, self._num_items = users, config, num_items
        self._candidates = candidates
        self._trains_prefixes = ATTENTION[config.model.attention].trains_prefixes
        self._draws_negatives = _draws_negatives(config.model.loss_type)
        self._reads_times, self._reads_now = config.model.reads_times, config.model.reads_now
        self._epoch = epoch
        self._shards = {
            shard: plan_shard_epoch(sequences, shard, epoch, config)
            for shard, sequences in users.items()
        }
        self._batch_at: dict[int, Int64] = {}
        self._num_steps = 0
        events = [s.targets for s in users.values() if s.targets is not None]
        _require_drawn(config, bool(events))
        self.is_weighted = any(targets.is_weighted for targets in events)
        """Whether some targets of this rank weigh other than 1."""
        self._most_at_once = max(map(most_at_once, events), default=1)

    @property
    def longest_shard(self) -> int:
        """Batches of the shard that has most; the global maximum is the epoch's steps."""
        return max((shard.num_batches for shard in self._shards.values()), default=0)

    def set_num_steps(self, num_steps: int) -> None:
        """Spread every shard's batches over the epoch's global number of steps.

        Batches of all shards are lined up by length, then the steps are shuffled for all shards
        alike: the batches that meet in a step are similarly long.
        """
        self._num_steps = num_steps
        steps = np.random.default_rng([self._config.train.seed, self._epoch]).permutation(num_steps)
        for shard, plan in self._shards.items():
            count = plan.num_batches
            batch_at = np.full(num_steps, -1, np.int64)
            lined_up = (2 * np.arange(count) + 1) * num_steps // (2 * max(count, 1))
            batch_at[steps[lined_up]] = np.arange(count)
            self._batch_at[shard] = batch_at

    def targets_per_step(self) -> Int64:
        """Number of this rank's targets in each step; their sum over ranks divides the loss."""
        return self._sum_per_step(lambda shard, plan: plan.targets, np.int64)

    def weights_per_step(self) -> Float64:
        """Sum of the weights of this rank's targets in each step."""

        def weights(shard: int, plan: ShardEpoch) -> Float64:
            targets, samples = self._users[shard].targets, plan.samples
            if targets is None or samples.first_targets is None:
                return plan.targets.astype(np.float64)
            before = np.concatenate([[0.0], np.cumsum(targets.weights, dtype=np.float64)])
            found: Float64 = before[samples.first_targets + plan.targets]
            found -= before[samples.first_targets]
            return found

        sums: Float64 = self._sum_per_step(weights, np.float64)
        return sums

    def _sum_per_step(self, of: Callable[[int, ShardEpoch], Array], kind: type[np.number]) -> Array:
        """Sums over the samples of each step of what a function gives for those of a shard."""
        totals = np.zeros(self._num_steps, kind)
        for shard, plan in self._shards.items():
            per_sample = of(shard, plan)
            starts = np.arange(plan.num_batches) * plan.batch_size
            per_batch = np.add.reduceat(per_sample, starts) if len(starts) else per_sample
            batch_at = self._batch_at[shard]
            totals[batch_at >= 0] += per_batch[batch_at[batch_at >= 0]]
        return totals

    def batch(self, step: int) -> Batch:
        """The batch of one step. When all shards have run out it is one row of padding."""
        pieces = []
        for shard, plan in self._shards.items():
            index = int(self._batch_at[shard][step])
            if index >= 0:
                chosen = slice(index * plan.batch_size, (index + 1) * plan.batch_size)
                pieces.append((shard, plan, chosen))
        width = max((int(p.samples.lengths[c].max()) - 1 for _, p, c in pieces), default=1)
        batches = [self._shard_batch(shard, plan, c, width) for shard, plan, c in pieces]
        return _join(batches) if batches else self._padding()

    def _shard_batch(self, shard: int, plan: ShardEpoch, chosen: slice, width: int) -> Batch:
        tape = self._users[shard].item_ids
        starts, lengths = plan.samples.starts[chosen], plan.samples.lengths[chosen] - 1
        inputs = gather(tape, starts, lengths, width)
        weights = None
        if self._users[shard].targets is not None:
            targets, weights = self._event_targets(shard, plan, chosen, width)
        elif self._trains_prefixes:
            targets = gather(tape, starts + 1, lengths, width)
            if self._config.train.target_span > 1:
                targets = self._draw_targets(plan.keys[chosen], targets, lengths)
        else:
            targets = tape[starts + lengths]
        negatives = None
        if self._draws_negatives:
            negatives = self._draw_negatives(plan.keys[chosen], targets)
        times = now = None
        if self._reads_times:
            times = gather(_times_of(self._users[shard]), starts, lengths, width)
        if self._reads_now:
            now = self._draw_requests(shard, plan, chosen, width)
        return Batch(inputs, lengths, targets, negatives, weights, times, now)

    def _draw_requests(self, shard: int, plan: ShardEpoch, chosen: slice, width: int) -> Int64:
        """Moments between each input and its first target, (B, L), or (B,) of the last input."""
        users, samples = self._users[shard], plan.samples
        times = _times_of(users)
        starts, lengths = samples.starts[chosen], samples.lengths[chosen] - 1
        before = gather(times, starts, lengths, width)
        if users.targets is None:
            after = gather(times, starts + 1, lengths, width)
        else:
            after = self._first_target_times(users, samples, chosen, before)
        share = _draw_shares(plan.keys[chosen] ^ _REQUESTS, width)
        now: Int64 = before + np.floor(share * np.maximum(after - before, 0)).astype(np.int64)
        if self._trains_prefixes:
            return now
        of_newest: Int64 = now[np.arange(len(now)), lengths - 1]
        return of_newest

    def _first_target_times(
        self, users: UserSequences, samples: Samples, chosen: slice, before: Int64
    ) -> Int64:
        """Times of the first target after each input, where there are events; else the input's."""
        targets = users.targets
        assert targets is not None
        assert samples.first_targets is not None
        assert samples.num_targets is not None
        row, rank = expand(samples.num_targets[chosen])
        target = samples.first_targets[chosen][row] + rank
        user = np.searchsorted(targets.offsets, target, side="right") - 1
        place = users.offsets[user] + targets.positions[target] - samples.starts[chosen][row] - 1
        cell = row * before.shape[1] + place  # ascending, as targets are
        first = np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]])[: len(cell)])
        after = before.copy()
        after[row[first], place[first]] = targets.times[target[first]]
        return after

    def _draw_targets(self, keys: UInt64, next_ids: Int32, lengths: Int64) -> Int32:
        """One of the next ``train.target_span`` items of each input, (B, L), all as likely."""
        columns = np.arange(next_ids.shape[1])
        left = (lengths[:, None] - columns).clip(1, self._config.train.target_span)
        skipped = np.floor(_draw_shares(keys ^ _SPANS, len(columns)) * left).astype(np.int64)
        return np.take_along_axis(next_ids, columns + skipped, axis=1)

    def _draw_negatives(self, keys: UInt64, targets: Int32) -> Int32:
        if self._candidates is None:
            return draw_negatives(keys, targets, self._num_items)
        places = np.searchsorted(self._candidates, targets).astype(np.int32) + np.int32(1)
        places *= targets > 0
        drawn = draw_negatives(keys, places, len(self._candidates))
        return np.concatenate([[0], self._candidates])[drawn].astype(np.int32)

    def _event_targets(
        self, shard: int, plan: ShardEpoch, chosen: slice, width: int
    ) -> tuple[Int32, Float32 | None]:
        """Targets of some samples, each behind the last input before it, and their weights."""
        users, samples = self._users[shard], plan.samples
        targets = users.targets
        assert targets is not None
        assert samples.first_targets is not None
        assert samples.num_targets is not None
        first, counts = samples.first_targets[chosen], samples.num_targets[chosen]
        if not self._trains_prefixes:
            return targets.item_ids[first], targets.weights[first] if self.is_weighted else None
        row, rank = expand(counts)
        target = first[row] + rank
        user = np.searchsorted(targets.offsets, target, side="right") - 1
        end = users.offsets[user] + targets.positions[target]
        place = end - samples.starts[chosen][row] - 1
        # Several targets without an input between them follow the same input.
        cell = row * width + place
        is_first = np.concatenate([[True], cell[1:] != cell[:-1]])[: len(cell)]
        number = np.arange(len(cell)) - np.maximum.accumulate(
            np.where(is_first, np.arange(len(cell)), 0)
        )
        shape = (len(counts), width, self._most_at_once)
        ids, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        ids[row, place, number] = targets.item_ids[target]
        weights[row, place, number] = targets.weights[target]
        if self._most_at_once == 1:
            ids, weights = ids[:, :, 0], weights[:, :, 0]
        return ids, weights if self.is_weighted else None

    def _padding(self) -> Batch:
        shape = (1, 1) if self._trains_prefixes else (1,)
        nothing = np.zeros(shape, np.int32)
        negatives = nothing if self._draws_negatives else None
        one = np.zeros((1, 1), np.int64)
        times, now = one if self._reads_times else None, None
        if self._reads_now:
            now = one if self._trains_prefixes else one[0]
        return Batch(one.astype(np.int32), one[0], nothing, negatives, None, times, now)


def _require_drawn(config: RunConfig, has_events: bool) -> None:
    """Refuse drawn targets on a dataset with events, which the configuration may not name.

    Raises:
        ConfigError: They are asked for.
    """
    span = config.train.target_span
    if has_events and span > 1:
        raise ConfigError(
            f"train.target_span={span} does not go with a dataset that was made with data.events, "
            "which say what the targets are; leave one of the two out"
        )


def _times_of(users: UserSequences) -> Int64:
    if users.times is None:
        raise ConfigError(
            "model.gaps or model.interest_decay=time reads the times of items, and these sequences "
            "have none; load them with times, as load_shards(..., with_times=True) does, or leave "
            "both out"
        )
    return users.times.of_items


def _draw_shares(keys: UInt64, width: int) -> Float64:
    """Numbers in [0, 1), evenly drawn, (B, width); equal keys draw equal numbers."""
    columns = np.arange(width, dtype=np.uint64)
    drawn = mix(mix(keys)[:, None] + columns)
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


def most_at_once(targets: EventTargets) -> int:
    """Most targets for training that follow the same input."""
    learnt = targets.is_learnt
    keys = np.stack([targets.user[learnt], targets.positions[learnt]])
    if not keys.size:
        return 1
    is_same = (keys[:, 1:] == keys[:, :-1]).all(axis=0)
    starts = np.flatnonzero(np.concatenate([[True], ~is_same, [True]]))
    return int(np.diff(starts).max())


def draw_negatives(keys: UInt64, targets: Int32, num_items: int) -> Int32:
    """A uniformly drawn item other than the target, for every target; 0 where there is none.

    Args:
        keys: (B,) a random number per sample; equal keys draw equal negatives.
        targets: (B,), (B, L) or (B, L, M) item ids.
        num_items: Negatives lie in 1..num_items; with a single item the target itself is drawn.
    """
    columns = np.arange(np.prod(targets.shape[1:], dtype=np.int64), dtype=np.uint64)
    drawn = mix(mix(keys)[:, None] + columns) % np.uint64(max(num_items - 1, 1))
    negatives = drawn.astype(np.int32).reshape(targets.shape) + np.int32(1)
    negatives += ((negatives >= targets) & (num_items > 1)).astype(np.int32)
    return np.where(targets > 0, negatives, np.int32(0))


def _draws_negatives(setting: LossSetting) -> bool:
    """Whether each target gets a negative of its own; ``auto`` takes no such loss."""
    if setting == "auto":
        return False
    return LOSSES[setting].needs_negatives and not LOSSES[setting].shares_negatives


def _join(batches: list[Batch]) -> Batch:
    joined: dict[str, Any] = {}
    for field in fields(Batch):
        arrays = [getattr(batch, field.name) for batch in batches]
        arrays = [array for array in arrays if array is not None]
        joined[field.name] = np.concatenate(arrays) if arrays else None
    return Batch(**joined)
