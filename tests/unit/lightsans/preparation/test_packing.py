import numpy as np
import pyarrow as pa

from lightsans.preparation.packing import pack_rows, unpack_rows
from lightsans.preparation.sorting import sort_interactions
from tests.factories import (
    interaction_log,
    rated_5,
    sorted_parts,
)


def test_rows_are_cut_into_parts_by_user():
    log = interaction_log(rated_5(*((f"u{n % 50}", f"i{n}") for n in range(500))))
    parts = sorted_parts(log, 7)
    assert len(parts) == 7
    assert sum(table.num_rows for table in parts.values()) == 500
    users = [set(table["user_id"].to_pylist()) for table in parts.values()]
    assert sum(map(len, users)) == 50
    for number, table in parts.items():
        assert all(number * 4096 // 7 <= b <= (number + 1) * 4096 // 7 for b in
                   table["bucket"].to_pylist())  # fmt: skip


def test_rows_travel_with_all_that_they_say():
    """Tests of one part sort a log as it is, because the exchange changes nothing of it."""
    rows = [(f"u{n % 7}", f"i{n % 11}", n % 5, 4.0 if n % 3 else None) for n in range(100)]
    log = interaction_log(rows)
    log = log.append_column("event", pa.array([1 + n % 4 for n in range(100)], pa.int8()))
    [part] = sorted_parts(log, 1).values()
    assert part.to_pylist() == sort_interactions(log).to_pylist()
    halves = sorted_parts(log, 2).values()
    assert [row for half in halves for row in half.to_pylist()] == part.to_pylist()


def test_parts_that_are_not_wanted_do_not_travel():
    log = interaction_log(rated_5(*((f"u{n}", "x") for n in range(100))))
    is_wanted = np.array([True, False, True])
    parts = dict(unpack_rows(pack_rows(log, 3, is_wanted)))
    assert set(parts) == {0, 2}


def test_a_stretch_without_rows_has_nothing_to_send():
    assert pack_rows(interaction_log([]), 3).num_rows == 0
