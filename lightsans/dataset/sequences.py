"""Users' sequences in memory: end to end on one int32 array, a tape.

Shapes:
    U users
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from lightsans.arrays import Bool, Int32, Int64, Intp
from lightsans.columns.segments import expand
from lightsans.dataset.events import EventTargets

LEAVE_ONE_OUT_MINIMUM = 3
"""Users with fewer interactions train with all they have and are not evaluated."""
NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class Periods:
    """Positions of the cut-offs of a temporal split in users' sequences."""

    train_lengths: Int64
    """(U,) items before the first cut-off."""
    test_lengths: Int64
    """(U,) items before the second cut-off, from which on rows are for testing."""
    valid_targets: Int64
    """(U,) the first item between the cut-offs; 0 outside the vocabulary, `NO_TARGET` when there is
    none."""
    test_targets: Int64
    """(U,) likewise after the second."""

    @classmethod
    def concatenate(cls, pieces: Sequence["Periods"]) -> "Periods":
        """The users of all pieces, in order."""
        columns = zip(*(piece.columns() for piece in pieces), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def columns(self) -> list[Int64]:
        """Columns in the order of `lightsans.storage.schemas.PERIOD_COLUMNS`."""
        return [self.train_lengths, self.test_lengths, self.valid_targets, self.test_targets]


@dataclass(frozen=True, slots=True)
class ItemTimes:
    """Times at which users met their items, for models that read them."""

    of_items: Int64
    """(N,) microseconds of each item of the tape."""
    valid_from: int | None = None
    """Moment of the first cut-off of a temporal split, for which valid targets are predicted."""
    test_from: int | None = None
    """Moment of the second one."""

    def select(self, chosen: Int64 | Bool) -> Self:
        """The same for some of the items."""
        return replace(self, of_items=self.of_items[chosen])


@dataclass(frozen=True, slots=True)
class UserSequences:
    """Whole sequences of some users, oldest item first."""

    item_ids: Int32
    """The tape: all sequences, end to end."""
    offsets: Int64
    """(U + 1,) where each sequence begins; the last one is the length of the tape."""
    periods: Periods | None = None
    """Cuts of a temporal split; None for leave-one-out."""
    targets: EventTargets | None = None
    """Targets of a log with events; None where each item is one, predicted from those before it."""
    times: ItemTimes | None = None
    """None where no model asks for them."""

    @property
    def lengths(self) -> Int64:
        """(U,) items of each user."""
        return np.diff(self.offsets)

    @property
    def tape_bytes(self) -> int:
        """Memory of what there is for each item."""
        return self.item_ids.nbytes + (0 if self.times is None else self.times.of_items.nbytes)

    @property
    def train_lengths(self) -> Int64:
        """(U,) how many of each user's items, from the oldest, are for training.

        Leave-one-out keeps a user's last two for valid and test, when there are enough.
        """
        if self.periods is not None:
            return self.periods.train_lengths
        lengths = self.lengths
        if self.targets is not None:
            users = self.targets.evaluated()
            train_lengths = lengths.copy()
            train_lengths[users] = self.targets.positions[self.targets.offsets[users + 1] - 2]
            return train_lengths
        return np.where(lengths >= LEAVE_ONE_OUT_MINIMUM, lengths - 2, lengths)

    @classmethod
    def concatenate(cls, pieces: Sequence["UserSequences"]) -> "UserSequences":
        """The users of all pieces, in order."""
        lengths = [piece.lengths for piece in pieces]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([[], *lengths]))])
        tape = np.concatenate([np.zeros(0, np.int32), *(piece.item_ids for piece in pieces)])
        periods = [piece.periods for piece in pieces if piece.periods is not None]
        assert len(periods) in (0, len(pieces))
        joined = Periods.concatenate(periods) if periods else None
        targets = [piece.targets for piece in pieces if piece.targets is not None]
        events = EventTargets.concatenate(targets) if targets else None
        times = [piece.times for piece in pieces if piece.times is not None]
        assert len(times) in (0, len(pieces))
        of_all = None
        if times:
            of_all = replace(times[0], of_items=np.concatenate([t.of_items for t in times]))
        return cls(tape, offsets.astype(np.int64), joined, events, of_all)

    def translate(self, mapping: Int32 | None) -> "UserSequences":
        """Whole sequences in the item ids of another vocabulary; unknown items are left out.

        Args:
            mapping: Row i holds the other id of item i, 0 for unknown; None changes nothing.
        """
        if mapping is None:
            return self
        translated = mapping[self.item_ids]
        is_known = translated > 0
        before = np.concatenate([[0], np.cumsum(is_known)])
        times = None if self.times is None else self.times.select(is_known)
        return UserSequences(translated[is_known], before[self.offsets], times=times)

    def take(self, users: Intp) -> "UserSequences":
        """The items of some users, in that order."""
        lengths = self.lengths[users]
        owner, rank = expand(lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = self.offsets[users][owner] + rank
        times = None if self.times is None else self.times.select(at)
        return UserSequences(self.item_ids[at], offsets, times=times)

    def joined(self, other: "UserSequences") -> "UserSequences":
        """Per user, the items of both."""
        users = np.concatenate([expand(self.lengths)[0], expand(other.lengths)[0]])
        items = np.concatenate([self.item_ids, other.item_ids])
        order = np.argsort(users, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(self.lengths + other.lengths)])
        return UserSequences(items[order], offsets)


def evaluated_users(lengths: Int64) -> Intp:
    """Indices of the users who have a valid and a test target."""
    return np.flatnonzero(lengths >= LEAVE_ONE_OUT_MINIMUM)


def for_refit(users: UserSequences) -> UserSequences:
    """The same sequences with nothing held out: every interaction is for training."""
    lengths = users.lengths
    nothing = np.full(len(lengths), NO_TARGET, np.int64)
    targets = None if users.targets is None else users.targets.all_trained()
    return replace(users, periods=Periods(lengths, lengths, nothing, nothing), targets=targets)
