"""The sample of users whose lists are compared: so many at most, from all chosen parts alike."""

import pyarrow as pa

from pipelines.refit.checks import SAMPLE_PARTS, sample_users
from tests.factories import local


def parts_of(tmp_path, sizes):
    """Parts whose users have their part's number as the only item of their history."""
    found = []
    for number, size in enumerate(sizes):
        lists = pa.array([[number]] * size, pa.list_(pa.int32()))
        part = local(tmp_path / f"part-{number:05d}.parquet")
        times = pa.array([[0]] * size, pa.list_(pa.int64()))
        columns = {"item_ids": lists, "timestamps": times, "also_seen": lists}
        part.write_table(pa.table({**columns, "user_id": range(size)}))
        found.append(part)
    return found


def histories(rows):
    return rows["item_ids"].combine_chunks().flatten().to_pylist()


def test_few_users_are_all_compared(tmp_path):
    assert histories(sample_users(parts_of(tmp_path, [3, 2]), 5)) == [0, 0, 0, 1, 1]


def test_of_many_users_every_part_gives_some_and_no_more_than_asked_for(tmp_path):
    found = histories(sample_users(parts_of(tmp_path, [40, 60]), 100, most=10))
    assert len(found) == 10
    assert (found.count(0), found.count(1)) == (4, 6)


def test_of_many_parts_some_are_read(tmp_path):
    parts = parts_of(tmp_path, [2] * 40)
    found = histories(sample_users(parts, 80))
    assert len(set(found)) == -(-40 // 3) <= SAMPLE_PARTS
    assert len(found) == 2 * len(set(found))
