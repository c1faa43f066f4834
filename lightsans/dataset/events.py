"""Sequences of a log with events: the targets beside the inputs, and what inputs count for.

A sequence's items are its inputs. A target stands at a position: so many inputs of its user lie
before it, and it is predicted from them alone. Under leave-one-out a user's last target is for
testing, the one before it for validation, where both have an input before them.

Shapes:
    U users   T targets of all users, end to end   N inputs of all users
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from lightsans.arrays import Bool, Float32, Int32, Int64, Intp
from lightsans.columns.segments import count_true, expand
from lightsans.config import DataConfig

HOUR = 3_600_000_000
"""Microseconds."""


def events_to_json(data: DataConfig) -> str:
    """JSON of what each event counts for, in the order of the codes, as sequences keep it."""
    return json.dumps([{"name": n, **asdict(data.events[n])} for n in data.event_names])


@dataclass(frozen=True, slots=True)
class EventTargets:
    """Targets of some users, and what their inputs count for."""

    item_ids: Int32
    """(T,)"""
    offsets: Int64
    """(U + 1,) where each user's targets begin."""
    positions: Int64
    """(T,) inputs of the user before each; ascending."""
    times: Int64
    """(T,) microseconds."""
    weights: Float32
    """(T,) in the loss."""
    train_counts: Int64
    """(U,) targets of each user, from the oldest, that are for training."""
    test_counts: Int64
    """(U,) those before the test target: where it stands, if it is known."""
    input_times: Int64
    """(N,) microseconds."""
    input_is_seen: Bool
    """(N,) inputs that are not recommended again."""
    input_is_view: Bool
    """(N,) inputs that are no targets."""

    @property
    def lengths(self) -> Int64:
        """(U,) targets of each user."""
        return np.diff(self.offsets)

    @property
    def user(self) -> Intp:
        """(T,) whose target it is."""
        return np.repeat(np.arange(len(self.train_counts)), self.lengths)

    @property
    def is_trained(self) -> Bool:
        """(T,) targets for training, those that popularity counts."""
        user, rank = expand(self.lengths)
        return rank < self.train_counts[user]

    @property
    def is_learnt(self) -> Bool:
        """(T,) targets for training that have an input before them."""
        return self.is_trained & (self.positions > 0)

    @property
    def is_weighted(self) -> bool:
        """Whether some targets weigh more than others."""
        return bool((self.weights != 1).any())

    def evaluated(self) -> Intp:
        """Users whose last two targets are held out by leave-one-out."""
        return np.flatnonzero(usable_counts(self.positions, self.offsets) >= 2)

    def learnt_lengths(self) -> Int64:
        """(U,) inputs before each user's last target for training; 0 where there is none."""
        lengths = np.zeros(len(self.train_counts), np.int64)
        learnt = self.is_learnt
        lengths[self.user[learnt]] = self.positions[learnt]  # ascending: the last one stays
        return lengths

    def all_trained(self) -> "EventTargets":
        """The same with nothing held out."""
        return replace(self, train_counts=self.lengths)

    @classmethod
    def concatenate(cls, pieces: Sequence["EventTargets"]) -> "EventTargets":
        """The users of all pieces, in order."""
        lengths = np.concatenate([piece.lengths for piece in pieces])
        names = ["item_ids", "positions", "times", "weights", "train_counts", "test_counts"]
        names += ["input_times", "input_is_seen", "input_is_view"]
        columns = {name: np.concatenate([getattr(p, name) for p in pieces]) for name in names}
        return cls(offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), **columns)


def usable_counts(positions: Int64, offsets: Int64) -> Int64:
    """(U,) targets with an input before them: the last ones of a user, if any."""
    return count_true(positions > 0, offsets)
