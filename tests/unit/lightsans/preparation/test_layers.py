"""Rows that are added to a part fall into place; laws in tests/property/test_merging_laws.py."""

import pyarrow as pa

from lightsans.preparation.layers import insert_rows
from lightsans.preparation.sorting import sort_interactions


def part(*rows: tuple[str, str, int], first: int = 0) -> pa.Table:
    users, items, times = zip(*rows, strict=True)
    order = list(range(first, first + len(rows)))
    columns = {"user_id": users, "raw_item_id": items, "timestamp": times, "order_key": order}
    columns["rating"] = [1.0] * len(rows)
    return sort_interactions(pa.table({name: list(value) for name, value in columns.items()}))


def rows_of(table: pa.Table, user: str) -> list[tuple[str, int]]:
    return [
        (row["raw_item_id"], row["timestamp"])
        for row in table.to_pylist()
        if row["user_id"] == user
    ]


def test_late_rows_fall_into_place_by_their_time_behind_those_of_the_same_time():
    before = part(("ann", "x", 10), ("ann", "y", 30), ("bob", "x", 5))
    later = part(("ann", "late", 10), ("ann", "early", 1), ("cid", "new", 7), first=3)
    merged = insert_rows(before, later)
    assert rows_of(merged, "ann") == [("early", 1), ("x", 10), ("late", 10), ("y", 30)]
    assert rows_of(merged, "bob") == [("x", 5)]
    assert rows_of(merged, "cid") == [("new", 7)]


def test_a_part_with_new_rows_is_sorted_as_if_one_file_had_them():
    first, second = ("ann", "x", 10), ("cid", "y", 2)
    later = part(second, first=1)
    whole = part(first, second)
    assert insert_rows(part(first), later).to_pylist() == whole.to_pylist()
