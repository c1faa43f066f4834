"""Settings of the machines and the storage that a run uses."""

from dataclasses import dataclass

from lightsans.config.checks import CENTURY_DAYS, at_least, at_most, require
from lightsans.config.marks import Mark, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesConfig:
    """Limits of a cluster that grows on demand.

    Ray does not know them. A stage that needs more is refused instead of waiting without end.
    """

    max_cpus: int | None = setting(None, Mark.NO_EFFECT)
    """Logical CPUs of all workers when fully grown; null: no more than there are now."""
    max_gpus: int | None = setting(None, Mark.NO_EFFECT)
    """GPUs of all workers when fully grown; null: no more than there are now."""

    memory_bytes: int | None = setting(None, Mark.NO_EFFECT)
    """Memory that a Ray started by the command itself may use, its object store included; rows that
    do not fit there spill to disk, and fewer tasks run at a time. null: most of the machine. A
    cluster has its own, ``ray start --memory --object-store-memory``. No effect on results."""

    def __post_init__(self) -> None:
        at_least("resources", self, 0, "max_cpus", "max_gpus")
        at_least("resources", self, 2**30, "memory_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanConfig:
    """Bounds of what stays under root when `submit.py clean`, or ``nightly.clean``, removes.

    Whatever these say, what is published stays with all that it was made from, and so do the runs
    that rollbacks bring back, and what a process that holds a lease makes or uses.
    """

    keep: int = setting(7, Mark.NO_EFFECT)
    """Newest results of each kind that stay: runs with the datasets and models they were made from,
    datasets, models, searches, similar items and audiences."""
    keep_reports: int = setting(90, Mark.NO_EFFECT)
    """Newest nights whose reports, pages and records of attempts stay."""
    min_age_hours: float = setting(24.0, Mark.NO_EFFECT)
    """Age below which a finished result stays, whatever its number."""
    unfinished_days: float = setting(2.0, Mark.NO_EFFECT)
    """Days since its last change for which the work of a dead run stays: until then the same
    command goes on with it."""

    def __post_init__(self) -> None:
        at_least("clean", self, 1, "keep", "keep_reports")
        at_least("clean", self, 0, "min_age_hours", "unfinished_days")
        at_most("clean", self, CENTURY_DAYS * 24, "min_age_hours")
        at_most("clean", self, CENTURY_DAYS, "unfinished_days")


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageConfig:
    """Access to ``s3://``. Unset values come from the usual AWS variables and files.

    For ``gs://`` only ``anonymous`` means something; credentials are Google's defaults. For
    ``abfs://`` the environment has account and credentials, whatever profile and endpoint_url say.

    There is no field for keys: credentials belong into the environment, a profile or a role, never
    into a file that is copied beside every result.
    """

    endpoint_url: str | None = setting(None, Mark.NO_EFFECT)
    """Address of an S3-compatible server, such as http://127.0.0.1:8333; null for AWS."""
    profile: str | None = setting(None, Mark.NO_EFFECT)
    """Name of a profile in ~/.aws/config."""
    anonymous: bool = setting(False, Mark.NO_EFFECT)
    """Read public buckets without credentials."""
    max_attempts: int = setting(10, Mark.NO_EFFECT)
    """Most attempts of a request that fails for a passing reason (busy, unreachable, cut off), with
    pauses that grow to 20 s. No effect on results."""
    timeout_s: float = setting(60.0, Mark.NO_EFFECT)
    """Seconds without a byte after which an attempt has failed. No effect on results."""

    def __post_init__(self) -> None:
        at_least("storage", self, 1, "max_attempts")
        at_least("storage", self, 0.1, "timeout_s")
        at_most("storage", self, 24 * 3600, "timeout_s")
        url = self.endpoint_url
        require(
            url is None or url.startswith(("http://", "https://")),
            f"storage.endpoint_url={url!r} must start with http:// or https://",
        )
        require(
            url is None or "@" not in url,
            "storage.endpoint_url must not contain credentials; use AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or storage.profile",
        )
