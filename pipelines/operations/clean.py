"""Retention: removes what `pipelines.operations.retention` decides, a result at a time.

A result is removed under its own lease, so nobody makes it at the same time, and its manifest goes
first: half of it is never taken for a whole one. Interrupted, the same command goes on.
"""

import math
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lightsans.columns.times import zone_of
from lightsans.config import CleanConfig, RunConfig
from lightsans.errors import LeaseError
from lightsans.storage.conditional_writes import forget
from lightsans.storage.location import Location, locate
from lightsans.storage.manifests import MANIFEST
from pipelines.console.progress import say
from pipelines.operations.attempts import name_of_night, night_dates, read_attempts
from pipelines.operations.listing import list_root
from pipelines.operations.results import ROOMS, read_results
from pipelines.operations.retention import Decision, Plan, Situation, plan_removal
from pipelines.publish import Published, read_published
from pipelines.score.old_runs import needed_runs, remove_run
from pipelines.session.lease import Holder, hold
from pipelines.session.stage import LEASE_S, active_holders, own

LOOK_EVERY_S = 1.0
"""Time between two looks at who is at work, while results are removed."""
_READERS = 16
_ROOMS = {kind: room for room, kind in ROOMS.items()} | {"agreement": "reports"}


@dataclass(frozen=True, slots=True)
class CleanResult:
    """Everything that was removed, or would be, and what stayed."""

    removed: tuple[Decision, ...]
    kept: tuple[Decision, ...]
    in_use: tuple[Decision, ...]
    """Decided to be removed, but somebody began to use it meanwhile."""

    @property
    def bytes(self) -> int:
        """Bytes of the removed files; those that other results link to stay on the disk."""
        return sum(decision.bytes for decision in self.removed)


def plan_clean(config: RunConfig) -> Plan:
    """Decide what may go; nothing is changed.

    Args:
        config: ``root``, and ``clean`` for what stays.

    Raises:
        ConfigError: The storage has no conditional writes, so nobody knows what is at work.
        InputError: The history of publishing is damaged.
    """
    root = locate(config.root, config.storage)
    return plan_removal(_look(config, root), config.clean)


def clean(config: RunConfig) -> CleanResult:
    """Remove what may go.

    Raises:
        ConfigError: As `plan_clean`.
        LeaseError: Another process cleans this root.
    """
    root = locate(config.root, config.storage)
    read_published(root)  # raises before anything is written
    lock = root / "locks" / "clean.json"
    lock.parent.require_directory()
    with hold(lock, "clean", LEASE_S) as lease:
        plan, living = plan_clean(config), _Living(root)
        removed: list[Decision] = []
        in_use: list[Decision] = []
        for decision in plan.remove:
            (removed if _remove(root, decision, living) else in_use).append(decision)
        lease.renew()  # raises where another process has taken over
    return CleanResult(tuple(removed), plan.keep, tuple(in_use))


def clean_after_night(config: RunConfig) -> None:
    """Clean the root of a night that has ended, and say what went."""
    found = clean(config)
    if found.removed:
        say(
            f"nightly: removed {len(found.removed)} old results and files, "
            f"{found.bytes / 2**20:,.1f} MiB (section clean)",
            removed=[decision.path for decision in found.removed],
        )


class _Living:
    """Living holders of leases, looked at again whenever the last look is old."""

    def __init__(self, root: Location) -> None:
        self._root, self._looked_at = root, -math.inf
        self._holders: dict[str, Holder] = {}

    def use(self, path: str) -> bool:
        """Whether one of them may use a result."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_EVERY_S:
            self._looked_at, self._holders = now, _others(self._root)
        return any(h.uses is None or path in h.uses for h in self._holders.values())


def _others(root: Location) -> dict[str, Holder]:
    """Living holders by their lease, this cleaning aside."""
    return {name: holder for name, holder in active_holders(root).items() if name != "clean"}


def _look(config: RunConfig, root: Location) -> Situation:
    now, published, listing = datetime.now(UTC), read_published(root), list_root(root)
    holders = _others(root)
    needed = needed_runs(published, config.score, now, config.nightly.train)
    dead = {
        file.path.removeprefix("locks/").removesuffix(".json"): file.bytes
        for file in listing.files
        if file.path.startswith("locks/")
        and file.path.endswith(".json")
        and _is_older(file.changed_at, now, config.clean)
    }
    return Situation(
        results=read_results(root, listing),
        listing=listing,
        needed_runs=needed,
        needed_dates=_names_of_nights(config, published) | _nights_of_runs(root, needed),
        holders=holders,
        dead_leases={n: size for n, size in dead.items() if n not in holders and n != "clean"},
        configured=_configured(config),
        now=now,
    )


def _names_of_nights(config: RunConfig, published: Published) -> frozenset[str]:
    """Names that the nights of the published run and of those before it may have in file names."""
    newest = [published.current, *published.going_back[: config.score.keep_published - 1]]
    moments = [datetime.fromisoformat(e.as_of) for e in newest if e is not None and e.as_of]
    # A night has the name of its date as it was given, mostly in one of these time zones.
    zones = (UTC, zone_of(config.data.timezone))
    return frozenset(name_of_night(m.astimezone(zone)) for m in moments for zone in zones)


def _nights_of_runs(root: Location, run_ids: Collection[str]) -> frozenset[str]:
    """Names of the nights that made some runs, by their attempts: however a date was given."""

    def has_made(date: str) -> bool:
        return any(attempt.run_id in run_ids for attempt in read_attempts(root, date))

    dates = night_dates(root)
    with ThreadPoolExecutor(_READERS) as pool:
        made = list(pool.map(has_made, dates))
    return frozenset(date for date, is_needed in zip(dates, made, strict=True) if is_needed)


def _is_older(changed_at: datetime | None, now: datetime, policy: CleanConfig) -> bool:
    return changed_at is not None and now - changed_at >= timedelta(hours=policy.min_age_hours)


def _configured(config: RunConfig) -> frozenset[str]:
    """Paths of the results that a configuration names; a path elsewhere is none of ours."""
    found = set()
    if config.data.base is not None:
        found.add(f"datasets/{config.data.base}")
    if config.train.warm_start is not None:
        found.add(f"models/{config.train.warm_start.rstrip('/').rsplit('/', 1)[-1]}")
    return frozenset(found)


def _remove(root: Location, decision: Decision, living: _Living) -> bool:
    """Remove one thing; false where somebody uses it by now."""
    target = root / decision.path
    if decision.lease is None:
        target.delete()
        return True
    if decision.kind == "lease":
        return _remove_lease(root, decision)
    if living.use(decision.path):  # somebody has begun to since the plan was made
        return False
    kind, name = decision.lease.split("-", 1)
    directory = root / _ROOMS[kind] / name
    try:
        with own(directory, root, stage="clean", kind=kind, wait_s=0):
            if decision.kind == "checkpoints":
                target.delete()
                return True
            if decision.kind == "run" and (target / MANIFEST).exists():
                if not remove_run(root, name):
                    return False
            else:
                (target / MANIFEST).delete()
                target.delete()
            forget(root / "locks" / f"{decision.lease}.json")
            return True
    except LeaseError:
        return False


def _remove_lease(root: Location, decision: Decision) -> bool:
    location = root / decision.path
    try:
        with hold(location, "clean", LEASE_S):
            forget(location)
    except LeaseError:  # somebody has taken it, or the file is no lease
        return False
    return True
