"""Counts of the rows that were read, and a file of those that were refused."""

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightsans.columns.findings import Findings, describe_missing
from lightsans.config import DataConfig
from lightsans.errors import InputError, NothingLeftError, RejectLimitError
from lightsans.reading.rows import CheckedRows
from lightsans.reading.values import shortened
from lightsans.storage.location import Location
from lightsans.storage.schemas import REJECTS, REJECTS_WITH_VALUES

_EXAMPLES = 3


@dataclass(slots=True)
class RowCounts:
    """Counts of input rows by outcome; counts of pieces add up."""

    read: int = 0
    valid: int = 0
    excluded: int = 0
    """Rows of users whom ``data.exclude_users`` lists."""
    filtered: int = 0
    """Rows that ``data.where`` left out."""
    events: Counter[str] = field(default_factory=Counter)
    """Valid rows by event, where there are events: more than ``valid``, which counts the rest."""
    unused: int = 0
    """Rows among them whose event counts for nothing."""
    excluded_found: set[int] = field(default_factory=set)
    """Places of the users of those rows in the sorted list."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Refused rows by reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few places, ``file:position``, for each reason."""
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows read, valid and rejected of each file."""
    findings: Findings = field(default_factory=Findings)
    oldest: int | None = None
    """Least timestamp of a valid row."""
    newest: int | None = None

    @property
    def usable(self) -> int:
        """Rows that were neither refused nor left out by ``data.where``."""
        return self.read - self.rejected.total() - self.filtered

    def add_rows(
        self, file: Location, rows: CheckedRows, named_events: Collection[str] = ()
    ) -> None:
        """Count some rows of a file; ``named_events``, those of ``data.events``, one by one."""
        self.read += rows.num_rows
        self.valid += rows.table.num_rows
        self.excluded += rows.num_excluded
        self.filtered += rows.num_filtered
        self.events = shortened(self.events + rows.events, named_events)
        self.unused += rows.num_unused
        self.excluded_found |= rows.excluded_found
        self.findings.add(rows.findings)
        num_rejected = len(rows.reject_reasons)
        counts = {"read": rows.num_rows, "valid": rows.table.num_rows, "rejected": num_rejected}
        self._add_file(file.uri, counts | _if_any("filtered", rows.num_filtered))
        reasons = np.array(rows.reject_reasons, object)
        for reason, count in Counter(rows.reject_reasons).items():
            self.rejected[reason] += count
            places = rows.reject_positions[reasons == reason][:_EXAMPLES]
            self._add_examples(reason, [f"{file}:{place}" for place in places])
        if rows.table.num_rows:
            times = rows.table["timestamp"].to_numpy()
            self._add_time_range(int(times.min()), int(times.max()))

    def add(self, other: "RowCounts", named_events: Collection[str] = ()) -> None:
        """Add the counts of other rows; ``named_events`` as in `add_rows`."""
        self.read += other.read
        self.valid += other.valid
        self.excluded += other.excluded
        self.filtered += other.filtered
        self.events = shortened(self.events + other.events, named_events)
        self.unused += other.unused
        self.excluded_found |= other.excluded_found
        self.rejected += other.rejected
        self.findings.add(other.findings)
        for reason, places in other.examples.items():
            self._add_examples(reason, places)
        for uri, counts in other.files.items():
            self._add_file(uri, counts)
        if other.oldest is not None and other.newest is not None:
            self._add_time_range(other.oldest, other.newest)

    def to_dict(self) -> dict[str, Any]:
        """Content for JSON."""
        return {
            "read": self.read,
            "valid": self.valid,
            "excluded": self.excluded,
            **_if_any("filtered", self.filtered),
            **_if_any("unused", self.unused),
            **({"events": dict(sorted(self.events.items()))} if self.events else {}),
            "excluded_found": sorted(self.excluded_found),
            "rejected": dict(sorted(self.rejected.items())),
            "examples": dict(sorted(self.examples.items())),
            "files": dict(sorted(self.files.items())),
            "findings": self.findings.to_dict(),
            "oldest": self.oldest,
            "newest": self.newest,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RowCounts":
        """The inverse of `to_dict`."""
        rejected = Counter(content["rejected"])
        found = set(content.get("excluded_found", ()))  # not counted by earlier versions
        findings = Findings.from_dict(content.get("findings", {}))
        events = Counter(content.get("events", {}))
        changed = {
            "rejected": rejected,
            "excluded_found": found,
            "findings": findings,
            "events": events,
        }
        return cls(**{**content, **changed})

    def _add_file(self, uri: str, counts: Mapping[str, int]) -> None:
        before = self.files.get(uri, {})
        names = dict.fromkeys([*before, *counts])
        self.files[uri] = {name: before.get(name, 0) + counts.get(name, 0) for name in names}

    def _add_examples(self, reason: str, places: Iterable[str]) -> None:
        self.examples[reason] = [*self.examples.get(reason, []), *places][:_EXAMPLES]

    def _add_time_range(self, oldest: int, newest: int) -> None:
        self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)
        self.newest = newest if self.newest is None else max(self.newest, newest)


def check_reject_limit(counts: RowCounts, limit: float | None, rejects: Location) -> None:
    """Refuse an input of which too much was refused, or nothing is left.

    Args:
        counts: Counts of the whole input.
        limit: Largest share of refused rows; None for any.
        rejects: Where the refused rows are listed.

    Raises:
        RejectLimitError: More rows than the limit were refused.
        InputError: There is no valid row.
    """
    num_rejected, num_looked_at = counts.rejected.total(), counts.read - counts.filtered
    if limit is not None and num_rejected > limit * num_looked_at:
        raise RejectLimitError(
            f"{num_rejected:,} of {num_looked_at:,} rows were refused, more than "
            f"data.max_reject_fraction={limit} allows: {describe_rejects(counts)}.{hints(counts)} "
            f"All of them are listed in {rejects}; mend the input, or raise the limit"
        )
    if not counts.valid:
        raise NothingLeftError(
            f"no rows are left to learn from: {counts.read:,} were read, {num_rejected:,} refused"
            f"{' (' + describe_rejects(counts) + ')' if num_rejected else ''} and "
            f"{counts.excluded:,} belong to users of data.exclude_users or "
            "erased ones"
            f"{f'; data.where leaves out {counts.filtered:,}' if counts.filtered else ''}"
            f"{_describe_unused(counts)}"
        )


def _describe_unused(counts: RowCounts) -> str:
    """Rows of events that no setting is about, with the names of those that the log holds."""
    if not counts.unused:
        return ""
    names = ", ".join(f"{name} {count:,}" for name, count in counts.events.most_common(10))
    return f"; {counts.unused:,} have events that count for nothing in data.events: {names}"


def _if_any(name: str, count: int) -> dict[str, int]:
    """A count that is written where there is something to count."""
    return {name: count} if count else {}


def require_events(counts: RowCounts, data: DataConfig) -> str | None:
    """Require that a target is in the log; a warning where other events are not, None if all are.

    Raises:
        InputError: There is nothing to predict.
    """
    found = [name for name, _ in counts.events.most_common(10)]
    lacking = [name for name in data.event_names if not counts.events[name]]
    near = {name: difflib.get_close_matches(name, found, n=1) for name in lacking}
    meant = [f"{names[0]} for {name}" for name, names in near.items() if names]
    hint = f"; did you mean {', '.join(meant)}?" if meant else ""
    targets = [name for name, event in data.events.items() if event.target]
    if targets and set(targets) <= set(lacking):
        raise InputError(
            f"data.events has the targets {targets}, and no row of the log is one: column "
            f"{data.columns.event!r} holds {', '.join(found)}{hint}"
        )
    return f"no row has the events {', '.join(lacking)} of data.events{hint}" if lacking else None


def describe_rejects(counts: RowCounts) -> str:
    """Reasons by falling count, each with a few places."""
    return "; ".join(
        f"{reason} {count:,} (such as {', '.join(counts.examples[reason])})"
        for reason, count in counts.rejected.most_common()
    )


def hints(counts: RowCounts) -> str:
    """Way out for each reason that refused more than a tenth of what was refused."""
    least = counts.rejected.total() / 10
    found = [reason for reason, count in counts.rejected.most_common() if count > least]
    said = [f" {_HINTS[reason]}." for reason in found if reason in _HINTS]
    missing = describe_missing(counts.findings, counts.read)
    if missing and any(reason.endswith("_missing") for reason in found):
        said.append(
            f" Without a value, {missing}: choose another column (data.columns), or take words "
            "that are real ids out of data.missing_values."
        )
    return "".join(said)


_HINTS = {
    "timestamp_out_of_range": "data.timestamp_unit may be wrong: seconds have ten digits today, "
    "milliseconds thirteen; times from 1970 to 2199 can be used",
    "timestamp_is_date": "numbers such as 20260913 are dates: set data.timestamp_unit: yyyymmdd",
    "timestamp_invalid": "times are read as numbers (data.timestamp_unit) or as ISO text, such as "
    "2026-09-13 or 2026-09-13T17:45:00+02:00: convert others, such as 13.09.2026, 9/13/2026 5 PM "
    "or numbers with commas",
    "wrong_number_of_fields": "data.separator, data.quote_char, data.escape or data.header may be "
    "wrong, or rows have more fields than the header names",
    "invalid_json": "expected a JSON object a line, with double quotes",
    "escaped_quote": "a backslash before a quote, as Spark writes it: set data.escape: '\\' (or "
    "data.quote_char: null when quotes are plain text)",
    "not_utf8": "text is in another encoding: set data.encoding, such as latin-1, cp1252, gb18030 "
    "or shift_jis; `submit.py inspect FILE` guesses it",
    **{
        f"{role}_{reason}": hint
        for role in ("user", "item")
        for reason, hint in (
            ("not_int", f"data.{role}_id_type: string takes any id"),
            (
                "not_whole",
                f"{role} ids are doubles or decimals, and are not whole or too large to be exact "
                "there: write them as text or integers, or set data.columns."
                f"{role} to another column",
            ),
            ("wrong_type", f"JSON objects, arrays and booleans are no {role} ids: flatten them"),
            ("too_long", "data.max_id_bytes allows longer ids"),
        )
    },
}


@contextmanager
def rejects_file(location: Location) -> Iterator[Callable[[Location, CheckedRows], None]]:
    """Collect refused rows by calling what this gives; without any, no file appears."""
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None

        def add(file: Location, rows: CheckedRows) -> None:
            nonlocal writer
            if not rows.reject_reasons:
                return
            if writer is None:
                aside = stack.enter_context(location.open_atomic())
                schema = REJECTS if rows.reject_values is None else REJECTS_WITH_VALUES
                writer = stack.enter_context(pq.ParquetWriter(aside, schema, compression="zstd"))
            names = pa.repeat(pa.scalar(file.uri), len(rows.reject_reasons))
            columns = [names, pa.array(rows.reject_positions), pa.array(rows.reject_reasons)]
            if rows.reject_values is not None:
                columns.append(pa.array(rows.reject_values, pa.string()))
            writer.write_table(pa.table(columns, schema=writer.schema))

        yield add
