"""The cluster of ``RAY_ADDRESS``: whether anybody answers there, told within seconds."""

import os
import socket
import time

from lightsans.errors import ConfigError, StorageError
from pipelines.embedded.workers import MODELS, expect_workers

ANSWER_WITHIN_S = 20.0
"""Time in which a cluster must answer; Ray itself would wait for minutes."""
_RETRY_S = 1.0


class ClusterUnreachableError(StorageError):
    """Nobody answers at the address of a cluster."""


def is_cluster() -> bool:
    """Whether `ensure_ray` connects to a Ray that was there before, rather than start its own."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def expect_own_ray() -> None:
    """Have workers that train, rank and score prepared, unless they will be those of a cluster.

    Called before the modules of stages are imported, which takes as long.
    """
    if not is_cluster():
        expect_workers(MODELS)


def require_cluster(address: str) -> None:
    """Return once the cluster at an address of ``RAY_ADDRESS`` answers.

    Raises:
        ConfigError: The address is none, or that of a dashboard.
        ClusterUnreachableError: Nobody answers there.
    """
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"RAY_ADDRESS={address} is the dashboard of a cluster, to which jobs are submitted:"
            f" add --cluster {address}, or unset RAY_ADDRESS to run on this machine"
        )
    host_and_port = address
    if address == "auto":
        found = _address_here()
        if found is None:
            return  # Ray says at once that there is none
        host_and_port, address = found, f"auto ({found}, which `ray start` has noted here)"
    host, port = _parse(host_and_port)
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while True:
        try:
            with socket.create_connection((host, port), max(1.0, deadline - time.monotonic())):
                break
        except OSError as error:
            if time.monotonic() + _RETRY_S > deadline or isinstance(error, socket.gaierror):
                raise _unreachable(address, error.strerror or str(error) or "no answer") from None
            time.sleep(_RETRY_S)  # a head that is starting refuses for a moment
    _require_grpc(address, host, port, max(1.0, deadline - time.monotonic()))


def _address_here() -> str | None:
    """Address of the Ray of this machine, or the one that was the last here and may be gone."""
    from ray._private import services

    try:
        found = services.get_ray_address_from_environment("auto", None)
    except ConnectionError:
        return None
    return None if found is None else str(found)


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"RAY_ADDRESS={address} is no address of a Ray cluster; expected HOST:PORT (6379 by "
            "default), ray://HOST:PORT or auto, or unset RAY_ADDRESS to run on this machine"
        )
    return host.strip("[]"), int(port)


def _require_grpc(address: str, host: str, port: int, timeout_s: float) -> None:
    """Refuse whatever listens and is no Ray: it would be waited for."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    channel = init_grpc_channel(target)  # with TLS where RAY_USE_TLS says so
    try:
        grpc.channel_ready_future(channel).result(timeout=timeout_s)
    except grpc.FutureTimeoutError:
        raise _unreachable(address, "what listens there does not answer as Ray does") from None
    finally:
        channel.close()


def _unreachable(address: str, reason: str) -> ClusterUnreachableError:
    return ClusterUnreachableError(
        f"RAY_ADDRESS={address}: no Ray cluster answers there within {ANSWER_WITHIN_S:g} s "
        f"({reason}); start it, correct the address, or unset RAY_ADDRESS to run on this machine"
    )
