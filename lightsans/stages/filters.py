"""Filters of a dataset: resolved from the configuration, and applied to one part of its rows.

Shapes:
    U users of a part   I its distinct items
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64
from lightsans.columns.arrow import narrow, one_chunk
from lightsans.columns.hashing import Key
from lightsans.columns.segments import expand
from lightsans.config import DataConfig
from lightsans.dataset.events import events_to_json
from lightsans.dataset.loading import list_column
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError
from lightsans.preparation.derive import SequenceLimits, derive_sequences
from lightsans.preparation.k_core import CoreRows, core_rows, count_items, item_counts
from lightsans.preparation.selection import PartRows, select_rows
from lightsans.preparation.sorting import count_exact_duplicates, users_of
from lightsans.preparation.temporal import Cutoffs, find_cutoff
from lightsans.reading.times import parse_moment
from lightsans.reports.dataset_figures import PartReport


def part_columns(data: DataConfig) -> tuple[str, ...]:
    """Columns of a part that its filters look at."""
    columns = ("user_id", "raw_item_id", "timestamp", "rating")
    return (*columns, "event") if data.events else columns


@dataclass(frozen=True, slots=True)
class Filters:
    """Settings that decide which interactions are learnt from."""

    data: DataConfig
    as_of: int | None
    """``data.as_of`` in microseconds."""
    limits: SequenceLimits | None = None
    """Limits on the sequences; None to keep everything."""
    cutoffs: Cutoffs | None = None
    """Cut-offs of a temporal split; None for other splits."""

    def select(self, table: pa.Table) -> PartRows:
        """`select_rows` of a part of the interactions."""
        return select_rows(table, self.data, self.as_of, self.cutoffs)

    def derive(self, rows: PartRows, vocabulary: Vocabulary) -> pa.Table:
        """`derive_sequences` of the rows that were selected."""
        least = self.data.min_user_interactions
        events = events_to_json(self.data) if self.data.events else None
        return derive_sequences(rows, vocabulary, least, self.limits, self.cutoffs, events)


@dataclass(frozen=True, slots=True)
class LoadedPart:
    """A part as the last step needs it."""

    rows: PartRows
    report: PartReport
    """Report on its rows; nothing yet on its sequences."""


def resolve_filters(data: DataConfig) -> Filters:
    """Filters that a configuration asks for; cut-offs that are shares are None until counted.

    Raises:
        ConfigError: A setting cannot be understood.
    """
    as_of = resolve_as_of(data)
    keep_since = moment_of(data, "keep_since", data.keep_since)
    limits = None
    if data.keep_last is not None or keep_since is not None:
        limits = SequenceLimits(data.keep_last, keep_since)
    return Filters(data, as_of, limits, configured_cutoffs(data, as_of))


def resolve_as_of(data: DataConfig) -> int | None:
    """``data.as_of`` in microseconds since 1970, or None.

    Raises:
        ConfigError: It is no date or time, or ``data.timezone`` is unknown to Arrow's database.
    """
    try:
        pc.assume_timezone(pa.array([0], pa.timestamp("us")), data.timezone)
    except pa.ArrowInvalid:
        raise ConfigError(
            f"data.timezone={data.timezone!r} is unknown; expected a name such as Europe/Berlin "
            "or UTC"
        ) from None
    return moment_of(data, "as_of", data.as_of)


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


def cutoffs_of_shares(
    count_from: Callable[[Int64], Int64],
    data: DataConfig,
    as_of: int | None,
    time_range: tuple[int, int],
) -> Cutoffs:
    """Cut-offs that leave the configured shares of the rows before ``as_of`` behind them.

    Args:
        count_from: Ascending moments in microseconds -> rows at or after each, before ``as_of``.
        data: The shares.
        as_of: ``data.as_of`` in microseconds.
        time_range: Least and greatest timestamp.
    """
    test, valid = data.temporal.test_fraction, data.temporal.valid_fraction
    assert test is not None
    assert valid is not None
    oldest, newest = time_range
    newest = newest if as_of is None else min(newest, as_of - 1)
    num_rows = int(count_from(np.array([oldest]))[0])
    test_from = find_cutoff(count_from, oldest, newest, test * num_rows)
    valid_from = find_cutoff(count_from, oldest, newest, (test + valid) * num_rows)
    return Cutoffs(valid_from, test_from)


def count_later(timestamps: Int64, as_of: int | None, edges: Int64) -> Int64:
    """Rows at or after each of some moments, and before ``as_of``."""
    times = np.sort(timestamps)
    if as_of is not None:
        times = times[: np.searchsorted(times, as_of)]
    return len(times) - np.searchsorted(times, edges)


def number_part(
    table: pa.Table, filters: Filters, time_range: tuple[int, int], key: Key
) -> tuple[dict[str, int], CoreRows, pa.Table, LoadedPart]:
    """Turn a part into numbers.

    Args:
        table: Its rows, sorted, with `part_columns`.
        filters: Rules on the rows to learn from.
        time_range: Least and greatest timestamp of the dataset.
        key: Key of the hashes that compare items.

    Returns:
        Rows left after each filter, what counting needs, the counts of the first round for all its
        items with raw ids, and what sequences are derived from.
    """
    _, offsets = users_of(table)
    duplicates = count_exact_duplicates(table, offsets)
    report = PartReport.of(offsets, table["timestamp"].to_numpy(), duplicates, time_range)
    selected = filters.select(table)
    core, raw = core_rows(selected, key)
    found, counts = count_items(core, None, filters.data.min_user_interactions)
    all_counts = np.zeros(len(raw), np.int64)
    all_counts[np.searchsorted(core.item_hashes, found)] = counts
    items = item_counts(core.item_hashes, all_counts, raw)
    return selected.row_counts, core, items, LoadedPart(selected, report)


def surviving_items(items: pa.Table, survivors: pa.Table) -> tuple[pa.Array, Int64]:
    """Raw ids and counts of the items that k-core leaves.

    Args:
        items: Counts of all items with raw ids, by ascending hash.
        survivors: Counts of the ones that stay.
    """
    places = np.searchsorted(items["hash"].to_numpy(), survivors["hash"].to_numpy())
    raw = one_chunk(items["raw_item_id"]).take(pa.array(places))
    return narrow(raw).combine_chunks(), survivors["count"].to_numpy()


def targets_by_item(sequences: pa.Table, num_items: int) -> Int64:
    """(num_items,) targets for training in the sequences of a log with events."""
    targets = list_column(sequences, "target_ids")
    user, rank = expand(targets.lengths)
    kept = rank < sequences["train_targets"].to_numpy()[user]
    return np.bincount(targets.item_ids[kept], minlength=num_items + 1)[1:].astype(np.int64)


def nothing_left(data: DataConfig, rows: Mapping[str, int]) -> str:
    """The message about filters that leave no row, with the one that took the last."""
    settings = {
        "after_as_of": f"data.as_of={data.as_of}",
        "after_dedupe": f"data.dedupe={data.dedupe}",
        "after_min_rating": f"data.min_rating={data.min_rating}",
        "after_events": f"data.events={sorted(data.events)}",
        "before_cutoff": f"data.temporal={data.temporal}",
        "after_k_core": f"data.min_user_interactions={data.min_user_interactions} and "
        f"data.min_item_interactions={data.min_item_interactions}",
    }
    filter_name = next(settings[step] for step, count in rows.items() if count == 0)
    left = ", ".join(f"{count:,} rows {step.replace('_', ' ')}" for step, count in rows.items())
    return f"no rows are left to learn from: {filter_name} removes the last ones ({left}); relax it"
