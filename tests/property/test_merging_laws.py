"""Laws of incremental datasets: adding day by day equals reading everything at once."""

import tempfile

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lightsans.config import StorageConfig
from lightsans.preparation.layers import (
    insert_rows,
    load_part,
    without_users,
)
from lightsans.preparation.part_files import save_interactions
from lightsans.preparation.sorting import sort_interactions
from lightsans.storage.location import locate
from lightsans.storage.parts import layer_name

ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.integers(0, 4)), max_size=20
)


def table_of(rows, first_key):
    users, items, times = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "raw_item_id": pa.array(items, pa.string()),
            "timestamp": pa.array(times, pa.int64()),
            "rating": pa.nulls(len(rows), pa.float64()),
            "order_key": pa.array(range(first_key, first_key + len(rows)), pa.int64()),
        }
    )


@given(st.lists(ROWS, min_size=1, max_size=4), st.sets(st.sampled_from("abcd")))
def test_days_added_one_by_one_equal_one_log_of_all_days(days, erased):
    """Rows of every day fall anywhere in time; who is erased is so from the base and the day."""
    merged, key = None, 0
    for day in days:
        new = sort_interactions(table_of(day, key))
        key += len(day)
        merged = new if merged is None else insert_rows(merged, new)
    merged = without_users(merged, pa.array(sorted(erased), pa.string()))
    rows = [row for day in days for row in day]
    whole = table_of(rows, 0)
    expected = sort_interactions(
        whole.filter(pa.array([row[0] not in erased for row in rows], pa.bool_()))
    )
    assert merged.to_pylist() == expected.to_pylist()


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_layers_are_read_as_one_part(days):
    with tempfile.TemporaryDirectory() as directory:
        location, files, key = locate(directory, StorageConfig()), [], 0
        for layer, day in enumerate(days):
            files.append(location / layer_name(3, layer))
            save_interactions(files[-1], sort_interactions(table_of(day, key)))
            key += len(day)
        found = load_part(files)
        columns = ("user_id", "raw_item_id", "timestamp")
        some = load_part(files, columns)
    expected = sort_interactions(table_of([row for day in days for row in day], 0))
    assert found.to_pylist() == expected.to_pylist()
    assert some.to_pylist() == expected.select(columns).to_pylist()
