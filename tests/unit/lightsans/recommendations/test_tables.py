"""Wide and long tables of lists."""

import pyarrow as pa

from lightsans.recommendations.tables import to_long, to_wide
from lightsans.storage.schemas import recommendations_schema

SCHEMA = recommendations_schema(pa.string(), pa.int64())


def test_long_rows_have_ranks_and_leave_out_empty_lists():
    rows = pa.table(
        [
            ["a", "b", "c"],
            [[7, 8], [], [9]],
            [[2.0, 1.0], [], [3.0]],
            ["model", "model", "popular"],
        ],
        names=SCHEMA.names,
    ).cast(SCHEMA)
    long = to_long(rows)
    assert list(long.to_pydict().values()) == [
        ["a", "a", "c"], [1, 2, 1], [7, 8, 9], [2.0, 1.0, 3.0], ["model", "model", "popular"]
    ]  # fmt: skip
    shuffled = long.take(pa.array([1, 2, 0]))
    assert to_wide(shuffled, SCHEMA).to_pylist() == rows.take(pa.array([0, 2])).to_pylist()
    assert to_wide(long.slice(0, 0), SCHEMA) == SCHEMA.empty_table()
    assert to_long(rows.slice(2)).to_pydict()["rank"] == [1]
