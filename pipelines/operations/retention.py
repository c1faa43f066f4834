"""Decisions about what may be removed from a root and what stays, each with its reason: pure.

Kept are what is published, what rollbacks bring back, what a process that holds a lease makes or
uses, the newest results of each kind, and what any of these was made from. An evaluation stays with
its model and its dataset. The work of a dead run stays for a while, because the same command would
go on with it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lightsans.config import CleanConfig
from pipelines.operations.listing import RootListing
from pipelines.operations.results import Result
from pipelines.session.lease import Holder

COUNTED = ("run", "similar", "audience", "search", "model", "dataset")
"""Kinds of which the newest stay."""
OF_MODELS = ("evaluation", "agreement")
"""Kinds of findings on a model, which stay with it."""
ASIDE_AFTER = timedelta(hours=1)
"""Age of a file that is written aside after which its writer is surely dead."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Fate of one result or file."""

    kind: str
    """Kind of the result; ``checkpoints``, ``report``, ``lease`` or ``unfinished file`` else."""
    path: str
    """Path below the root."""
    bytes: int
    why: str
    lease: str | None = None
    """Name of the lease under which it is removed; None for single files."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is removed, in this order, and everything that stays."""

    remove: tuple[Decision, ...]
    keep: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Situation:
    """State of a root: all that decisions depend on."""

    results: Sequence[Result]
    listing: RootListing
    needed_runs: Mapping[str, str]
    """Runs that must stay, with the reason: see `pipelines.score.old_runs.needed_runs`."""
    needed_dates: frozenset[str]
    """Names of the nights whose runs must stay."""
    holders: Mapping[str, Holder]
    """Living holders by the name of their lease."""
    dead_leases: Mapping[str, int]
    """Bytes of leases that nobody holds, by name."""
    configured: frozenset[str]
    """Paths of results that the configuration names, as base or to begin with."""
    now: datetime


def plan_removal(found: Situation, policy: CleanConfig) -> Plan:
    """Decide about everything below a root.

    Args:
        found: Its state.
        policy: Settings that say what stays besides what must.
    """
    kept = _kept_results(found, policy)
    remove: list[Decision] = []
    keep: list[Decision] = []
    for result in found.results:
        why = kept.get(result.path)
        decision = Decision(
            result.kind, result.path, result.bytes, why or _why_not(result, policy), result.lease
        )
        (remove if why is None else keep).append(decision)
        if why is not None and result.kind == "model":
            remove += _checkpoints(result, found)
    remove += _reports(found, policy)
    remove += _files_aside(found)
    known = {result.lease for result in found.results}
    remove += [
        Decision(
            "lease", f"locks/{name}.json", size, "nobody holds it, and its result is gone", name
        )
        for name, size in found.dead_leases.items()
        if name not in known and name != "nightly"
    ]
    return Plan(tuple(remove), tuple(keep))


def _kept_results(found: Situation, policy: CleanConfig) -> dict[str, str]:
    """The reason to stay by path, of all results that stay."""
    kept: dict[str, str] = {}

    def keep(paths: Iterable[str], why: str) -> None:
        for path in paths:
            kept.setdefault(path, why)

    for run_id, why in found.needed_runs.items():
        keep([f"recommendations/{run_id}"], why)
    for name, holder in found.holders.items():
        keep((r.path for r in found.results if r.lease == name), f"{holder.owner} is at work on it")
        keep(_used(found.results, holder), f"{holder.owner} may use it")
    keep(found.configured, "the configuration names it")
    for kind in COUNTED:
        finished = sorted(
            (r for r in found.results if r.kind == kind and r.created_at is not None),
            key=lambda r: (r.created_at, r.id),
        )
        keep((r.path for r in finished[-policy.keep :]), f"it is one of the newest {policy.keep}")
    least_age = timedelta(hours=policy.min_age_hours)
    for result in found.results:
        if result.is_damaged:
            keep([result.path], "its manifest cannot be read: look at it")
        elif result.created_at is None:
            keep_work = timedelta(days=policy.unfinished_days)
            if result.changed_at is None or found.now - result.changed_at < keep_work:
                keep([result.path], "unfinished: the same command goes on with it")
        elif result.is_imported:
            keep([result.path], "it was imported, and cannot be made again")
        elif found.now - result.created_at < least_age and result.kind not in OF_MODELS:
            keep([result.path], f"it is younger than {policy.min_age_hours:g} hours")
    _keep_what_they_need(found, kept)
    _keep_evaluations(found, kept)
    return kept


def _used(results: Iterable[Result], holder: Holder) -> list[str]:
    """Paths of the results that a living holder may read."""
    if holder.uses is None:  # of an earlier version: it does not say
        return [r.path for r in results if r.kind in ("dataset", "model", "run")]
    # A night makes results one after the other, and each is made from those before.
    since = datetime.fromisoformat(holder.since) if holder.since else None
    made = [r.path for r in results if since and r.created_at is not None and r.created_at >= since]
    return [*holder.uses, *made]


def _keep_what_they_need(found: Situation, kept: dict[str, str]) -> None:
    by_path = {result.path: result for result in found.results}
    pending = [path for path in kept if path in by_path and by_path[path].kind not in OF_MODELS]
    while pending:
        for path in by_path[pending.pop()].needs:
            if path not in kept and path in by_path:
                kept[path] = "what stays was made from it"
                pending.append(path)
    # The night of a published run finds its dataset by its base; bases of bases are of no use.
    runs = [by_path.get(f"recommendations/{run_id}") for run_id in found.needed_runs]
    for run in runs:
        for path in run.needs if run is not None else ():
            base = by_path[path].base if path in by_path else None
            if base is not None:
                kept.setdefault(base, "a published dataset was made from it")


def _keep_evaluations(found: Situation, kept: dict[str, str]) -> None:
    for result in found.results:
        if result.kind in OF_MODELS and result.is_finished and result.needs <= kept.keys():
            kept.setdefault(result.path, "its model and its dataset stay")


def _why_not(result: Result, policy: CleanConfig) -> str:
    if not result.is_finished:
        since = "" if result.changed_at is None else f" since {result.changed_at:%Y-%m-%d %H:%M}"
        return f"unfinished, unchanged{since}, and nobody holds its lease"
    if result.kind in OF_MODELS:
        return "its model or its dataset does not stay"
    return f"it is older than the newest {policy.keep}, and nothing that stays needs it"


def _checkpoints(model: Result, found: Situation) -> list[Decision]:
    """The checkpoints of a finished model: only an unfinished training goes on from them."""
    path = f"{model.path}/checkpoints"
    size = found.listing.bytes(path)
    if not model.is_finished or model.lease in found.holders or not found.listing.count(path):
        return []
    return [Decision("checkpoints", path, size, "the model is finished", model.lease)]


def _reports(found: Situation, policy: CleanConfig) -> list[Decision]:
    """Reports of nights, but for the newest ones and those of nights whose runs must stay."""
    by_date: dict[str, dict[str, int]] = {}
    for file in found.listing.files:
        date, path = _night_of(file.path)
        if date:
            paths = by_date.setdefault(date, {})
            paths[path] = paths.get(path, 0) + file.bytes
    why = f"the night is older than the newest {policy.keep_reports}"
    return [
        Decision("report", path, size, why)
        for date in sorted(by_date)[: -policy.keep_reports]
        if date not in found.needed_dates
        for path, size in by_date[date].items()
    ]


def _night_of(path: str) -> tuple[str, str]:
    """Name of the night that a file below ``reports/`` belongs to, and what to remove with it."""
    room, *rest = path.split("/")
    if room == "reports" and rest[0] == "nights" and len(rest) > 1:
        return rest[1], f"reports/nights/{rest[1]}"
    if room == "reports" and len(rest) == 1 and rest[0].startswith("nightly-"):
        return rest[0].removeprefix("nightly-").split(".")[0], path
    return "", path


def _files_aside(found: Situation) -> list[Decision]:
    """Files that were written aside by a process that died before it could rename them."""
    why = "it was written aside by a process that died"
    return [
        Decision("unfinished file", file.path, file.bytes, why)
        for file in found.listing.files
        if file.kind == "unfinished files"
        and file.changed_at is not None
        and found.now - file.changed_at > ASIDE_AFTER
    ]
