"""Samples of training: stretches of a tape, so that nothing is copied before a batch is made.

Shapes:
    U users   S samples
"""

from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Array, Int64
from lightsans.columns.segments import expand
from lightsans.dataset.events import EventTargets
from lightsans.dataset.sequences import UserSequences


@dataclass(frozen=True, slots=True)
class Samples:
    """Stretches of a tape: sample i is ``item_ids[starts[i] : starts[i] + lengths[i]]``.

    The last item of a stretch is only ever a target.
    """

    starts: Int64
    lengths: Int64
    first_targets: Int64 | None = None
    """First of each sample's targets among those of all users, where there are events; then a
    stretch counts one item more than it has."""
    num_targets: Int64 | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, order: Int64) -> "Samples":
        """The samples at these indices, in this order."""
        if self.first_targets is None or self.num_targets is None:
            return Samples(self.starts[order], self.lengths[order])
        chosen = (self.starts, self.lengths, self.first_targets, self.num_targets)
        return Samples(*(column[order] for column in chosen))


def cut_windows(users: UserSequences, max_seq_len: int, stride: int, offset: Int64) -> Samples:
    """Windows of up to ``max_seq_len`` + 1 training items that cover every sequence.

    A long sequence has windows at its beginning, at its end, and every ``stride`` items from
    ``offset`` between them. Sequences of one item hold no target and give no window.

    Args:
        users: Users whose sequences to cut.
        max_seq_len: Inputs of a window.
        stride: Distance between windows, at most ``max_seq_len``.
        offset: (U,) start of each user's first inner window, from 1 to ``stride``. Drawn anew each
            epoch, it lets every interaction be predicted from contexts of different lengths.
    """
    width = max_seq_len + 1
    lengths = users.train_lengths
    if users.targets is not None:
        lengths = users.targets.learnt_lengths() + 1
    last_start = np.maximum(lengths - width, 0)
    inner = np.where(last_start > offset, -(-(last_start - offset) // stride), 0)
    count = np.where(lengths >= 2, 1 + inner + (last_start > 0), 0)
    user, rank = expand(count)
    start = np.where(rank == 0, 0, offset[user] + (rank - 1) * stride)
    start = np.minimum(start, last_start[user])  # the last window ends with the sequence
    samples = Samples(users.offsets[user] + start, np.minimum(lengths[user], width))
    return samples if users.targets is None else _with_targets(samples, users, users.targets)


def _with_targets(windows: Samples, users: UserSequences, targets: EventTargets) -> Samples:
    """The windows with the targets whose newest input is in them; others are left out."""
    learnt = np.flatnonzero(targets.is_learnt)
    ends = (users.offsets[targets.user] + targets.positions)[learnt]  # ascending
    first = np.searchsorted(ends, windows.starts, side="right")
    last = np.searchsorted(ends, windows.starts + windows.lengths - 1, side="right")
    kept = np.flatnonzero(last > first)
    first_targets = learnt[first[kept]]
    return Samples(windows.starts[kept], windows.lengths[kept], first_targets, (last - first)[kept])


def cut_prefixes(users: UserSequences, max_seq_len: int) -> Samples:
    """Every prefix of every training sequence with the item that follows it, if it is a target.

    Only the newest ``max_seq_len`` items of a prefix are kept as inputs.
    """
    if users.targets is not None:
        targets = users.targets
        learnt = np.flatnonzero(targets.is_learnt)
        inputs = np.minimum(targets.positions[learnt], max_seq_len)
        ends = users.offsets[targets.user[learnt]] + targets.positions[learnt]
        return Samples(ends - inputs, inputs + 1, learnt, np.ones(len(learnt), np.int64))
    user, rank = expand(np.maximum(users.train_lengths - 1, 0))
    target = rank + 1  # its position in the sequence
    length = np.minimum(target, max_seq_len) + 1
    return Samples(users.offsets[user] + target + 1 - length, length)


def distinct_targets(users: UserSequences) -> int:
    """Training interactions with something before them: what an epoch predicts at least once."""
    if users.targets is not None:
        return int(users.targets.is_learnt.sum())
    return int(np.maximum(users.train_lengths - 1, 0).sum())


def gather(tape: Array, starts: Int64, lengths: Int64, width: int | None = None) -> Array:
    """Stretches of a tape as rows of a matrix, right-padded with 0 to ``width`` or the longest."""
    width = int(lengths.max(initial=1)) if width is None else width
    column = np.arange(width)
    is_item = column < lengths[:, None]
    position = np.where(is_item, starts[:, None] + column, 0)
    if len(tape) == 0:
        return np.zeros(position.shape, tape.dtype)
    return np.where(is_item, tape[position], tape.dtype.type(0))
