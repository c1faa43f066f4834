"""The smallest honest inputs for tests."""

from collections.abc import Mapping, Sequence

import pyarrow as pa


def make_interactions(
    histories: Mapping[str, Sequence[str]], *, rating: float = 4.0, start: int = 1_000
) -> pa.Table:
    """A log in order of time from each user's items, oldest first.

    ``{"ann": ["a", "b"], "bob": ["a"]}`` gives the rows ann-a, bob-a, ann-b: the n-th interaction
    of every user has the timestamp ``start + n``, counted from 0.
    """
    rows = [
        (start + position, user, item)
        for user, items in histories.items()
        for position, item in enumerate(items)
    ]
    rows.sort(key=lambda row: row[0])
    return pa.table(
        {
            "user_id": pa.array([user for _, user, _ in rows], pa.string()),
            "item_id": pa.array([item for _, _, item in rows], pa.string()),
            "rating": pa.array([rating] * len(rows), pa.float32()),
            "timestamp": pa.array([time for time, _, _ in rows], pa.int64()),
        }
    )
