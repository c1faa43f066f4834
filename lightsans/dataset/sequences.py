"""Users' sequences in memory, and the samples of training cut from them as views.

All sequences of a piece of the dataset lie end to end on one int32 array (a tape); a sample is a
stretch of it, so neither windows nor prefixes are copied before a batch is made.

Shapes:
    U users   S samples
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

LEAVE_ONE_OUT_MINIMUM = 3
"""Users with fewer interactions train with all they have and are not evaluated."""
NO_TARGET = -1
UNKNOWN_ITEM = 0


@dataclass(frozen=True, slots=True)
class Periods:
    """Where the cut-offs of a temporal split lie in users' sequences."""

    train_lengths: Int64
    """(U,) items before the first cut-off."""
    test_lengths: Int64
    """(U,) items before the second cut-off, from which on rows are for testing."""
    valid_targets: Int64
    """(U,) the first item between the cut-offs; `UNKNOWN_ITEM` outside the vocabulary, `NO_TARGET`
    when there is none."""
    test_targets: Int64
    """(U,) likewise after the second."""

    @classmethod
    def concatenate(cls, pieces: Sequence["Periods"]) -> "Periods":
        """The users of all pieces, in order."""
        columns = zip(*(piece.columns() for piece in pieces), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def columns(self) -> list[Int64]:
        """In the order of `lightsans.storage.schemas.PERIOD_COLUMNS`."""
        return [self.train_lengths, self.test_lengths, self.valid_targets, self.test_targets]


@dataclass(frozen=True, slots=True)
class UserSequences:
    """Whole sequences of some users, oldest item first."""

    item_ids: Int32
    """The tape: all sequences, end to end."""
    offsets: Int64
    """(U + 1,) where each sequence begins; the last one is the length of the tape."""
    periods: Periods | None = None
    """How a temporal split cuts them; None for leave-one-out."""

    @property
    def lengths(self) -> Int64:
        """(U,) items of each user."""
        return np.diff(self.offsets)

    @property
    def train_lengths(self) -> Int64:
        """(U,) how many of each user's items, from the oldest, are for training.

        Leave-one-out keeps a user's last two for valid and test, when there are enough.
        """
        if self.periods is not None:
            return self.periods.train_lengths
        lengths = self.lengths
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
        return cls(tape, offsets.astype(np.int64), joined)

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
        return UserSequences(translated[is_known], before[self.offsets])


def evaluated_users(lengths: Int64) -> npt.NDArray[np.intp]:
    """Indices of the users who have a valid and a test target."""
    return np.flatnonzero(lengths >= LEAVE_ONE_OUT_MINIMUM)


@dataclass(frozen=True, slots=True)
class Samples:
    """Stretches of a tape: sample i is ``item_ids[starts[i] : starts[i] + lengths[i]]``.

    The last item of a stretch is only ever a target.
    """

    starts: Int64
    lengths: Int64

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, order: Int64) -> "Samples":
        """The samples at these indices, in this order."""
        return Samples(self.starts[order], self.lengths[order])


def cut_windows(users: UserSequences, max_seq_len: int, stride: int, offset: Int64) -> Samples:
    """Windows of up to ``max_seq_len`` + 1 training items that cover every sequence.

    A long sequence has windows at its beginning, at its end, and every ``stride`` items from
    ``offset`` between them. Sequences of one item hold no target and give no window.

    Args:
        users: Whose sequences to cut.
        max_seq_len: Inputs of a window.
        stride: Distance between windows, at most ``max_seq_len``.
        offset: (U,) start of each user's first inner window, from 1 to ``stride``. Drawn anew each
            epoch, it lets every interaction be predicted from contexts of different lengths.
    """
    width = max_seq_len + 1
    lengths = users.train_lengths
    last_start = np.maximum(lengths - width, 0)
    inner = np.where(last_start > offset, -(-(last_start - offset) // stride), 0)
    count = np.where(lengths >= 2, 1 + inner + (last_start > 0), 0)
    user, rank = _expand(count)
    start = np.where(rank == 0, 0, offset[user] + (rank - 1) * stride)
    start = np.minimum(start, last_start[user])  # the last window ends with the sequence
    return Samples(users.offsets[user] + start, np.minimum(lengths[user], width))


def cut_prefixes(users: UserSequences, max_seq_len: int) -> Samples:
    """Every prefix of every training sequence with the item that follows it.

    Only the newest ``max_seq_len`` items of a prefix are kept as inputs.
    """
    user, rank = _expand(np.maximum(users.train_lengths - 1, 0))
    target = rank + 1  # its position in the sequence
    length = np.minimum(target, max_seq_len) + 1
    return Samples(users.offsets[user] + target + 1 - length, length)


def distinct_targets(users: UserSequences) -> int:
    """Training interactions with something before them: what an epoch predicts at least once."""
    return int(np.maximum(users.train_lengths - 1, 0).sum())


def gather(item_ids: Int32, starts: Int64, lengths: Int64, width: int | None = None) -> Int32:
    """Stretches of a tape as rows of a matrix, right-padded with 0 to ``width`` or the longest."""
    width = int(lengths.max(initial=1)) if width is None else width
    column = np.arange(width)
    is_item = column < lengths[:, None]
    position = np.where(is_item, starts[:, None] + column, 0)
    if len(item_ids) == 0:
        return np.zeros(position.shape, np.int32)
    return np.where(is_item, item_ids[position], np.int32(0))


def _expand(count: Int64) -> tuple[Int64, Int64]:
    """For each of ``count[i]`` copies of i: the i it comes from, and its rank among them."""
    source = np.repeat(np.arange(len(count)), count)
    rank = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    return source, rank
