"""Ray as the stages use it: the cluster at hand, or an embedded one; errors as they were raised."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.data
from ray.data import DataContext
from ray.exceptions import RayTaskError

from lightsans.errors import ConfigError, LightSANsError

EMBEDDED_CPUS = 4
"""Least logical CPUs of an embedded Ray: with fewer, train workers leave none for other tasks."""


def ensure_ray() -> None:
    """Connect to the cluster of ``RAY_ADDRESS`` (set inside a Ray job), or start an embedded one.

    Does nothing when Ray is already connected. An embedded Ray ends with this process.

    Raises:
        ConfigError: ``RAY_ADDRESS`` is that of a dashboard.
    """
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        if address.startswith(("http://", "https://")):
            raise ConfigError(
                f"RAY_ADDRESS={address} is the dashboard of a cluster, to which jobs are submitted:"
                f" add --cluster {address}, or unset RAY_ADDRESS to run on this machine"
            )
        if address:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(
                num_cpus=max(EMBEDDED_CPUS, os.cpu_count() or 1),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    _configure_data(DataContext.get_current())


def _configure_data(context: DataContext) -> None:
    context.enable_progress_bars = False  # ours know what a part is
    context.print_on_execution_start = False
    context.shuffle_input_batch_bytes = 64 << 20  # the default asks for 2 GiB a task
    logging.getLogger("ray.data").setLevel(logging.WARNING)


@contextmanager
def original_errors() -> Iterator[None]:
    """Raise our own errors as a worker raised them, without Ray's wrapping and remote traceback."""
    try:
        yield
    except Exception as error:
        own = find_own_error(error)
        if own is None or own is error:
            raise
        raise own from None


def find_own_error(error: BaseException | None) -> LightSANsError | None:
    """The `LightSANsError` inside an exception of Ray, if there is one."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        current = pending.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        if isinstance(current, LightSANsError):
            # Ray makes a class that is both RayTaskError and ours: give back ours alone.
            if isinstance(current, RayTaskError):
                pending.append(current.cause)
                continue
            return current
        seen.add(id(current))
        pending += [current.__cause__, current.__context__, getattr(current, "cause", None)]
        failures = getattr(current, "worker_failures", None)
        pending += list(failures.values()) if isinstance(failures, dict) else []
    return None
