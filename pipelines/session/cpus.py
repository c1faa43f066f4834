"""CPUs of this machine and of the cluster, as far as we may use them."""

import os
from contextlib import suppress
from pathlib import Path

import ray

from pipelines.session.clusters import is_cluster

CGROUP = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files of a container's quota and its period in microseconds, of version 2 and of version 1."""


def machine_cpus() -> int:
    """CPUs of this machine that this process may use: by its affinity, and a container's quota.

    What `os.cpu_count` says are those of the host, of which ``docker --cpus=2`` gives two.
    """
    with suppress(AttributeError):  # not Linux
        return max(1, min(len(os.sched_getaffinity(0)), _quota()))
    return os.cpu_count() or 1


def _quota() -> int:
    """Whole CPUs that a container may use in time; a large number where nothing limits it."""
    for names in _QUOTAS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = " ".join((CGROUP / name).read_text() for name in names).split()
            if int(quota) > 0:
                return int(quota) // int(period)
    return 2**31


def usable_cpus() -> int:
    """CPUs that can work at a time: an embedded Ray counts more than a small machine has.

    More processes than that are no faster together, and each takes its memory.
    """
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    logical = max(1, int(resources.get("CPU", 1)))
    return logical if is_cluster() else min(logical, machine_cpus())


def cpus_per_task() -> int:
    """Logical CPUs that a task asks for, so that no more run at a time than `usable_cpus`."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1))) // usable_cpus()


def set_torch_threads() -> None:
    """Give PyTorch the threads that Ray gives this task, on whose number its sums depend.

    The process may have imported it before, for a task with more CPUs.
    """
    import torch  # which most tasks do without

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
