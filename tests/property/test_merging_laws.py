"""Laws of incremental datasets: adding day by day equals reading everything at once."""

import tempfile

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lightsans.config import StorageConfig
from lightsans.preparation.erasure import without_users
from lightsans.preparation.layers import insert_rows, load_part
from lightsans.preparation.part_files import save_interactions
from lightsans.preparation.sorting import sort_interactions
from lightsans.storage.location import locate
from lightsans.storage.parts import layer_name
from tests import strategies
from tests.factories import interaction_log


@given(strategies.DAYS, st.sets(st.sampled_from("abcd")))
def test_days_added_one_by_one_equal_one_log_of_all_days(days, erased):
    """Rows of every day fall anywhere in time; who is erased is so from the base and the day."""
    merged, key = None, 0
    for day in days:
        new = sort_interactions(interaction_log(day, key))
        key += len(day)
        merged = new if merged is None else insert_rows(merged, new)
    merged = without_users(merged, pa.array(sorted(erased), pa.string()))
    rows = [row for day in days for row in day]
    whole = interaction_log(rows)
    expected = sort_interactions(
        whole.filter(pa.array([row[0] not in erased for row in rows], pa.bool_()))
    )
    assert merged.to_pylist() == expected.to_pylist()


@given(strategies.DAYS)
def test_layers_are_read_as_one_part(days):
    with tempfile.TemporaryDirectory() as directory:
        location, files, key = locate(directory, StorageConfig()), [], 0
        for layer, day in enumerate(days):
            files.append(location / layer_name(3, layer))
            save_interactions(files[-1], sort_interactions(interaction_log(day, key)))
            key += len(day)
        found = load_part(files)
        columns = ("user_id", "raw_item_id", "timestamp")
        some = load_part(files, columns)
    expected = sort_interactions(interaction_log([row for day in days for row in day]))
    assert found.to_pylist() == expected.to_pylist()
    assert some.to_pylist() == expected.select(columns).to_pylist()
