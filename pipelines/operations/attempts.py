"""Attempts at nights: one small record each, whatever the end.

    reports/nights/<date>/<id>.json    written when the attempt begins, and once more at its end

An attempt that was killed says for ever that it is running; whether it is, the lease of the night
knows (`is_at_work`). A later attempt at the same date has a record of its own and changes no other.
"""

import os
import re
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from lightsans.columns.times import require_moment
from lightsans.errors import InputError, LightSANsError
from lightsans.ranking.bootstrap import Estimate
from lightsans.storage.location import Location
from lightsans.storage.records import from_json, to_json
from pipelines.session.lease import Holder, read_holder
from pipelines.session.stage_times import StageTime

NIGHTS = "nights"
_REPORT = re.compile(r"nightly-(\d{4}-\d\d-\d\d(?:T\d{6})?)(?:\.\d+)?\.json")
"""Report of a night by its date; later attempts have a number behind it."""
Outcome = Literal[
    "running", "published", "unchanged", "kept", "refused", "busy", "wrong", "failed", "interrupted"
]
"""kept: trained and reported, not published by a rule. wrong: a setting or an input. running: also
of an attempt that was killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Headline figures of a night; empty or None where it did not come so far."""

    metrics: Mapping[str, Estimate] | None = None
    """Test metrics of the night's model."""
    baselines: Mapping[str, Mapping[str, Estimate]] | None = None
    """Test metrics by baseline."""
    published_metrics: Mapping[str, Estimate] | None = None
    """Test metrics of the published model on the same dataset."""
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    rows_read: int | None = None
    rows_rejected: int | None = None
    scored_users: int | None = None
    run: Mapping[str, float | None] | None = None
    """Figures of the run's report, such as coverage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try of a night."""

    id: str
    date: str
    """Name of the night, as in ``nightly-<date>.json``."""
    as_of: str
    """Moment of the night, ISO, UTC."""
    given: str = ""
    """The same as ``--as-of`` or ``data.as_of`` gave it; empty in records of early versions."""
    started_at: str
    ended_at: str | None = None
    outcome: Outcome = "running"
    reason: str = ""
    """Why it ended so, in a sentence; secrets are redacted."""
    exit_status: int | None = None
    run_id: str | None = None
    instead_of: str | None = None
    dataset_id: str | None = None
    model_id: str | None = None
    stages: tuple[StageTime, ...] = ()
    figures: Figures = Figures()
    report: Mapping[str, Any] | None = None
    """The report that this attempt's gate wrote; a later attempt writes another in its place."""
    host: str = ""
    pid: int = 0

    def __post_init__(self) -> None:
        for name in ("started_at", "ended_at"):
            if getattr(self, name):  # nights of before have none
                require_moment(name, getattr(self, name))

    @property
    def seconds(self) -> float | None:
        """Duration; None while it runs or if it was killed, 0 where the clock went back."""
        if self.ended_at is None:
            return None
        begin, end = (datetime.fromisoformat(text) for text in (self.started_at, self.ended_at))
        return max(0.0, (end - begin).total_seconds())

    @property
    def has_succeeded(self) -> bool:
        """Whether what it was asked for is published."""
        return self.outcome in ("published", "unchanged")

    @property
    def failed_checks(self) -> list[str]:
        """Names of the checks that the gate refused it by."""
        checks = (self.report or {}).get("checks", [])
        return [str(check.get("name")) for check in checks if not check.get("passed", True)]

    def ids_of(self, kind: str) -> list[str]:
        """Ids of the results of a kind that its stages made or found, each once, in order."""
        return list(dict.fromkeys(stage.id for stage in self.stages if stage.kind == kind))

    def id_of(self, kind: str) -> str | None:
        """Id of the last result of a kind, ``dataset`` for example, that its stages made."""
        return next((s.id for s in reversed(self.stages) if s.kind == kind), None)


def name_of_night(given: datetime) -> str:
    """Name of a night in file names, from its date as it was given."""
    is_midnight = given.time() == datetime.min.time()
    return given.strftime("%Y-%m-%d" if is_midnight else "%Y-%m-%dT%H%M%S")


def as_of_again(attempt: Attempt) -> str:
    """The date of an attempt's night as ``--as-of`` takes it: the same moment, the same name."""
    if attempt.given:
        return attempt.given
    if "T" not in attempt.date or not attempt.as_of:
        return attempt.date
    moment = datetime.fromisoformat(attempt.as_of)
    if name_of_night(moment) == attempt.date:  # it had an offset, or nights are in UTC
        return moment.isoformat()
    given = datetime.fromisoformat(attempt.date)
    return given.replace(microsecond=moment.microsecond).isoformat()


def night_of_report(name: str) -> str | None:
    """The night whose report a file of ``reports/`` is; None for any other file."""
    found = _REPORT.fullmatch(name)
    return None if found is None else found[1]


def begin_attempt(date: str, moment: datetime, given: str = "") -> Attempt:
    """A new attempt of this process.

    Args:
        date: Name of the night.
        moment: Its moment.
        given: The moment as it was given.
    """
    now = datetime.now(UTC)
    name = f"{now.strftime('%Y%m%dT%H%M%S%f')}-{uuid.uuid4().hex[:8]}"
    return Attempt(
        id=name,
        date=date,
        as_of=moment.isoformat(),
        given=given.strip(),
        started_at=now.isoformat(timespec="milliseconds"),
        host=socket.gethostname(),
        pid=os.getpid(),
    )


def attempts_of(root: Location, date: str) -> Location:
    """Directory of the attempts at a night."""
    return root / "reports" / NIGHTS / date


def write_attempt(root: Location, attempt: Attempt) -> None:
    """Write or replace the record of an attempt."""
    (attempts_of(root, attempt.date) / f"{attempt.id}.json").write_json(to_json(attempt))


def delete_attempt(root: Location, attempt: Attempt) -> None:
    """Remove the record of an attempt that found nothing to do."""
    (attempts_of(root, attempt.date) / f"{attempt.id}.json").delete()


def read_attempts(root: Location, date: str) -> list[Attempt]:
    """The attempts at a night, oldest first; damaged records are passed over."""
    directory, found = attempts_of(root, date), []
    for name in directory.children():
        try:
            content = (directory / name).read_json()
            found.append(from_json(Attempt, content, name))
        except (FileNotFoundError, IsADirectoryError, InputError):
            continue
    return sorted(found, key=lambda attempt: attempt.id)


def night_dates(root: Location) -> list[str]:
    """Names of the nights that have attempts, newest first."""
    return (root / "reports" / NIGHTS).children()[::-1]


def telling_attempt(attempts: list[Attempt]) -> Attempt:
    """The attempt that stands for its night: the last that published, or else the last.

    One that found another at work says nothing about the night, if the other one is there.
    """
    published = [attempt for attempt in attempts if attempt.outcome == "published"]
    found_published = [attempt for attempt in attempts if attempt.outcome == "unchanged"]
    at_work = [attempt for attempt in attempts if attempt.outcome != "busy"]
    return (published or found_published or at_work or attempts)[-1]


def night_holder(root: Location) -> Holder | None:
    """Holder of the lease of nights now; None where nobody has it, or the store has no leases."""
    try:
        holder = read_holder(root / "locks" / "nightly.json")
    except LightSANsError:
        return None
    return holder if holder is not None and holder.is_active else None


def is_at_work(attempt: Attempt, holder: Holder | None) -> bool:
    """Whether an attempt that has not ended is still at work, and was not killed.

    Args:
        attempt: The attempt.
        holder: Who has the lease of nights.
    """
    return (
        attempt.outcome == "running"
        and holder is not None
        and (holder.host, holder.pid) == (attempt.host, attempt.pid)
    )


def ended(attempt: Attempt, outcome: Outcome, reason: str, status: int) -> Attempt:
    """The attempt with its end, now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return replace(attempt, ended_at=now, outcome=outcome, reason=reason, exit_status=status)
