"""The state of a root at a glance: nights, what is at work, sizes, and what to do next."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from lightsans.errors import LightSANsError
from lightsans.storage.checkpoint_store import complete_checkpoints, find_checkpoint
from lightsans.storage.location import Location
from lightsans.storage.records import to_json
from lightsans.training.progress import Progress
from pipelines.operations.attempts import (
    Attempt,
    Outcome,
    as_of_again,
    is_at_work,
    night_dates,
    night_holder,
    night_of_report,
    read_attempts,
    telling_attempt,
)
from pipelines.operations.listing import RootListing, list_root
from pipelines.publish import Published, read_published
from pipelines.session.stage import active_holders


@dataclass(frozen=True, slots=True)
class Night:
    """One night as its attempts tell it."""

    attempt: Attempt
    """The attempt that stands for it."""
    state: str
    """Its outcome; ``died`` where it was killed, ``skipped`` where it was passed over."""
    attempts: int


@dataclass(frozen=True, slots=True)
class AtWork:
    """A process that holds a lease."""

    lease: str
    """Name of the lease: ``nightly``, or kind and id of what it makes."""
    owner: str
    host: str
    pid: int
    since: str
    expires_at: str
    progress: str
    """How far it has come, in words; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Status:
    """State of a root."""

    root: str
    published: Mapping[str, Any] | None
    """Run, date and time of the publication; None where nothing is published."""
    nights: tuple[Night, ...]
    """Newest first."""
    at_work: tuple[AtWork, ...]
    sizes: Mapping[str, Mapping[str, int]]
    """Files and bytes by kind."""
    next: tuple[str, ...]
    """Sentences about what to do next."""

    def to_json(self) -> dict[str, Any]:
        """The state as plain values."""
        nights = [
            {
                "date": night.attempt.date,
                "state": night.state,
                "attempts": night.attempts,
                "minutes": _minutes(night.attempt.seconds),
                "stage_minutes": stage_minutes(night.attempt),
                **to_json(night.attempt),
            }
            for night in self.nights
        ]
        return {
            "root": self.root,
            "published": self.published,
            "nights": nights,
            "at_work": [asdict(each) for each in self.at_work],
            "sizes": dict(self.sizes),
            "next": list(self.next),
        }


def read_status(root: Location, nights: int = 7) -> Status:
    """Read the state of a root; nothing is written.

    Args:
        root: Where all results lie.
        nights: How many of the last nights to tell about.
    """
    listing, published = list_root(root), _published(root)
    found = tuple(read_nights(root, nights))
    at_work = tuple(_at_work(root, listing))
    return Status(
        root=root.uri,
        published=_current(published),
        nights=found,
        at_work=at_work,
        sizes=listing.sizes(),
        next=tuple(_advice(published, found, at_work, listing)),
    )


def read_nights(root: Location, most: int) -> list[Night]:
    """The last nights, newest first; one without attempts is told by its report."""
    holder = night_holder(root)
    found: list[Night] = []
    names = (root / "reports").children()
    old = {night for night in map(night_of_report, names) if night is not None}
    for date in sorted({*old, *night_dates(root)}, reverse=True):
        if len(found) == most:
            break
        # Some stores list the directory of a night whose records were removed.
        attempts = read_attempts(root, date)
        if attempts:
            told = telling_attempt(attempts)
            died = told.outcome == "running" and not is_at_work(told, holder)
            found.append(Night(told, "died" if died else told.outcome, len(attempts)))
        elif date in old:
            found.append(_night_of_before(root, date))
    return found


def stage_minutes(attempt: Attempt) -> dict[str, float]:
    """Minutes by stage, in the order in which they ran; found results took none."""
    minutes: dict[str, float] = {}
    for stage in attempt.stages:
        minutes[stage.stage] = round(minutes.get(stage.stage, 0.0) + stage.seconds / 60, 2)
    return minutes


def _night_of_before(root: Location, date: str) -> Night:
    """A night without attempts, told by its report: passed over, or of an early version."""
    try:
        report = (root / "reports" / f"nightly-{date}.json").read_json()
    except (OSError, LightSANsError):
        report = {}
    state = str(report.get("outcome") or ("passed" if report.get("passed") else "refused"))
    outcome = {"passed": "published", "skipped": "kept"}.get(state, state)
    attempt = Attempt(
        id="",
        date=date,
        as_of=str(report.get("as_of", "")),
        started_at=str(report.get("created_at", "")),
        outcome=cast(Outcome, outcome),
        reason=str(report.get("reason") or ""),
        run_id=report.get("run_id"),
        dataset_id=report.get("dataset_id"),
        model_id=report.get("model_id"),
    )
    return Night(attempt, state, 1)


def _published(root: Location) -> Published | None:
    try:
        return read_published(root)
    except LightSANsError:  # a store without conditional writes, or a damaged history
        return None


def _current(published: Published | None) -> dict[str, Any] | None:
    if published is None or published.run_id is None:
        return None
    current = published.current
    known = {} if current is None else asdict(current)
    names = ("as_of", "published_at", "action", "instead_of")
    return {"run_id": published.run_id, **{name: known.get(name) for name in names}}


def _at_work(root: Location, listing: RootListing) -> list[AtWork]:
    found = []
    for name, holder in active_holders(root).items():
        kind, _, result = name.partition("-")
        found.append(
            AtWork(
                lease=name,
                owner=holder.owner,
                host=holder.host,
                pid=holder.pid,
                since=holder.since,
                expires_at=holder.expires_at,
                progress=_progress(root, listing, kind, result),
            )
        )
    return found


def _progress(root: Location, listing: RootListing, kind: str, name: str) -> str:
    """How far the making of a result has come, by what it has written so far."""
    if kind == "model":
        checkpoints = root / "models" / name / "checkpoints"
        names = complete_checkpoints(checkpoints)
        newest = find_checkpoint(checkpoints / names[-1]) if names else None
        if newest is None:
            return "no epoch has ended"
        progress = Progress.from_json(newest.progress, str(newest.location))
        return f"{len(progress.history)} epochs, best {progress.best_epoch}"
    rooms = {
        "dataset": ("datasets", "_work", "notes of parts"),
        "run": ("recommendations", "_commits", "finished parts"),
        "evaluation": ("reports", "ranks", "ranked parts"),
        "search": ("tune", "trials", "files of trials"),
        "similar": ("similar", "_commits", "finished parts"),
        "audience": ("audience", "_parts", "finished parts"),
    }
    if kind not in rooms:
        return ""
    room, directory, words = rooms[kind]
    return f"{listing.count(f'{room}/{name}/{directory}/')} {words}"


def _advice(
    published: Published | None,
    nights: tuple[Night, ...],
    at_work: tuple[AtWork, ...],
    listing: RootListing,
) -> list[str]:
    """Sentences about what to do next, the most urgent first."""
    advice = [] if not at_work else ["wait: somebody is at work"]
    if nights:
        advice += _advice_on(nights[0], published)
    elif not at_work:
        advice.append("no night has run: `submit.py nightly --as-of DATE` makes the first")
    if published is not None and published.waiting is not None:
        advice.append(
            f"nights are made and kept since run {published.waiting.instead_of} was rolled back: "
            "`submit.py resume` lets them publish again"
        )
    if published is not None and published.run_id is None:
        advice.append("nothing is published: readers find no recommendations/LATEST")
    total = listing.total_bytes()
    checkpoints = listing.sizes().get("checkpoints", {}).get("bytes", 0)
    if total and checkpoints > total / 2:
        advice.append(
            f"checkpoints are {checkpoints / total:.0%} of the root: `submit.py clean --dry-run` "
            "says what may go"
        )
    return advice or ["nothing: the last night is published"]


def _advice_on(night: Night, published: Published | None) -> list[str]:
    attempt = night.attempt
    again = f"`submit.py nightly --as-of {shlex.quote(as_of_again(attempt))}`"
    where = f"reports/nightly-{attempt.date}.html"
    match night.state:
        case "refused" | "kept":
            publish = f"; `submit.py publish {attempt.run_id}` overrules" if attempt.run_id else ""
            return [f"night {attempt.date} was not published: look at {where}{publish}"]
        case "failed" | "interrupted" | "died":
            return [f"night {attempt.date} {night.state}: {again} goes on where it was"]
        case "wrong":
            return [f"night {attempt.date}: mend the setting or the input, then {again}"]
        case "busy":
            return [f"night {attempt.date} found another one at work: {again} once that has ended"]
    withdrawn = (
        published.withdrawn(attempt.run_id) if published and attempt.run_id is not None else None
    )
    if withdrawn is not None:
        return [
            f"run {attempt.run_id} of night {attempt.date} was rolled back: `submit.py publish "
            f"{attempt.run_id}` brings it back"
        ]
    return []


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 60, 2)
