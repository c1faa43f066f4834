"""Groups of users: the column of a user table by which metrics are told apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int32, Int64
from lightsans.columns.hashing import NUM_BUCKETS, user_buckets
from lightsans.config import RunConfig
from lightsans.errors import InputError
from lightsans.lists.id_lists import as_integers, identify_files, read_otherwise
from lightsans.lists.tables import Table, open_table
from lightsans.reading.columns import Wanted

MOST_GROUPS = 20
"""Values that are told apart; the rest is one group, however many the column has."""
LONGEST_LABEL = 100
"""Characters; longer values are cut."""
OTHER, NONE = "(other)", "(none)"


@dataclass(frozen=True, slots=True)
class UserGroups:
    """Users in order of bucket, each with a position among the labels."""

    name: str
    """The column."""
    labels: tuple[str, ...]
    """The most frequent values, then `OTHER`, then `NONE` for users without a value."""
    user_ids: pa.Array
    codes: Int32
    ends: Int64
    """(NUM_BUCKETS + 1,) where each bucket begins; the last one is the number of users."""

    def of(self, user_ids: pa.ChunkedArray, first: int, last: int) -> Int64:
        """Positions of the labels of users, all in the buckets ``first`` to ``last``."""
        begin, end = int(self.ends[first]), int(self.ends[last + 1])
        found = pc.index_in(user_ids, value_set=self.user_ids.slice(begin, end - begin))
        place = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        codes = np.append(self.codes[begin:end], len(self.labels) - 1)  # -1: not in the table
        chosen: Int64 = codes[place].astype(np.int64)
        return chosen


def groups_identity(config: RunConfig, made_with: Mapping[str, Any]) -> dict[str, object] | None:
    """Identity of the table that ``evaluate.user_table`` names; None without one.

    Args:
        config: The run.
        made_with: Section ``data`` of the dataset's manifest.

    Raises:
        InputError: There is no such file, or it lacks a column.
    """
    if config.evaluate.user_table is None:
        return None
    table, wanted = _open(config)
    table.check(wanted)
    identity = identify_files(table.files) | {"column": str(config.evaluate.user_column)}
    otherwise = read_otherwise(config.data, made_with, "user")
    return {**identity, "read": otherwise} if otherwise else identity


def read_groups(config: RunConfig, user_type: pa.DataType) -> UserGroups | None:
    """The groups of the table that ``evaluate.user_table`` names; None without one.

    Of a user with several rows the first one counts.

    Raises:
        InputError: The file is unreadable or lacks a column, or the log has integers as ids, and
            the table none.
    """
    if config.evaluate.user_table is None:
        return None
    table, wanted = _open(config)
    ids, values = table.read(wanted).values()
    is_user = pc.and_(pc.is_valid(ids), pc.not_equal(pc.utf8_trim_whitespace(ids), ""))
    ids, values = ids.filter(is_user), values.filter(is_user)
    if pa.types.is_integer(user_type):
        keys = as_integers(ids).cast(user_type)
        if len(ids) and not keys.is_valid().to_numpy(zero_copy_only=False).any():
            raise InputError(
                f"evaluate.user_table: {table.location}: user ids of the log are integers; none is "
                f"here: {ids[0].as_py()!r}, for example"
            )
        ids, values = ids.filter(keys.is_valid()), values.filter(keys.is_valid())
        keys = keys.drop_null()
    else:  # an id stands for itself, and for the same without blanks around it
        keys = pa.concat_arrays([ids, pc.utf8_trim_whitespace(ids)]).cast(user_type)
    typed = pc.unique(keys)
    first = pc.index_in(typed, value_set=keys).to_numpy() % max(1, len(ids))
    values = values.take(pa.array(first))
    labels, codes = _label(values)
    buckets = user_buckets(typed)
    order = np.argsort(buckets, kind="stable")
    counts = np.bincount(buckets, minlength=NUM_BUCKETS)
    return UserGroups(
        str(config.evaluate.user_column),
        labels,
        typed.take(pa.array(order)),
        codes[order],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _label(values: pa.Array) -> tuple[tuple[str, ...], Int32]:
    """Labels, and the position of each value among them."""
    values = pc.utf8_slice_codeunits(values, 0, LONGEST_LABEL)
    # A value that is written as we write none, or the rest, joins these.
    is_none = pc.is_in(values, value_set=pa.array(["", NONE]))
    values = pc.if_else(is_none, pa.scalar(None, pa.string()), values)
    counted = pc.value_counts(values.filter(pc.not_equal(values, OTHER))).to_pylist()
    counted.sort(key=lambda entry: (-entry["counts"], entry["values"]))
    frequent = sorted(entry["values"] for entry in counted[:MOST_GROUPS])
    labels = (*frequent, OTHER, NONE)
    place = pc.index_in(values, value_set=pa.array(frequent, pa.string()))
    codes = pc.fill_null(place, len(frequent)).to_numpy(zero_copy_only=False).astype(np.int32)
    codes[values.is_null().to_numpy(zero_copy_only=False)] = len(frequent) + 1
    return labels, codes


def _open(config: RunConfig) -> tuple[Table, dict[str, Wanted]]:
    table = open_table("evaluate.user_table", str(config.evaluate.user_table), config)
    return table, {
        "user": Wanted(config.data.columns.user, "data.columns.user"),
        "value": Wanted(str(config.evaluate.user_column), "evaluate.user_column"),
    }
