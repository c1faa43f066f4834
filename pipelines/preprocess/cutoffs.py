"""Cut-offs of a temporal split: times from the configuration, or shares of the rows, counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from lightsans.arrays import Int64
from lightsans.config import DataConfig
from lightsans.preparation.part_files import load_interactions
from lightsans.preparation.temporal import Cutoffs
from lightsans.stages.filters import count_later, cutoffs_of_shares
from lightsans.storage.location import Location
from pipelines.preprocess.parts import Part
from pipelines.session.ray_session import original_errors
from pipelines.session.tasks import merge_all, remote


def counted_cutoffs(
    dataset: Location,
    parts: Sequence[Part],
    data: DataConfig,
    as_of: int | None,
    time_range: tuple[int, int],
) -> Cutoffs:
    """Cut-offs that leave the configured shares of the rows before ``as_of`` behind them."""
    count, add = remote(count_from), remote(add_counts)

    def count_all(edges: Int64) -> Int64:
        shared = ray.put(edges)
        counted = (count.remote(dataset, part, as_of, shared) for part in parts)
        with original_errors():
            found: Any = ray.get(merge_all(add, counted))
        total: Int64 = found
        return total

    return cutoffs_of_shares(count_all, data, as_of, time_range)


def count_from(dataset: Location, part: Part, as_of: int | None, edges: Int64) -> Int64:
    """Rows of a part at or after each of some moments, and before ``as_of``."""
    tables = [load_interactions(file, ["timestamp"]) for file in part.files(dataset)]
    return count_later(pa.concat_tables(tables)["timestamp"].to_numpy(), as_of, edges)


def add_counts(*counts: Int64) -> Int64:
    """The sum of the counts of several parts."""
    total: Int64 = np.add.reduce(counts)
    return total
