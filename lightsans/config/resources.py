"""Settings about the cluster."""

from dataclasses import dataclass

from lightsans.config.checks import at_least
from lightsans.config.marks import Mark, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesConfig:
    """What a cluster that grows on demand may grow to.

    Ray does not say, so it is said here; what then needs more is refused instead of left waiting.
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
