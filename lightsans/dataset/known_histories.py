"""Histories as a model knows them, and the times beside them that it reads.

Shapes:
    B users
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lightsans.arrays import Bool, Int64, UInt64
from lightsans.columns.hashing import hash_segments, mix
from lightsans.dataset.samples import gather
from lightsans.dataset.sequences import UserSequences
from lightsans.errors import ConfigError


@dataclass(frozen=True, slots=True)
class KnownHistories:
    """Histories as a model sees them: the items that it knows, in its ids."""

    histories: UserSequences
    also_seen: UserSequences

    @property
    def is_known(self) -> Bool:
        """(B,) whether the model knows anything that a user did."""
        return self.histories.lengths > 0

    @property
    def fingerprints(self) -> UInt64:
        """(B,) differ when a user's list may; the order of ``also_seen`` does not count."""
        histories, also_seen = self.histories, self.also_seen
        sums = np.cumsum(mix(also_seen.item_ids.astype(np.uint64)))
        sums = np.concatenate([np.zeros(1, np.uint64), sums])
        seen_B = sums[also_seen.offsets[1:]] - sums[also_seen.offsets[:-1]]
        ordered_B = hash_segments(histories.item_ids.astype(np.uint64), histories.offsets)
        if histories.times is not None:  # a model that reads them sees another history
            times = histories.times.of_items.astype(np.uint64)
            ordered_B = mix(ordered_B + hash_segments(times, histories.offsets))
        found: UInt64 = mix(ordered_B + mix(seen_B))
        return found


class ReadsTimes(Protocol):
    """A model that may read times: `lightsans.LightSANs`."""

    @property
    def reads_times(self) -> bool:
        """Whether it is given the times of items."""

    @property
    def reads_now(self) -> bool:
        """Whether it is given the moment of each request."""


def times_of(
    model: ReadsTimes,
    users: UserSequences,
    begin: Int64,
    lengths: Int64,
    now: int | Int64 | None,
) -> list[Int64]:
    """Times that a model reads beside some histories: none, or timestamps (B, L) and now (B,).

    A history that goes on after the request, which ``data.as_of`` may allow, moves it.

    Args:
        model: The model.
        users: Sequences on whose tape the histories lie.
        begin: (B,) where each begins.
        lengths: (B,) its items.
        now: Microseconds of all requests, or of each, (B,).

    Raises:
        ConfigError: A time is missing.
    """
    if not model.reads_times:
        return []
    if users.times is None or (model.reads_now and now is None):
        missing = "now" if users.times is not None else "the times of the items"
        raise ConfigError(
            "the model reads times (model.gaps, or model.interest_decay=time) and was not given "
            f"{missing}; read histories with their timestamps and name the moment of the request, "
            "or train a model without"
        )
    timestamps = gather(users.times.of_items, begin, lengths)
    if not model.reads_now or now is None:
        return [timestamps]
    newest = timestamps.max(axis=1, initial=0)  # padding is 0
    return [timestamps, np.maximum(newest, now)]
