"""Cut-offs of a temporal split: times from the configuration, or shares of the rows, counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from lightsans.arrays import Int64
from lightsans.config import DataConfig
from lightsans.errors import ConfigError
from lightsans.preparation.part_files import load_interactions
from lightsans.preparation.temporal import Cutoffs, find_cutoff
from lightsans.reading.times import parse_moment
from lightsans.storage.location import Location
from pipelines.preprocess.parts import Part
from pipelines.session.merge_tree import merge_all
from pipelines.session.ray_session import original_errors
from pipelines.session.tasks import remote


def moment_of(data: DataConfig, name: str, text: str | None) -> int | None:
    """A date or time of the configuration in microseconds since 1970; None for none.

    Raises:
        ConfigError: It is neither a date nor a time.
    """
    if text is None:
        return None
    moment = parse_moment(text, data.timezone)
    if moment is None:
        raise ConfigError(
            f"data.{name}={text!r} is no date or time; expected 2026-11-05 or "
            "2026-11-05T04:00:00+01:00"
        )
    return moment


def configured_cutoffs(data: DataConfig, as_of: int | None) -> Cutoffs | None:
    """Cut-offs that are given as times; None where there are none, or shares.

    Raises:
        ConfigError: They are no times, or not in order.
    """
    cuts = data.temporal
    valid_from = moment_of(data, "temporal.valid_from", cuts.valid_from)
    test_from = moment_of(data, "temporal.test_from", cuts.test_from)
    if valid_from is None or test_from is None:
        return None
    if valid_from > test_from or (as_of is not None and test_from >= as_of):
        raise ConfigError(
            f"data.temporal.valid_from={cuts.valid_from}, data.temporal.test_from="
            f"{cuts.test_from} and data.as_of={data.as_of} must follow each other in this order"
        )
    return Cutoffs(valid_from, test_from)


def counted_cutoffs(
    dataset: Location,
    parts: Sequence[Part],
    data: DataConfig,
    as_of: int | None,
    time_range: tuple[int, int],
) -> Cutoffs:
    """Cut-offs that leave the configured shares of the rows before ``as_of`` behind them."""
    test, valid = data.temporal.test_fraction, data.temporal.valid_fraction
    assert test is not None
    assert valid is not None
    oldest, newest = time_range
    newest = newest if as_of is None else min(newest, as_of - 1)
    count, add = remote(count_from), remote(add_counts)

    def count_all(edges: Int64) -> Int64:
        shared = ray.put(edges)
        counted = (count.remote(dataset, part, as_of, shared) for part in parts)
        with original_errors():
            found: Any = ray.get(merge_all(add, counted))
        total: Int64 = found
        return total

    num_rows = int(count_all(np.array([oldest]))[0])
    test_from = find_cutoff(count_all, oldest, newest, test * num_rows)
    valid_from = find_cutoff(count_all, oldest, newest, (test + valid) * num_rows)
    return Cutoffs(valid_from, test_from)


def count_from(dataset: Location, part: Part, as_of: int | None, edges: Int64) -> Int64:
    """Rows of a part at or after each of some moments, and before ``as_of``."""
    tables = [load_interactions(file, ["timestamp"]) for file in part.files(dataset)]
    times = np.sort(pa.concat_tables(tables)["timestamp"].to_numpy())
    if as_of is not None:
        times = times[: np.searchsorted(times, as_of)]
    return len(times) - np.searchsorted(times, edges)


def add_counts(*counts: Int64) -> Int64:
    """The sum of the counts of several parts."""
    total: Int64 = np.add.reduce(counts)
    return total
