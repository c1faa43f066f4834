"""Samples of training: stretches of a tape, so that nothing is copied before a batch is made.

Shapes:
    U users   S samples
"""

from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Int32, Int64
from lightsans.dataset.sequences import UserSequences


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
        users: Users whose sequences to cut.
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
    """Repeat each i ``count[i]`` times; the i of each copy, and its rank among them."""
    source = np.repeat(np.arange(len(count)), count)
    rank = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    return source, rank
