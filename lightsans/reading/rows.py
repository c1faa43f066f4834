"""Columns as files hold them -> ids, microseconds and ratings.

A value that cannot be read is not an error: its row gets a reason, and the rows without one go on.
Everything here works on whole columns; single values are looked at only where a column has failed.

Shapes:
    R rows of the piece of a file at hand
"""

import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int64
from lightsans.columns.arrow import codes_of, compact
from lightsans.columns.erased import ErasedUsers, alike
from lightsans.columns.findings import EARLY_US, Findings
from lightsans.columns.nulls import is_null
from lightsans.config import DataConfig
from lightsans.reading.ids import clean_ids
from lightsans.reading.times import clean_timestamps
from lightsans.reading.values import (
    NUMBER,
    Problems,
    as_utf8,
    clean_events,
    count_words,
    find_missing,
    is_text,
    parse_numbers,
    shortened,
    strip_blanks,
    with_codes,
)


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows as a file holds them."""

    columns: dict[str, pa.Array]
    """user, item and timestamp, and rating where the file has one; (R,) of any readable type."""
    positions: Int64
    """(R,) row number, or byte offset of the line in an uncompressed text file."""
    broken: list[tuple[int, str]]
    """Position and reason of rows whose columns could not be told apart."""


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Valid rows, and the reasons against the others."""

    table: pa.Table
    """user_id, raw_item_id, timestamp (microseconds), rating and position of the valid rows."""
    reject_positions: Int64
    reject_reasons: list[str]
    num_excluded: int
    """Valid rows of users who are to be left out."""
    excluded_found: frozenset[int] = frozenset()
    """Places, among the users to leave out, of those who have such rows."""
    reject_values: list[str | None] | None = None
    """Values of refused rows, as JSON by role, where ``data.keep_reject_values`` asks for it; None
    for rows that could not be taken apart, and for users who are to be left out."""

    findings: Findings = field(default_factory=Findings)
    events: Counter[str] = field(default_factory=Counter)
    """Valid rows of users who stay, by event; those of unknown events too."""
    num_unused: int = 0
    """Rows among them whose event counts for nothing, which are not in the table."""
    num_filtered: int = 0
    """Rows that ``data.where`` left out, before anything else was looked at."""

    @property
    def num_rows(self) -> int:
        """Rows that were read."""
        counted = len(self.reject_positions) + self.num_excluded + self.num_filtered
        counted += self.num_unused
        return int(self.table.num_rows) + counted


def check_rows(
    rows: RawRows,
    data: DataConfig,
    user_id_type: str,
    item_id_type: str,
    excluded_users: pa.Array | None = None,
    erased: ErasedUsers | None = None,
) -> CheckedRows:
    """The rows that can be used, and position and reason of those that cannot.

    Args:
        rows: Rows as the file holds them.
        data: Longest id, unit and time zone of timestamps, whether ratings are needed.
        user_id_type: ``string`` or ``int64``.
        item_id_type: ``string`` or ``int64``.
        excluded_users: Users to leave out, of the type of users.
        erased: Users who were erased, who are left out and counted as well.
    """
    # Every column is cleaned whole: a value that cannot be used gives its row a reason.
    columns, problems = rows.columns, Problems(len(rows.positions))
    table = pa.table(
        {
            "user_id": clean_ids(columns["user"], "user", user_id_type, data, problems),
            "raw_item_id": clean_ids(columns["item"], "item", item_id_type, data, problems),
            "timestamp": clean_timestamps(columns["timestamp"], data, problems),
            "rating": clean_ratings(columns.get("rating"), data, problems),
            "position": pa.array(rows.positions),
        }
    )
    if data.events:
        names = clean_events(columns["event"], data.missing_values, problems)
        table = table.append_column("event", names)
    # Rows with a reason, and lines that gave no row at all, are refused.
    is_valid = problems.is_valid
    broken = np.array([position for position, _ in rows.broken], np.int64)
    reject_positions = np.concatenate([rows.positions[~is_valid], broken])
    reject_reasons = problems.of(~is_valid) + [reason for _, reason in rows.broken]
    values = None
    if data.keep_reject_values:
        raw = _raw_values(columns, ~is_valid, excluded_users, erased)
        values = [*raw, *([None] * len(broken))]
    if not is_valid.all():
        table = table.filter(pa.array(is_valid))
    # Of the others, rows of users to be left out go first, then those whose event counts nothing.
    num_valid = table.num_rows
    excluded_found: frozenset[int] = frozenset()
    if excluded_users is not None:
        at = _places(table["user_id"], excluded_users)
        excluded_found = frozenset(np.unique(at[at >= 0]).tolist())
        table = table.filter(pa.array(at < 0))
    if erased is not None:
        table = table.filter(pa.array(~erased.is_among(table["user_id"])))
    num_excluded = num_valid - table.num_rows
    events: Counter[str] = Counter()
    if data.events:
        events = shortened(Counter(count_words(table["event"])), data.event_names)
        table = with_codes(table, data)
    num_unused = num_valid - num_excluded - table.num_rows
    if table.num_rows < len(is_valid):
        table = _without_unused_ids(table)
    findings = problems.findings
    findings.early = int((table["timestamp"].to_numpy() < EARLY_US).sum())
    return CheckedRows(
        table,
        reject_positions,
        reject_reasons,
        num_excluded,
        excluded_found,
        values,
        findings,
        events,
        num_unused,
    )


def _raw_values(
    columns: dict[str, pa.Array],
    is_chosen: Bool,
    excluded_users: pa.Array | None,
    erased: ErasedUsers | None,
) -> list[str | None]:
    """The rows as JSON objects of text; a user of another type than the valid ones stays text."""
    excluded = set() if excluded_users is None else set(map(str, excluded_users.to_pylist()))
    is_chosen = pa.array(is_chosen)
    chosen = {role: column.filter(is_chosen).to_pylist() for role, column in columns.items()}
    rows = [
        {role: _as_text(value) for role, value in zip(chosen, row, strict=True)}
        for row in zip(*chosen.values(), strict=True)
    ]
    return [
        None if _is_left_out(row["user"], excluded, erased) else json.dumps(row) for row in rows
    ]


def _is_left_out(user: str | None, excluded: set[str], erased: ErasedUsers | None) -> bool:
    if user is None:
        return False
    return not excluded.isdisjoint(alike(user)) or (erased is not None and erased.knows(user))


def _as_text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # as ids of a column of doubles are, by which erasure finds them
    return None if value is None else str(value)


def _places(users: pa.ChunkedArray, excluded: pa.Array) -> Int64:
    """(R,) the place of each user among those to leave out, -1 for the others."""
    found = [np.zeros(0, np.int64)]
    for ids in users.chunks:
        is_dictionary = pa.types.is_dictionary(ids.type)
        values = ids.dictionary if is_dictionary else ids
        places = pc.index_in(values, value_set=excluded).fill_null(-1)
        places = places.to_numpy(zero_copy_only=False).astype(np.int64)
        found.append(places[codes_of(ids)] if is_dictionary else places)
    return np.concatenate(found)


def _without_unused_ids(table: pa.Table) -> pa.Table:
    """Distinct ids of refused rows must not travel, and some of them are null."""
    for name in ("user_id", "raw_item_id"):
        column = table[name]
        if pa.types.is_dictionary(column.type):
            ids = [compact(chunk) for chunk in column.chunks]
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pa.chunked_array(ids, column.type))
    return table


def clean_ratings(column: pa.Array | None, data: DataConfig, problems: Problems) -> pa.Array:
    """Ratings as float64, null where there is none.

    Only when ``data.min_rating`` needs them does an unreadable one refuse its row:
    ``rating_missing`` and ``rating_invalid`` (text that is not a number).
    """
    if column is None:
        return pa.nulls(len(problems.is_valid), pa.float64())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_needed, words = data.min_rating is not None, pa.nulls(len(column), pa.string())
    is_invalid = np.zeros(len(column), bool)
    if is_text(column.type):
        words = strip_blanks(as_utf8(column, problems if is_needed else None))
        values = parse_numbers(words, NUMBER, pa.float64())
        is_missing = find_missing(words, data.missing_values)
        is_invalid = is_null(values) & ~is_missing
    else:
        values = as_written(column)
        is_missing = is_null(values)
    if is_missing.any():
        missing = count_words(words.filter(pa.array(is_missing)))
        problems.findings.add_missing("rating", missing)
    problems.findings.unread_ratings += int(is_invalid.sum())
    if is_needed:
        problems.add("rating_missing", is_missing)
        problems.add("rating_invalid", is_invalid)
    return pc.if_else(pa.array(is_missing), pa.scalar(None, pa.float64()), values)


def as_written(column: pa.Array) -> pa.Array:
    """Numbers as the doubles that are written alike: 3.3 is 3.3 in short floats and decimals too.

    Otherwise a rating of 3.3 would be less than a ``data.min_rating`` of 3.3.
    """
    kind = column.type
    if pa.types.is_decimal(kind):
        return column.cast(pa.string()).cast(pa.float64())
    if kind in (pa.float16(), pa.float32()):
        distinct = column.dictionary_encode()
        values = distinct.dictionary.to_numpy(zero_copy_only=False)
        written = pa.array([float(str(value)) for value in values], pa.float64())
        return written.take(distinct.indices)
    return column.cast(pa.float64(), safe=False)
