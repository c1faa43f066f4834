"""Held-out targets and the histories before them.

Leave-one-out: a user's last interaction is the test target, the one before the valid target, the
rest is for training. Where a log has events, only targets count (`lightsans.dataset.events`).
Temporal: the first interaction of each period, see
`lightsans.preparation.temporal`.

Shapes:
    E users who are evaluated
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lightsans.arrays import Bool, Int32, Int64, Intp
from lightsans.columns.segments import expand
from lightsans.dataset.events import HOUR, EventTargets
from lightsans.dataset.sequences import NO_TARGET, ItemTimes, UserSequences, evaluated_users

Split = Literal["valid", "test"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Histories of some users up to a moment, and the item that came next."""

    item_ids: Int32
    """The tape that the histories lie on."""
    starts: Int64
    """(E,) where each history begins."""
    lengths: Int64
    """(E,) its items."""
    target_ids: Int64
    """(E,) the next item; 0 when the model does not know it."""
    users: Intp
    """(E,) whose history it is: positions among the users that were given."""
    times: Int64 | None = None
    """(E,) microseconds of the targets, where a log has events."""
    is_seen: Bool | None = None
    """Items of the tape that count as seen; None: all."""
    is_viewed: Bool | None = None
    """(E,) whether the target was viewed within the hour before it."""
    input_times: Int64 | None = None
    """Microseconds of the items of the tape, where a model asks for them."""
    now: Int64 | None = None
    """(E,) moments of the requests, likewise: see `hold_out`."""

    def take(self, chosen: Intp) -> "HeldOut":
        """Select users."""
        return HeldOut(
            self.item_ids,
            self.starts[chosen],
            self.lengths[chosen],
            self.target_ids[chosen],
            self.users[chosen],
            None if self.times is None else self.times[chosen],
            self.is_seen,
            None if self.is_viewed is None else self.is_viewed[chosen],
            self.input_times,
            None if self.now is None else self.now[chosen],
        )


def hold_out(users: UserSequences, split: Split) -> HeldOut:
    """The histories and targets of the users who have one.

    Under leave-one-out these are the users with enough interactions; under a temporal split those
    who met something in the period and had a known item before it. Where sequences have times, a
    request is made at the cut-off, and under leave-one-out with the newest item of the history:
    when the target came is known to nobody who recommends.
    """
    found = _hold_out(users, split)
    if users.times is None:
        return found
    times = users.times.of_items
    now = times[found.starts + found.lengths - 1] if len(found.starts) else np.zeros(0, np.int64)
    cutoff = users.times.valid_from if split == "valid" else users.times.test_from
    if cutoff is not None:
        now = np.maximum(now, cutoff)
    return replace(found, input_times=times, now=now)


def _hold_out(users: UserSequences, split: Split) -> HeldOut:
    if users.periods is not None:
        periods = users.periods
        is_valid = split == "valid"
        lengths = periods.train_lengths if is_valid else periods.test_lengths
        targets = periods.valid_targets if is_valid else periods.test_targets
        chosen = np.flatnonzero((targets != NO_TARGET) & (lengths > 0))
        starts = users.offsets[chosen]
        found = HeldOut(users.item_ids, starts, lengths[chosen], targets[chosen], chosen)
        return found if users.targets is None else _with_events(found, users, split)
    if users.targets is not None:
        chosen = users.targets.evaluated()
        rows = _target_rows(users.targets, chosen, split)
        lengths = users.targets.positions[rows]
        target_ids = users.targets.item_ids[rows].astype(np.int64)
        found = HeldOut(users.item_ids, users.offsets[chosen], lengths, target_ids, chosen)
        return _with_events(found, users, split)
    chosen = evaluated_users(users.lengths)
    starts = users.offsets[chosen]
    lengths = users.lengths[chosen] - (2 if split == "valid" else 1)
    targets = users.item_ids[starts + lengths].astype(np.int64)
    return HeldOut(users.item_ids, starts, lengths, targets, chosen)


def _target_rows(targets: EventTargets, users: Intp, split: Split) -> Int64:
    """Places of the held-out targets of some users among all, if they are known."""
    counts = targets.train_counts if split == "valid" else targets.test_counts
    return targets.offsets[users] + counts[users]


def _with_events(held_out: HeldOut, users: UserSequences, split: Split) -> HeldOut:
    """The same with the times of the targets, what is seen, and which targets were just viewed."""
    targets = users.targets
    assert targets is not None
    is_known = held_out.target_ids > 0
    rows = _target_rows(targets, held_out.users, split)[is_known]
    times = np.zeros(len(is_known), np.int64)
    times[is_known] = targets.times[rows]
    # All inputs before each target, those too that lie behind a cut-off.
    lengths = np.zeros(len(is_known), np.int64)
    lengths[is_known] = targets.positions[rows]
    whose, rank = expand(lengths)
    at = rank + held_out.starts[whose]
    is_view = targets.input_is_view[at] & (held_out.item_ids[at] == held_out.target_ids[whose])
    is_view &= targets.input_times[at] >= times[whose] - HOUR
    is_viewed = np.zeros(len(lengths), bool)
    is_viewed[whose[is_view]] = True
    return replace(held_out, times=times, is_seen=targets.input_is_seen, is_viewed=is_viewed)


def describe_nobody(split: Split, trainable_users: int, is_temporal: bool, has_events: bool) -> str:
    """Why no user of a dataset has a target of a split, and the way out.

    Args:
        split: The split.
        trainable_users: Users of the dataset that pass its filters.
        is_temporal: Whether the split is one by time.
        has_events: Whether the log has events, so that only targets are held out.
    """
    if is_temporal:
        why = f"nobody has an interaction in the period of {split} and a known item before it"
        way_out = "move the cut-offs of data.temporal"
    else:
        needs = (
            "2 targets of data.events with an input before them; leave-one-out needs one each for "
            "valid and test"
            if has_events
            else "3 interactions; leave-one-out needs one each for training, valid and test"
        )
        why = f"all {trainable_users:,} users who pass the filters have fewer than {needs}"
        way_out = "use more data, or relax the filters of the data section"
    return f"0 users could be evaluated on {split}: {why}; {way_out}"


def translate(held_out: HeldOut, mapping: Int32 | None) -> HeldOut:
    """The same in the item ids of another vocabulary; unknown items leave the histories.

    Args:
        held_out: Histories and targets.
        mapping: Row i holds the other id of item i, 0 for unknown; None changes nothing.
    """
    if mapping is None:
        return held_out
    users, rank = expand(held_out.lengths)
    position = rank + held_out.starts[users]
    times = None if held_out.input_times is None else ItemTimes(held_out.input_times[position])
    histories = UserSequences(
        held_out.item_ids[position],
        np.concatenate([[0], np.cumsum(held_out.lengths)]),
        times=times,
    ).translate(mapping)
    is_seen = held_out.is_seen
    return HeldOut(
        histories.item_ids,
        histories.offsets[:-1],
        histories.lengths,
        mapping[held_out.target_ids].astype(np.int64),
        held_out.users,
        held_out.times,
        None if is_seen is None else is_seen[position][mapping[held_out.item_ids[position]] > 0],
        held_out.is_viewed,
        None if histories.times is None else histories.times.of_items,
        held_out.now,
    )
