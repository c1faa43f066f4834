"""Reading a finished dataset: parts of its sequences, and its virtual shards."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.hashing import bucket_range
from lightsans.schema import part_index, sequence_parts
from lightsans.sequences import UserSequences
from lightsans.storage import Location


def list_column(table: pa.Table, name: str) -> UserSequences:
    """A list<int32> column as a tape with offsets."""
    lists = table[name].combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # an empty table has no chunk to combine
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    tape = lists.flatten().to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return UserSequences(tape, offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64))


def trainable_sequences(table: pa.Table) -> UserSequences:
    """The sequences of those rows that training and evaluation use."""
    return list_column(table.filter(table["trainable"]), "item_ids")


def load_shards(
    dataset: Location, manifest: Mapping[str, Any], shards: list[int], num_shards: int
) -> dict[int, UserSequences]:
    """The trainable sequences of some virtual shards, in canonical order (bucket, user id).

    Args:
        dataset: Directory of the dataset.
        manifest: Its manifest.
        shards: Which shards to load.
        num_shards: Number of shards that the dataset is cut into.
    """
    parts = [
        (location, bucket_range(part_index(location.name), int(manifest["num_parts"])))
        for location in sequence_parts(dataset, manifest)
    ]
    loaded = {}
    for shard in shards:
        first, end = bucket_range(shard, num_shards)
        pieces = []
        for part, (part_first, part_end) in parts:
            if part_first < end and first < part_end:
                pieces.append(trainable_sequences(_read_buckets(part, first, end)))
        loaded[shard] = UserSequences.concatenate(pieces)
    return loaded


def _read_buckets(part: Location, first: int, end: int) -> pa.Table:
    bucket = pc.field("bucket")
    with part.open() as file:
        return pq.read_table(
            file,
            columns=["item_ids", "trainable", "bucket"],
            filters=(bucket >= first) & (bucket < end),
        )
