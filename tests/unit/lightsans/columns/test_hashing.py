import numpy as np
import pyarrow as pa

from lightsans.columns import kernels
from lightsans.columns.hashing import (
    NUM_BUCKETS,
    bucket_range,
    hash_ids,
    hash_segments,
    keyed_hash_ids,
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


def test_few_values_hash_as_many_do():
    generator = np.random.default_rng(1)
    lengths = generator.integers(0, 9, 500)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for kind in (np.uint8, np.uint64):
        values = generator.integers(0, np.iinfo(kind).max, ends[-1], kind, endpoint=True)
        for offsets in (ends, ends[100:200], ends[:1]):
            few = hash_segments(values, offsets)
            assert few.tolist() == kernels.hash_segments(values, offsets).tolist()


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


def thue_morse(length, first):
    """Letters a and b whose polynomials agree modulo 2^64, whatever the odd multiplier."""
    return "".join("ab"[(number.bit_count() + first) % 2] for number in range(length))


def test_texts_made_to_share_a_hash_do_not_share_a_keyed_one():
    ids = pa.array([thue_morse(1024, 0), thue_morse(1024, 1)])
    assert len(set(hash_ids(ids).tolist())) == 1
    for key in ((0, 0), (1, 2), (2**64 - 1, 5)):
        assert len(set(keyed_hash_ids(ids, key).tolist())) == 2


def test_keyed_hashes_of_text_are_siphash():
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)  # the example of the paper
    ids = pa.array([bytes(range(length)).decode() for length in (0, 1, 8, 15)])
    assert [f"{found:x}" for found in keyed_hash_ids(ids, key).tolist()] == [
        "726fdb47dd0e0e31",
        "74f839c593dc67fd",
        "93f5f5799a932462",
        "a129ca6149be45e5",
    ]


def test_keyed_hashes_depend_on_the_key_and_on_nothing_else():
    ids = pa.array(["a", "b", "ü" * 9, "a"])
    hashes = keyed_hash_ids(ids, (1, 2))
    assert hashes.tolist() == keyed_hash_ids(ids.cast(pa.large_string()), (1, 2)).tolist()
    assert hashes[1:].tolist() == keyed_hash_ids(ids[1:], (1, 2)).tolist()
    assert hashes[0] == hashes[3] != keyed_hash_ids(ids, (2, 1))[0]
    assert len(set(keyed_hash_ids(pa.array([1, 2, -1]), (1, 2)).tolist())) == 3
