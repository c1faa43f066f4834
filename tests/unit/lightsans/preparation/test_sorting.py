import pyarrow as pa
import pytest

from lightsans.preparation.part_files import load_interactions, save_interactions
from lightsans.preparation.sorting import count_exact_duplicates, users_of
from lightsans.storage.schemas import interactions_schema
from tests.factories import derived_sequences, local, sorted_part


def test_a_part_is_sorted_by_user_time_and_position_in_the_input(tmp_path):
    rows = [("b", "late", 9, 1.0), ("a", "x", 5, None), ("b", "y", 5, 1.0), ("b", "z", 5, 1.0)]
    table = sorted_part(rows)
    location = local(tmp_path / "part.parquet")
    save_interactions(location, table)
    stored = location.read_table()
    assert stored.schema == interactions_schema(pa.string(), pa.string())
    assert load_interactions(location).to_pylist() == stored.to_pylist() == table.to_pylist()
    of_b = [row["raw_item_id"] for row in table.to_pylist() if row["user_id"] == "b"]
    assert of_b == ["y", "z", "late"]
    buckets = table["bucket"].to_pylist()
    assert buckets == sorted(buckets)


def test_exact_duplicates_repeat_user_item_and_time():
    rows = [("a", "x", 1, 5.0), ("a", "x", 1, 4.0), ("a", "x", 2, 5.0), ("b", "x", 1, 5.0)]
    table = sorted_part(rows * 2)
    assert count_exact_duplicates(table, users_of(table)[1]) == 5


@pytest.mark.parametrize("count", [2, 24, 25, 80])
def test_duplicates_are_counted_among_few_rows_of_a_time_and_among_many(count):
    """Two ways: few are compared in pairs, many are sorted."""
    items = [f"i{number % 7}" for number in range(count)]
    table = sorted_part([("a", item, 1, 5.0) for item in items] + [("a", "i0", 2, 5.0)])
    assert count_exact_duplicates(table, users_of(table)[1]) == count - len(set(items))


def test_ties_keep_the_order_of_the_input():
    rows = [("a", item, 7, 5.0) for item in ("m", "b", "z", "a")]
    assert derived_sequences(rows)["a"]["items"] == ["m", "b", "z", "a"]
    assert derived_sequences(rows)["a"]["timestamps"] == [7, 7, 7, 7]
