"""A lease: of several nightly runs on one root, one at a time goes on.

The lease is a small JSON file that names its holder and when it ends. It is taken, renewed and
given back by conditional writes, so of two runs that reach for it one gets it. While held it is
renewed in the background every third of its duration; a holder that dies stops renewing.

Clocks: the end is a time of day, written by the holder's clock and read by another's. A clock that
is ahead by more than two thirds of the duration takes a living lease away. The loser notices when
it next renews, which it does before every stage and before publishing; and `pipelines.publish`
moves LATEST only from what the run compared itself with, so nothing is published over another's
back even then.
"""

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lightsans.errors import LeaseError
from lightsans.storage.conditional_writes import Versioned, read_versioned, write_if_unchanged
from lightsans.storage.location import Location
from pipelines.console.progress import say


@dataclass(frozen=True, slots=True)
class Holder:
    """What the file says."""

    owner: str
    """What the lease is for, in words."""
    host: str
    pid: int
    pid_space: str
    """Where ``pid`` means something: this boot of this machine, this container. May be empty."""
    token: str
    """Tells apart two leases of one process."""
    expires_at: str
    """ISO time, UTC."""

    def __str__(self) -> str:
        return f"{self.owner} (host {self.host}, process {self.pid}) until {self.expires_at}"

    @property
    def is_active(self) -> bool:
        """Whether the lease still runs; one of a process that is seen to be dead does not."""
        if datetime.fromisoformat(self.expires_at) <= datetime.now(UTC):
            return False
        return not (self.pid_space and self.pid_space == _pid_space() and _is_dead(self.pid))


class Lease:
    """A lease that this process holds; made by `hold`."""

    def __init__(self, location: Location, owner: str, duration_s: float) -> None:
        self._location, self._duration_s = location, duration_s
        self._holder = Holder(
            owner, socket.gethostname(), os.getpid(), _pid_space(), uuid.uuid4().hex, ""
        )
        self._version: str | None = None
        self._writing = threading.Lock()

    def take(self) -> None:
        """Take the lease if nobody else has it.

        Raises:
            LeaseError: Somebody has.
        """
        found = read_versioned(self._location)
        holder = self._parse(found)
        if holder is not None and holder.is_active:
            other: str | None = str(holder)
        else:
            self._version = found.version if found else None
            other = self._write(self._duration_s)
        if other is None:
            return
        raise LeaseError(
            f"{self._location}: held by {other}; wait for that run, or stop it: the lease then "
            "ends by itself"
        )

    def renew(self) -> None:
        """Move the end away; return only when the lease is held.

        Raises:
            LeaseError: It was lost.
        """
        other = self._write(self._duration_s)
        if other is not None:
            raise LeaseError(
                f"{self._location}: the lease was lost to {other}; this run stops and publishes "
                "nothing. It was not renewed in time (nightly.lease_s), or a clock is wrong"
            )

    def release(self) -> None:
        """End the lease now, so that the next run need not wait."""
        self._write(0.0)

    def _write(self, seconds: float) -> str | None:
        """Write the lease with a new end; who has it instead, if somebody has."""
        with self._writing:
            ends = datetime.now(UTC) + timedelta(seconds=seconds)
            holder = replace(self._holder, expires_at=ends.isoformat(timespec="milliseconds"))
            content = json.dumps(asdict(holder), indent=2).encode() + b"\n"
            version = write_if_unchanged(self._location, content, self._version)
            if version is None:
                found = read_versioned(self._location)
                return str(self._parse(found) or "nobody: the file was removed")
            self._version = version
            return None

    def _parse(self, found: Versioned | None) -> Holder | None:
        if found is None:
            return None
        try:
            return Holder(**json.loads(found.content))
        except (ValueError, TypeError) as error:
            raise LeaseError(
                f"{self._location} is not a lease ({error}); remove it if no nightly is running"
            ) from None


@contextmanager
def hold(location: Location, owner: str, duration_s: float) -> Iterator[Lease]:
    """Hold a lease for the time of the block.

    Args:
        location: Its file.
        owner: What the lease is for; told to those who are refused.
        duration_s: How long it outlives a holder that dies.

    Raises:
        LeaseError: Somebody else holds it.
    """
    lease = Lease(location, owner, duration_s)
    lease.take()
    ended = threading.Event()
    renewal = threading.Thread(target=_keep_renewing, args=(lease, duration_s / 3, ended))
    renewal.daemon = True
    renewal.start()
    try:
        yield lease
    finally:
        ended.set()
        renewal.join()
        try:
            lease.release()
        except Exception as error:  # must not hide what the block raised
            say(f"{location}: not given back, it ends by itself: {error}")


def _keep_renewing(lease: Lease, every_s: float, ended: threading.Event) -> None:
    while not ended.wait(every_s):
        try:
            lease.renew()
        except LeaseError:
            return  # the holder hears of it when it renews
        except Exception as error:  # whatever the storage raises: there is time for another try
            say(f"the lease was not renewed, trying again: {error}")


def _pid_space() -> str:
    """Equal for processes that see each other's pids; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
