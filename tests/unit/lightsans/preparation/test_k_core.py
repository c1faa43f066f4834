import numpy as np
import pyarrow as pa
import pytest

from lightsans.columns.hashing import hash_ids, keyed_hash_ids
from lightsans.errors import InputError
from lightsans.preparation.k_core import item_counts, merge_counts
from tests.factories import HASH_KEY

# The polynomials of these Thue-Morse words agree modulo 2^64, whatever the odd multiplier.
TWINS = pa.array(
    ["".join("ab"[(number.bit_count() + first) % 2] for number in range(1024)) for first in (0, 1)]
)


def counts_of(hashes):
    order = np.argsort(hashes, kind="stable")
    return item_counts(hashes[order], np.array([3, 5])[order], TWINS.take(pa.array(order)))


def test_items_that_were_made_to_share_a_hash_are_counted_apart():
    found = merge_counts([counts_of(keyed_hash_ids(TWINS, HASH_KEY))])
    assert dict(zip(found["raw_item_id"].to_pylist(), found["count"].to_pylist(), strict=True)) == {
        TWINS[0].as_py(): 3,
        TWINS[1].as_py(): 5,
    }


def test_items_that_share_a_hash_by_chance_end_the_run_with_the_way_out():
    with pytest.raises(InputError, match=r"have the same hash of 64 bits by chance.*run again"):
        merge_counts([counts_of(hash_ids(TWINS))])
