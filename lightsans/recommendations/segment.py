"""The segment: which users are scored when ``score.users`` names a file of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.arrays import Int64
from lightsans.columns.hashing import NUM_BUCKETS, user_buckets
from lightsans.config import RunConfig
from lightsans.errors import InputError
from lightsans.recommendations.eligible_items import read_item_table
from lightsans.storage.location import Location, locate


@dataclass(frozen=True, slots=True)
class Segment:
    """Users in order of bucket, so that a few of them are found without looking at all."""

    user_ids: pa.Array
    ends: Int64
    """(NUM_BUCKETS + 1,) where each bucket begins; the last one is the number of users."""

    def contains(self, user_ids: pa.ChunkedArray, first: int, last: int) -> pa.ChunkedArray:
        """Which of some users, all in the buckets ``first`` to ``last``, are in the segment."""
        begin, end = int(self.ends[first]), int(self.ends[last + 1])
        return pc.is_in(user_ids, value_set=self.user_ids.slice(begin, end - begin))


def segment_identity(config: RunConfig) -> dict[str, object] | None:
    """What tells the content of ``score.users`` without reading it; None where it is not set.

    Raises:
        InputError: There is no such file.
    """
    if config.score.users is None:
        return None
    try:
        info = locate(config.score.users, config.storage).info()
    except InputError as error:
        raise InputError(f"score.users: {error}") from None
    return {"uri": info.location.uri, "size": info.size, "etag": info.etag}


def read_segment(config: RunConfig, user_type: pa.DataType) -> Segment:
    """The users of the file that ``score.users`` names, each once.

    Raises:
        InputError: The file is unreadable, has no such column, or ids are not of the users' type.
    """
    assert config.score.users is not None
    location = locate(config.score.users, config.storage)
    ids = pc.unique(_read_ids(config, location)).drop_null()
    ids = ids.filter(pc.not_equal(ids.cast(pa.string()), ""))
    try:
        ids = ids.cast(user_type)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"score.users: {location}: the dataset's user ids are of type {user_type} ({error})"
        ) from None
    buckets = user_buckets(ids)
    order = np.argsort(buckets, kind="stable")
    counts = np.bincount(buckets, minlength=NUM_BUCKETS)
    return Segment(ids.take(pa.array(order)), np.concatenate([[0], np.cumsum(counts)]))


def _read_ids(config: RunConfig, location: Location) -> pa.Array:
    if not location.name.endswith((".parquet", ".csv", ".tsv")):
        try:
            lines = location.read_bytes().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"score.users: {location}: not a text file in UTF-8") from None
        return pa.array([line.strip() for line in lines if line.strip()], pa.string())
    column = str(config.data.columns.user)
    if location.name.endswith(".parquet"):
        with location.open() as file:
            names = pq.read_schema(file).names
        _require_column(location, column, names)
        return location.read_table([column])[column].combine_chunks()
    table = read_item_table(location)
    _require_column(location, column, table.column_names)
    return table[column].combine_chunks()


def _require_column(location: Location, column: str, names: list[str]) -> None:
    if column not in names:
        raise InputError(
            f"score.users: {location}: no column {column!r} (data.columns.user); found {names}"
        )
