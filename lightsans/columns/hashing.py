"""Hashes that never change: of ids, for buckets; of sequences, for fingerprints. And a keyed one.

Ray's, polars' and Python's own hashes may differ between versions or processes, so none of them
can name a file. These are plain arithmetic modulo 2^64 on whole columns.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int32, Int64, UInt8, UInt64

Key = tuple[int, int]
"""Two words of 64 bits."""

NUM_BUCKETS = 4096
"""Users are assigned to this many buckets; parts and virtual shards are ranges of buckets."""

_FEW = 4096
"""Values up to which a hash does without Numba, whose import takes half a second."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplying loses no bits


def mix(values: UInt64) -> UInt64:
    """Spread every input bit over all output bits (the finaliser of splitmix64)."""
    x = values + _MULTIPLIER
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_segments(values: npt.NDArray[np.unsignedinteger], offsets: Int64) -> UInt64:
    """One hash per segment ``values[offsets[i]:offsets[i + 1]]``; order within a segment counts.

    A polynomial in an odd multiplier, finished by `mix`. Empty segments hash to a constant.
    """
    if offsets[-1] - offsets[0] <= _FEW:
        return _hash_few(values, offsets)
    from lightsans.columns import kernels  # Numba, for which nobody with few values waits

    hashes: UInt64 = kernels.hash_segments(values, offsets)
    return hashes


def _hash_few(values: npt.NDArray[np.unsignedinteger], offsets: Int64) -> UInt64:
    """The same with numpy alone."""
    lengths = np.diff(offsets)
    powers = np.cumprod(np.full(lengths.max(initial=0), _MULTIPLIER))
    owners = np.repeat(np.arange(len(lengths)), lengths)
    chosen = np.arange(offsets[0], offsets[-1])
    terms = (values[chosen].astype(np.uint64) + np.uint64(1)) * powers[chosen - offsets[owners]]
    totals = np.zeros(len(lengths), np.uint64)
    np.add.at(totals, owners, terms)
    return mix(totals + lengths.astype(np.uint64))


def hash_ids(ids: pa.Array | pa.ChunkedArray) -> UInt64:
    """One hash per id of a string or int64 column without nulls."""
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.cast(pa.large_binary()) if not pa.types.is_integer(ids.type) else ids
        ids = ids.combine_chunks()  # wide offsets: text of more than 2 GiB fits
    if pa.types.is_integer(ids.type):
        return _mix_integers(ids)
    return hash_segments(*_bytes_and_offsets(ids))


def keyed_hash_ids(ids: pa.Array, key: Key) -> UInt64:
    """One hash per id, for comparing ids within one run; nothing on storage holds it.

    Whoever sends ids to a log can make texts of equal `hash_ids`, but not of equal hashes under a
    key that is drawn when the run begins. Distinct integers never share a hash.
    """
    from lightsans.columns import kernels  # Numba, as in `hash_segments`

    if pa.types.is_integer(ids.type):
        return _mix_integers(ids)
    found: UInt64 = kernels.keyed_hash_segments(*_bytes_and_offsets(ids), *map(np.uint64, key))
    return found


def _mix_integers(ids: pa.Array) -> UInt64:
    return mix(ids.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64))


def _bytes_and_offsets(ids: pa.Array) -> tuple[UInt8, Int64]:
    """The bytes of some texts, end to end, and where each begins."""
    ids = pc.cast(ids, pa.large_binary())
    _, offset_buffer, data_buffer = ids.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    return np.frombuffer(data_buffer or b"", np.uint8), offsets


def user_buckets(user_ids: pa.Array | pa.ChunkedArray) -> Int32:
    """The bucket, 0 to `NUM_BUCKETS` - 1, of each user."""
    return buckets_of(hash_ids(user_ids))


def buckets_of(hashes: UInt64) -> Int32:
    """The buckets of users with these hashes."""
    return (hashes % np.uint64(NUM_BUCKETS)).astype(np.int32)


def bucket_range(index: int, count: int) -> tuple[int, int]:
    """First bucket and end of piece ``index`` when all buckets are cut into ``count`` pieces."""
    return -(-index * NUM_BUCKETS // count), -(-(index + 1) * NUM_BUCKETS // count)


def pieces_of(buckets: Int32, count: int) -> Int32:
    """Piece (part, shard) of ``count`` that each bucket belongs to; see `bucket_range`."""
    return (buckets.astype(np.int64) * count // NUM_BUCKETS).astype(np.int32)
