"""Segments: users whom ``score.users`` names, the only ones to score, and those of rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64
from lightsans.columns.hashing import NUM_BUCKETS, user_buckets
from lightsans.config import RunConfig
from lightsans.dataset.bucket_cursor import bucket_span
from lightsans.lists.id_lists import (
    IdList,
    check_id_list,
    identify_files,
    read_id_list,
    read_otherwise,
)
from lightsans.rules.item_rules import ItemRules


@dataclass(frozen=True, slots=True)
class Segment:
    """Users in order of bucket, so that a few of them are found without looking at all."""

    user_ids: pa.Array
    ends: Int64
    """(NUM_BUCKETS + 1,) where each bucket begins; the last one is the number of users."""

    def contains(self, user_ids: pa.ChunkedArray, first: int, last: int) -> pa.ChunkedArray:
        """Mask of the users, all in the buckets ``first`` to ``last``, that are in the segment."""
        begin, end = int(self.ends[first]), int(self.ends[last + 1])
        return pc.is_in(user_ids, value_set=self.user_ids.slice(begin, end - begin))


def segment_identity(config: RunConfig, made_with: Mapping[str, Any]) -> dict[str, object] | None:
    """Identity of the file that ``score.users`` names, without reading it; None without one.

    Args:
        config: The run.
        made_with: Section ``data`` of the dataset's manifest.

    Raises:
        InputError: There is no such file, or it has no such column.
    """
    if config.score.users is None:
        return None
    files = check_id_list("score.users", config.score.users, config, "user")
    identity = identify_files(files)
    otherwise = read_otherwise(config.data, made_with, "user")
    return {**identity, "read": otherwise} if otherwise else identity


def read_segment(config: RunConfig, user_type: pa.DataType) -> Segment:
    """The users of the file that ``score.users`` names, each once.

    Raises:
        InputError: The file is unreadable, or has no such column.
    """
    assert config.score.users is not None
    listed = read_id_list("score.users", config.score.users, config, "user")
    return segment_of(listed, user_type)


def segment_of(listed: IdList, user_type: pa.DataType) -> Segment:
    """The users of a list, each once."""
    ids = listed.of_type(user_type)
    buckets = user_buckets(ids)
    order = np.argsort(buckets, kind="stable")
    counts = np.bincount(buckets, minlength=NUM_BUCKETS)
    return Segment(ids.take(pa.array(order)), np.concatenate([[0], np.cumsum(counts)]))


@dataclass(frozen=True, slots=True)
class ListRules:
    """Rules over lists, about the items of a model and those of a dataset."""

    model: ItemRules
    popular: ItemRules
    """Rules of the fallback."""
    segments: tuple[Segment, ...]
    """Users that each rule of the segments is about."""

    def bits(self, user_ids: pa.ChunkedArray) -> Int64:
        """Bit s is set where rule s of the segments is about a user; users by rising bucket."""
        found = np.zeros(len(user_ids), np.int64)
        if self.segments and len(user_ids):
            span = bucket_span(user_ids)
            for number, segment in enumerate(self.segments):
                is_in = segment.contains(user_ids, *span).to_numpy(zero_copy_only=False)
                found |= is_in.astype(np.int64) << number
        return found

    def pinned(self, k: int) -> tuple[list[int], list[int]]:
        """Items of the model, and of the dataset, that are pinned to a place of a list of k."""
        of_model, of_dataset = (
            [
                pin.item_id
                for pin in rules.pins
                if 1 <= (pin.position if pin.position > 0 else k + 1 + pin.position) <= k
            ]
            for rules in (self.model, self.popular)
        )
        return of_model, of_dataset

    def count(self, user_ids: pa.ChunkedArray) -> tuple[int, ...]:
        """Number of the users that each rule of the segments is about; by rising bucket."""
        bits = self.bits(user_ids)
        return tuple(int((bits >> s & 1).sum()) for s in range(len(self.segments)))
