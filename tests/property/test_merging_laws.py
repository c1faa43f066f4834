"""Laws of incremental datasets: adding day by day equals reading everything at once."""

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lightsans.interactions import sort_interactions
from lightsans.merging import forget_users, merge_interactions, parts_of_users, without_users
from lightsans.schema import REJECTS_WITH_VALUES

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
        new = table_of(day, key)
        key += len(day)
        merged = merge_interactions([new] if merged is None else [merged, new])
    merged = without_users(merged, pa.array(sorted(erased), pa.string()))
    rows = [row for day in days for row in day]
    whole = table_of(rows, 0)
    expected = sort_interactions(
        whole.filter(pa.array([row[0] not in erased for row in rows], pa.bool_()))
    )
    assert merged.to_pylist() == expected.to_pylist()


def test_users_are_looked_for_in_their_parts_only():
    users = pa.array(["ann", "bob", "cid"])
    assert parts_of_users(users, 1) == [0]
    assert len(parts_of_users(users, 4096)) == 3


def test_refused_rows_of_an_erased_user_stay_as_positions():
    values = [json.dumps({"user": "7", "item": "x"}), None, json.dumps({"user": "8", "item": ""})]
    rejects = pa.table([["f"] * 3, [1, 2, 3], ["r"] * 3, values], schema=REJECTS_WITH_VALUES)
    left = forget_users(rejects, ["7"])
    assert left["values"].to_pylist() == [None, None, values[2]]
    assert left.drop_columns("values") == rejects.drop_columns("values")
