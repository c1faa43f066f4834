"""Sequences as training holds them: nothing held out in a refit, on disk beyond a budget."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lightsans.dataset.sequences import NO_TARGET, Periods, UserSequences


def for_refit(users: UserSequences) -> UserSequences:
    """The same sequences with nothing held out: every interaction is for training."""
    lengths = users.lengths
    nothing = np.full(len(lengths), NO_TARGET, np.int64)
    return replace(users, periods=Periods(lengths, lengths, nothing, nothing))


def load_within(
    load: Callable[[int], UserSequences],
    shards: Iterable[int],
    memory_bytes: int | None,
    directory: Path,
) -> dict[int, UserSequences]:
    """Load shards one after the other; tapes beyond a budget are mapped from files.

    The system then keeps in memory what training touches and drops it again under pressure.

    Args:
        load: Reads the sequences of one shard.
        shards: Which shards to load.
        memory_bytes: Budget for the tapes of all shards; None has no limit.
        directory: For the files, one for each shard; it exists.
    """
    loaded, used = {}, 0
    for shard in shards:
        users = load(shard)
        used += users.item_ids.nbytes
        if memory_bytes is not None and used > memory_bytes:
            used -= users.item_ids.nbytes
            users = _map(users, directory / f"tape-{shard:05d}.npy")
        loaded[shard] = users
    return loaded


def _map(users: UserSequences, path: Path) -> UserSequences:
    if len(users.item_ids) == 0:  # nothing can be mapped
        return users
    np.save(path, users.item_ids)
    return replace(users, item_ids=np.asarray(np.load(path, mmap_mode="r")))
