"""Rows in order of the buckets of their users."""

import pyarrow as pa

from lightsans.columns.hashing import bucket_range, user_buckets
from lightsans.dataset.bucket_cursor import BucketCursor, overlapping_parts
from lightsans.storage.parts import part_name
from tests.factories import make_lists


def test_a_cursor_finds_rows_of_buckets_whatever_the_tables_are_cut_into():
    rows = make_lists(200)
    buckets = user_buckets(rows["user_id"])
    for size in (1, 13, 200):
        tables = iter([rows.slice(first, size) for first in range(0, 200, size)])
        cursor = BucketCursor(tables)
        for first, last in ((0, 99), (99, 99), (99, 1000), (1500, 4095), (4095, 4095)):
            found = cursor.between(first, last)
            assert found is not None
            expected = rows.filter(pa.array((buckets >= first) & (buckets <= last)))
            assert found["user_id"].to_pylist() == expected["user_id"].to_pylist()
    assert BucketCursor(iter([])).between(0, 1) is None


def test_overlapping_parts_have_the_buckets_of_a_part_and_others_none():
    names = [part_name(index) for index in range(5)]
    for index in range(3):
        own = set(range(*bucket_range(index, 3)))
        found = overlapping_parts(part_name(index), 3, names, 5)
        for other, name in enumerate(names):
            assert (name in found) == bool(own & set(range(*bucket_range(other, 5))))
