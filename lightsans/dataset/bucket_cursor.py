"""Rows of users in order of their bucket, read on as far as another such stream has come.

Parts of datasets and of recommendation runs are ranges of buckets and sorted by bucket, so two of
them are matched user by user while neither is ever in memory whole.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.arrays import Int32
from lightsans.columns.hashing import bucket_range, user_buckets
from lightsans.storage.location import Location
from lightsans.storage.parts import part_index, readable_part


def read_batches(file: Location, columns: Sequence[str], num_rows: int) -> Iterator[pa.Table]:
    """A parquet file, ``num_rows`` at a time."""
    with readable_part(file), file.open() as opened:
        for batch in pq.ParquetFile(opened).iter_batches(num_rows, columns=list(columns)):
            yield pa.Table.from_batches([batch])


def overlapping_parts(
    part: str, num_parts: int, other_names: Sequence[str], other_num_parts: int
) -> list[str]:
    """Names of the parts, of another number of parts, in which the users of a part may be."""
    first, end = bucket_range(part_index(part), num_parts)
    found = []
    for name in other_names:
        other_first, other_end = bucket_range(part_index(name), other_num_parts)
        if other_first < end and first < other_end:
            found.append(name)
    return found


class BucketCursor:
    """Finds rows of some buckets in tables sorted by bucket, which pass by once.

    Args:
        tables: With a column ``user_id``. Their buckets never fall.
    """

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._held: pa.Table | None = None
        self._buckets: Int32 = np.zeros(0, np.int32)

    def between(self, first: int, last: int) -> pa.Table | None:
        """All rows of the buckets ``first`` to ``last``; None when the tables were empty.

        The next call must not ask for lower ones; rows before ``first`` are forgotten.
        """
        while not len(self._buckets) or self._buckets[-1] <= last:
            table = next(self._tables, None)
            if table is None:
                break
            self._held = table if self._held is None else pa.concat_tables([self._held, table])
            self._buckets = np.concatenate([self._buckets, user_buckets(table["user_id"])])
        if self._held is None:
            return None
        begin, end = np.searchsorted(self._buckets, [first, last + 1])
        self._held, self._buckets = self._held.slice(begin), self._buckets[begin:]
        return self._held.slice(0, end - begin)


def bucket_span(user_ids: pa.ChunkedArray) -> tuple[int, int]:
    """First and last bucket of users who are sorted by it; there is at least one."""
    ends = pc.take(user_ids, pa.array([0, len(user_ids) - 1]))
    first, last = user_buckets(ends)
    return int(first), int(last)
