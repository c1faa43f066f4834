import numpy as np
import pyarrow as pa

from lightsans.columns.hashing import (
    NUM_BUCKETS,
    bucket_range,
    hash_ids,
    hash_segments,
    pieces_of,
    user_buckets,
)


def test_hashes_are_the_same_on_every_machine_and_version():
    """Recorded: parts and virtual shards of existing datasets depend on these numbers."""
    assert hash_ids(pa.array(["a", "", "ü"])).tolist() == [
        2106293278287090,
        16294208416658607535,
        16148916765659545268,
    ]
    assert hash_ids(pa.array([1, -1])).tolist() == [10451216379200822465, 16490336266968443936]


def test_an_id_hashes_alike_alone_in_a_slice_and_in_chunks():
    whole = hash_ids(pa.array(["x", "yy", "zzz"]))
    assert hash_ids(pa.array(["x", "yy", "zzz"]).slice(1)).tolist() == whole[1:].tolist()
    assert hash_ids(pa.chunked_array([["x"], ["yy", "zzz"]])).tolist() == whole.tolist()


def test_the_order_and_number_of_values_in_a_segment_count():
    values = np.array([1, 2, 2, 1, 1, 2, 0], np.uint64)
    hashes = hash_segments(values, np.array([0, 2, 4, 7, 7]))
    assert len(set(hashes.tolist())) == 4


def test_buckets_are_filled_evenly():
    counts = np.bincount(user_buckets(pa.array([str(i) for i in range(100_000)])))
    assert len(counts) == NUM_BUCKETS
    assert counts.max() < 3 * counts.mean()


def test_every_bucket_belongs_to_the_piece_whose_range_holds_it():
    buckets = np.arange(NUM_BUCKETS, dtype=np.int32)
    for count in (1, 3, 7, 8, 1000, NUM_BUCKETS):
        pieces = pieces_of(buckets, count)
        for piece in (0, count // 2, count - 1):
            first, end = bucket_range(piece, count)
            assert np.flatnonzero(pieces == piece).tolist() == list(range(first, end))
