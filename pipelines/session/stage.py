"""Find or make: a stage's result is found by its id, or made by one process at a time.

    locks/<kind>-<id>.json    who is making it (`pipelines.session.lease`)

The manifest makes a result a finished one. Whoever finds none takes the lease of this very result,
waiting for another process that is at work on it, and then looks again: the other one has usually
finished it. The manifest is written last, and only by who still holds the lease.
"""

import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from lightsans.errors import ConfigError, LightSANsError
from lightsans.storage.conditional_writes import read_versioned
from lightsans.storage.location import Location
from lightsans.storage.manifests import Manifest, read_manifest, write_manifest
from pipelines.console.progress import say
from pipelines.session.lease import Holder, Lease, Owner, hold, read_holder
from pipelines.session.stage_times import StageTime, note_stage, timed_stage
from pipelines.session.waiting import wait_while

LEASE_S = 180.0
"""Time that a result stays locked after its maker died on another machine."""

M = TypeVar("M", bound=Manifest)

_wait_s: float | None = None


def set_wait(seconds: float | None) -> None:
    """Say how long stages of this process wait for another one that is making the same result.

    Args:
        seconds: 0 gives up at once; None is the default, which waits without end.
    """
    global _wait_s  # one command line, one answer
    _wait_s = seconds


def wait_setting(default: float = math.inf) -> float:
    """Seconds to wait for another process; ``default`` where `set_wait` was not told."""
    return default if _wait_s is None else _wait_s


def find_or_make(
    manifest_kind: type[M],
    directory: Location,
    root: Location,
    *,
    stage: str,
    kind: str,
    make: Callable[[Owner, bool], M],
    force: bool = False,
    is_current: Callable[[M], bool] = lambda manifest: True,
    wait_s: float | None = None,
    hint: str = "; --force redoes it",
    uses: Sequence[Location] = (),
) -> tuple[M, bool]:
    """Find a finished result, or make it under a lease.

    Args:
        manifest_kind: Class of the result's manifest.
        directory: Where the result lies; its name is its id.
        root: Where all results lie; the lease is below it.
        stage: Name of the stage, to begin its messages.
        kind: Kind of the result: ``dataset``, ``model``, ``run``.
        make: Makes or completes the result, all but its manifest file, which is written
            from what it returns. It is
            given the owner, for workers to check, and whether to begin anew: with ``force``, or
            where a finished result is not current.
        force: Make it even if it is there.
        is_current: Whether a finished result with this manifest still answers the question.
        wait_s: Seconds to wait for another process; None takes what `set_wait` says.
        hint: End of the message that it was found.
        uses: Directories below the root that it is made from.

    Returns:
        The manifest, and whether the result was found.

    Raises:
        LeaseError: Another process is making it and was not waited for any longer, or took over.
    """

    def find() -> tuple[M | None, bool]:
        manifest = read_manifest(manifest_kind, directory)
        return manifest, manifest is not None and is_current(manifest)

    def tell(manifest: M) -> tuple[M, bool]:
        note_stage(StageTime(stage, kind, directory.name, is_found=True))
        say(f"{stage}: {kind} {directory.name} is up to date ({directory}){hint}")
        return manifest, True

    # The common case, which needs no lease: no process replaces a current result without --force.
    manifest, is_finished = find()
    if manifest is not None and is_finished and not force:
        return tell(manifest)
    with own(directory, root, stage=stage, kind=kind, wait_s=wait_s, uses=uses) as (owner, lease):
        # Whoever had the lease before may have finished it.
        manifest, is_finished = find()
        if manifest is not None and is_finished and not force:
            return tell(manifest)
        anew = force or manifest is not None
        if anew and lease is not None:  # nothing is taken away from who is reading it
            _wait_for_readers(directory, root, wait_setting() if wait_s is None else wait_s)
        with timed_stage(stage, kind, directory.name):
            content = make(owner, anew)
            if lease is not None:
                lease.renew()  # raises if another process took over
            return write_manifest(directory, content), False


@contextmanager
def own(
    directory: Location,
    root: Location,
    *,
    stage: str,
    kind: str,
    wait_s: float | None = None,
    uses: Sequence[Location] = (),
) -> Iterator[tuple[Owner, Lease | None]]:
    """Be the only process that changes a directory for the time of the block.

    Storage without conditional writes has no leases: there the block runs with a warning.

    Args:
        directory: The changed directory; its name is its id.
        root: Where all results lie.
        stage: Name of the stage, for those who wait.
        kind: Kind of what the directory holds.
        wait_s: Seconds to wait for another process; None takes what `set_wait` says.
        uses: Directories below the root that the block reads.

    Raises:
        LeaseError: As `find_or_make`.
    """
    location = root / "locks" / f"{kind}-{directory.name}.json"
    try:
        read_versioned(location)
    except ConfigError:
        say(f"WARNING: {root} has no conditional writes: nothing keeps two of a {kind} apart")
        yield Owner(location, None), None
        return
    location.parent.require_directory()
    waits = wait_setting() if wait_s is None else wait_s
    paths = [_path_below(root, each) for each in uses]
    with hold(location, f"{stage} of {kind} {directory.name}", LEASE_S, waits, paths) as lease:
        yield Owner(location, lease.token), lease


def _wait_for_readers(directory: Location, root: Location, wait_s: float) -> None:
    """Return once no living process says that it reads a result.

    Raises:
        LeaseError: One still does after so many seconds.
    """
    path = _path_below(root, directory)
    wait_while(
        lambda: _reader_of(path, root),
        wait_s,
        lambda reader: f"waiting for {reader}, which reads {directory}",
        lambda reader, waited: (
            f"{directory}: {reader} reads it{waited}; it would be taken away and made anew. "
            "Wait for that run, or stop it"
        ),
    )


def _reader_of(path: str, root: Location) -> Holder | None:
    """A living holder in another process that says it reads a result."""
    here = (socket.gethostname(), os.getpid())
    others = (h for h in active_holders(root).values() if (h.host, h.pid) != here)
    return next((holder for holder in others if path in (holder.uses or ())), None)


def _path_below(root: Location, place: Location) -> str:
    return place.uri.removeprefix(f"{root.uri.rstrip('/')}/")


def active_holders(root: Location) -> dict[str, Holder]:
    """Living holders of leases below a root, by the lease's name."""
    locks, found = root / "locks", {}
    for file in locks.children():
        try:
            holder = read_holder(locks / file)
        except LightSANsError:
            continue
        if holder is not None and holder.is_active:
            found[file.removesuffix(".json")] = holder
    return found
