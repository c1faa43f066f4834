"""Old runs to keep, and to remove, by ``score.keep_runs`` and ``score.keep_published``.

Kept are the newest runs; the published one, and the runs that were published last, which rollbacks
go back to; for ``score.readers_hours`` what was published before, because readers look ``LATEST``
up once and then read for a while; where nights keep a model, or begin with one, the run whose model
that was for the published night, which decides the same again; and what a process at work says that
it reads.
Runs without a manifest may be somebody's work at this moment: they are left alone, as are those
whose manifest cannot be read.
"""

from datetime import UTC, datetime, timedelta

from lightsans.config import NightlyTrainConfig, ScoreConfig
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import RunManifest
from lightsans.storage.manifests import MANIFEST, finished_directories
from pipelines.console.progress import say, say_passed_over
from pipelines.publish import Published, latest_run_id, read_published
from pipelines.session.stage import active_holders


def remove_old_runs(
    root: Location, score: ScoreConfig, newest: str, policy: NightlyTrainConfig | None = None
) -> list[str]:
    """Remove what may go; the ids of the removed runs, oldest first.

    Args:
        root: Root of all runs.
        score: ``keep_runs`` and ``keep_published`` say how many stay.
        newest: A run that stays whatever its date.
        policy: ``nightly.train``; None where each night trains from scratch.
    """
    keep = score.keep_runs
    if keep is None:
        return []
    runs = finished_directories(RunManifest, root / "recommendations", say_passed_over)
    candidates = [name for name, _ in runs[: max(0, len(runs) - keep)] if name != newest]
    if not candidates:
        return []
    needed = needed_runs(read_published(root), score, datetime.now(UTC), policy)
    read = {path for holder in active_holders(root).values() for path in holder.uses or ()}
    removed = [
        name
        for name in candidates
        if name not in needed
        and f"recommendations/{name}" not in read  # by a run that carries lists over from it
        and remove_run(root, name)
    ]
    if removed:
        say(
            f"score: removed old runs (score.keep_runs={keep}): {', '.join(removed)}",
            removed=removed,
        )
    return removed


def remove_run(root: Location, name: str) -> bool:
    """Remove a finished run; false, and it stays, where somebody has published it meanwhile."""
    if latest_run_id(root) == name:
        return False
    run = root / "recommendations" / name
    manifest = (run / MANIFEST).read_bytes()
    (run / MANIFEST).delete()  # first: half a run has none, and none is published without it
    if latest_run_id(root) == name:  # it was published while its manifest was there
        (run / MANIFEST).write_bytes(manifest)
        return False
    run.delete()
    return True


def needed_runs(
    published: Published,
    score: ScoreConfig,
    now: datetime,
    policy: NightlyTrainConfig | None = None,
) -> dict[str, str]:
    """Runs that readers have, may have, or may be given again, each with the reason.

    Args:
        published: State of publishing.
        score: ``keep_published`` and ``readers_hours``.
        now: The time.
        policy: ``nightly.train``; None where each night trains from scratch.
    """
    needed = {} if published.run_id is None else {published.run_id: "it is published"}
    for entry in published.going_back[: score.keep_published - 1]:
        needed.setdefault(entry.run_id, "a rollback brings it back")
    current = published.current
    if policy is not None and policy.goes_by_earlier and current is not None and current.as_of:
        before = published.before(datetime.fromisoformat(current.as_of))
        if before is not None:
            needed.setdefault(before.run_id, "the published night again decides by it")
    hours = score.readers_hours
    for entry in published.history:
        # It was published until then.
        if now - datetime.fromisoformat(entry.published_at) < timedelta(hours=hours):
            for run_id in (entry.run_id, entry.instead_of):
                if run_id is not None:
                    needed.setdefault(run_id, f"it was published within the last {hours:g} hours")
    return needed
