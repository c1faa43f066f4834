"""A lease: of several processes that make the same result, one at a time goes on.

The lease is a small JSON file that names its holder and when it ends. It is taken, renewed and
given back by conditional writes, so of two that reach for it one gets it. While held it is renewed
in the background every sixth of its duration, by requests with short time-outs of their own, so
that one request without an answer does not cost the lease; a holder that dies stops renewing. A
holder that finds its lease taken is interrupted where it stands: `hold` raises `LeaseError`.

A store that cannot be reached takes no lease away: the holder goes on and tries again, since only a
successful conditional write by somebody else ends its ownership.

Clocks: the end is a time of day, written by the holder's clock and read by another's. A clock that
is ahead by more than five sixths of the duration takes a living lease away. The loser is
interrupted when it next renews, and renews before it writes a manifest or publishes; and
`pipelines.publish` moves LATEST only from what the run compared itself with. A dead holder whose
clock was ahead keeps nobody out for longer than the duration either: who waits sees that the lease
is not renewed.
"""

import getpass
import json
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from lightsans.columns.times import require_moment
from lightsans.errors import InputError, LeaseError
from lightsans.storage.conditional_writes import Versioned, read_versioned, write_if_unchanged
from lightsans.storage.location import Location
from lightsans.storage.records import from_json, parse_object
from pipelines.console.progress import say
from pipelines.session.waiting import wait_while

RENEWALS = 6
"""Renewals in the duration of a lease."""
INTERRUPT_EVERY_S = 5.0
"""Time between two interruptions of a holder that lost its lease and has not ended yet."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Content of the lease file."""

    owner: str
    """Purpose of the lease, in words."""
    host: str
    pid: int
    pid_space: str
    """Scope in which ``pid`` is valid: this boot of this machine, this container. May be empty."""
    token: str
    """Tells apart two leases of one process."""
    expires_at: str
    """ISO time, UTC."""
    user: str = ""
    """Name of the account; empty where the system does not say, and in leases of before."""
    since: str = ""
    """ISO time, UTC, when the lease was taken; empty in leases of before."""
    uses: list[str] | None = None
    """Paths below the root of what its holder reads, such as ``datasets/ID``; None in leases of
    before, whose holders may read anything."""
    duration_s: float | None = None
    """Seconds by which a renewal moves the end away; None in leases of before."""

    def __post_init__(self) -> None:
        require_moment("expires_at", self.expires_at)
        if not 0 < self.pid < 2**31:
            raise ValueError(f"pid is {self.pid}; expected the number of a process")
        if self.since:
            require_moment("since", self.since)

    def __str__(self) -> str:
        user = f", user {self.user}" if self.user else ""
        since = f" since {self.since}" if self.since else ""
        process = f"(host {self.host}, process {self.pid}{user})"
        return f"{self.owner} {process}{since} until {self.expires_at}"

    @property
    def is_active(self) -> bool:
        """Whether the lease still runs; one of a process that is seen to be dead does not."""
        if datetime.fromisoformat(self.expires_at) <= datetime.now(UTC):
            return False
        return not (self.pid_space and self.pid_space == _pid_space() and _is_dead(self.pid))


class Lease:
    """A lease that this process holds; made by `hold`."""

    def __init__(
        self, location: Location, owner: str, duration_s: float, uses: Sequence[str] = ()
    ) -> None:
        self._location, self._duration_s = location, duration_s
        self._holder = Holder(
            owner=owner,
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_space=_pid_space(),
            token=uuid.uuid4().hex,
            expires_at=datetime.now(UTC).isoformat(),
            user=_user(),
            uses=list(uses),
            duration_s=duration_s,
        )
        self._watched: tuple[str, float] | None = None
        self._version: str | None = None
        self._writing = threading.Lock()
        # Renewals may not hang as long as other requests may: the lease would end meanwhile.
        short = min(location.storage.timeout_s, max(duration_s / 12, 0.1))
        storage = replace(location.storage, timeout_s=short, max_attempts=2)
        self._renewed_at = Location(location.uri, storage)
        self.lost: LeaseError | None = None
        """Error of the renewal that found the lease lost; None while it is held."""

    @property
    def token(self) -> str:
        """Tells this holder from every other one."""
        return self._holder.token

    def take(self, wait_s: float = 0.0) -> None:
        """Take the lease, after waiting for whoever else has it.

        Args:
            wait_s: Seconds to wait at most; infinity waits without end, with a line a minute.

        Raises:
            LeaseError: Somebody still has it.
        """
        wait_while(
            self._try_to_take,
            wait_s,
            lambda other: f"waiting for {other} ({self._location})",
            lambda other, waited: (
                f"{self._location}: held by {other}{waited}; wait for that run, or stop it: "
                "the lease then ends by itself"
            ),
        )

    def renew(self) -> None:
        """Move the end away; return only when the lease is held.

        Raises:
            LeaseError: It was lost.
        """
        if self.lost is None:
            other = self._write(self._renewed_at, self._duration_s)
            if other is not None:
                self.lost = LeaseError(
                    f"{self._location}: the lease was lost to {other}; this run stops and "
                    "publishes nothing. It was not renewed in time, or a clock is wrong"
                )
        if self.lost is not None:
            raise self.lost

    def release(self) -> None:
        """End the lease now, so that the next run need not wait."""
        self._write(self._renewed_at, 0.0)

    def _try_to_take(self) -> str | None:
        found = read_versioned(self._location)
        holder = _parse(self._location, found)
        if found and holder and holder.is_active and not self._stood_still(found, holder):
            return str(holder)
        self._version = found.version if found else None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._holder = replace(self._holder, since=now)
        return self._write(self._location, self._duration_s)

    def _stood_still(self, found: Versioned, holder: Holder) -> bool:
        """Whether a lease was not renewed for all of its duration, whatever its end says.

        Then its holder is dead, and its clock was ahead of this one.
        """
        if self._watched is None or self._watched[0] != found.version:
            self._watched = found.version, time.monotonic()
        watched_s = time.monotonic() - self._watched[1]
        return holder.duration_s is not None and watched_s > holder.duration_s

    def _write(self, location: Location, seconds: float) -> str | None:
        """Write the lease with a new end; who has it instead, if somebody has."""
        with self._writing:
            while True:
                ends = datetime.now(UTC) + timedelta(seconds=seconds)
                holder = replace(self._holder, expires_at=ends.isoformat(timespec="milliseconds"))
                content = json.dumps(asdict(holder), indent=2).encode() + b"\n"
                version = write_if_unchanged(location, content, self._version)
                if version is not None:
                    self._version = version
                    return None
                found = read_versioned(location)
                there = _parse(location, found)
                if found is None or there is None or there.token != self.token:
                    return str(there or "nobody: the file was removed")
                # An earlier renewal was written although its answer never came.
                self._version = found.version


@dataclass(frozen=True, slots=True)
class Owner:
    """Proof of a lease that travels to the workers of a stage."""

    location: Location
    token: str | None
    """None where the storage has no conditional writes: nothing is checked."""

    def require(self) -> None:
        """Return only while the lease is this owner's.

        Raises:
            LeaseError: It is another's by now; what this worker made must not be kept.
        """
        if self.token is None:
            return
        holder = _parse(self.location, read_versioned(self.location))
        if holder is None or holder.token != self.token:
            raise LeaseError(
                f"{self.location}: the lease was lost to "
                f"{holder or 'nobody: the file was removed'}; this worker writes nothing more"
            )


@contextmanager
def hold(
    location: Location,
    owner: str,
    duration_s: float,
    wait_s: float = 0.0,
    uses: Sequence[str] = (),
) -> Iterator[Lease]:
    """Hold a lease for the time of the block; a lease that is lost ends the block.

    In the main thread the block is interrupted as soon as the loss is known, as by Ctrl-C; in
    another thread the loss is raised when the block renews the lease.

    Args:
        location: Its file.
        owner: Purpose of the lease; told to those who wait or are refused.
        duration_s: How long it outlives a holder that dies.
        wait_s: Seconds to wait for another holder; infinity waits without end.
        uses: Paths below the root of what the block reads: `submit.py clean` leaves it alone.

    Raises:
        LeaseError: Somebody else holds it, or took it over during the block.
    """
    lease = Lease(location, owner, duration_s, uses)
    lease.take(wait_s)
    interrupts = threading.current_thread() is threading.main_thread()
    if interrupts:
        _install_interruption()
    ended = threading.Event()
    renewal = threading.Thread(
        target=_keep_renewing, args=(lease, duration_s / RENEWALS, ended, interrupts), daemon=True
    )
    _held.append(lease)
    renewal.start()
    try:
        yield lease
    except BaseException:
        if lease.lost is not None:
            raise lease.lost from None  # whatever came of it: this is the cause
        raise
    finally:
        _held.remove(lease)  # from here on nothing is interrupted
        ended.set()
        renewal.join()
        if lease.lost is None:
            try:
                lease.release()
            except Exception as error:  # must not hide what the block raised
                say(f"{location}: not given back, it ends by itself: {error}")


def read_holder(location: Location) -> Holder | None:
    """The holder that a lease file names, whether or not its lease still runs; None without a file.

    Raises:
        LeaseError: The file is no lease.
    """
    return _parse(location, read_versioned(location))


class _LeaseLostInterrupt(KeyboardInterrupt):
    """Raised where the main thread stands; not an `Exception`, which much code swallows."""


_held: list[Lease] = []
"""Leases of blocks that have not ended."""


def _install_interruption() -> None:
    # SIGURG: by default it is ignored, so one that comes late ends nothing.
    signal.signal(signal.SIGURG, _interrupt_if_lost)


def _interrupt_if_lost(number: int, frame: FrameType | None) -> None:
    if any(lease.lost is not None for lease in _held):
        raise _LeaseLostInterrupt


def _keep_renewing(lease: Lease, every_s: float, ended: threading.Event, interrupts: bool) -> None:
    pause_s = every_s
    while not ended.wait(pause_s):
        pause_s = every_s
        try:
            lease.renew()
        except LeaseError as error:
            say(f"stopping: {error}")
            break
        except Exception as error:  # whatever the storage raises: there is time for another try
            say(f"the lease was not renewed, trying again: {error}")
            pause_s = every_s / 4
    while interrupts and not ended.is_set():
        with suppress(ProcessLookupError):
            # To the thread itself: that ends a system call that it waits in.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)
        ended.wait(INTERRUPT_EVERY_S)


def _parse(location: Location, found: Versioned | None) -> Holder | None:
    if found is None:
        return None
    try:
        return from_json(Holder, parse_object(found.content, str(location)), str(location))
    except InputError as error:
        reason = str(error).removeprefix(f"{location}: ")
        reason = re.split(r"(?i)[.;] the file is damaged", reason)[0]
        raise LeaseError(
            f"{location} is not a lease ({reason}); remove it if nothing is at work there"
        ) from None


def _user() -> str:
    """Name of the account of this process; empty where it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def _pid_space() -> str:
    """Equal for processes that see each other's pids; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_dead(pid: int) -> bool:
    """Whether no process has this id, or one that has ended and that its parent has not reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # no /proc, or a stranger's process is not shown
        return False
    # "pid (name) state ...": a name may hold brackets; Z has ended, and its parent has not asked.
    return stat.rpartition(b") ")[2][:1] in (b"Z", b"X")
