"""A root in the file system of machines: all that take part in a cluster must share it."""

import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsans.errors import ConfigError
from lightsans.storage.location import Location

ANSWER_WITHIN_S = 60.0
"""Time in which a machine must answer; one that does not is taken to share the root."""
_SEEN_WITHIN_S = 5.0
"""Time that a network's file system may take to show a new file."""

_shared: set[tuple[str, str]] = set()
"""Roots and machines of which this process knows that they share them."""


def require_shared(root: Location) -> None:
    """Return once every other machine of the connected cluster sees what this one writes.

    Storage that is no machine's own, and a cluster of one machine, are not asked.

    Raises:
        ConfigError: A machine does not see it.
        AccessError: This machine cannot write to the root.
    """
    here = ray.get_runtime_context().get_node_id()
    asked = machines_to_ask(ray.nodes(), here, root)  # type: ignore[no-untyped-call]
    if not asked:
        return
    root.require_directory()
    probe = root / f".shared-{uuid.uuid4().hex}"
    probe.write_bytes(b"")
    try:
        answers = {
            (address, name): _sees.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(number, soft=False)
            ).remote(probe.path)
            for number, address, name in asked
        }
        blind = [machine for machine, answer in answers.items() if not _answer(answer)]
    finally:
        probe.delete()
    if blind:
        raise ConfigError(not_shared(root, blind))
    _shared.update((root.uri, number) for number, _, _ in asked)


def machines_to_ask(
    nodes: Sequence[Mapping[str, Any]], here: str, root: Location
) -> list[tuple[str, str, str]]:
    """Id, address and name of one node of each machine that works beside this one.

    Args:
        nodes: The nodes as Ray lists them.
        here: Id of a node of this machine.
        root: Directory that they must share.
    """
    if not root.is_local:
        return []
    addresses = {str(node["NodeID"]): node["NodeManagerAddress"] for node in nodes}
    machines = {
        node["NodeManagerAddress"]: (
            str(node["NodeID"]),
            str(node["NodeManagerAddress"]),
            str(node["NodeManagerHostname"]),
        )
        for node in nodes
        if node["Alive"]
        and node["Resources"].get("CPU", 0) > 0
        and node["NodeManagerAddress"] != addresses.get(here)
    }
    return [each for each in machines.values() if (root.uri, each[0]) not in _shared]


def not_shared(root: Location, blind: list[tuple[str, str]]) -> str:
    """Message about machines, by address and name, that do not see what is written."""
    named = ", ".join(f"{name} ({address})" for address, name in sorted(blind)[:3])
    more = f" and {len(blind) - 3} more" if len(blind) > 3 else ""
    return (
        f"root={root} is not shared by the machines of the cluster: {named}{more} cannot see what "
        f"{socket.gethostname()} writes there; use s3://bucket/prefix, or a directory that all of "
        "them mount"
    )


@ray.remote(num_cpus=0, max_retries=1)
def _sees(path: str) -> bool:
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not Path(path).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _answer(answer: Any) -> bool:
    try:
        return bool(ray.get(answer, timeout=ANSWER_WITHIN_S))
    except RayError:  # it went meanwhile, or is busy: the stage will notice
        return True
