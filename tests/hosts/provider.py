"""Machines of a rack for Ray's autoscaler, switched on when they are needed and off afterwards.

Ray's provider of machines that are there already keeps its books; switches are files on the head,
which whoever feeds the machines reads. With machines of one's own that would be Wake-on-LAN, IPMI
or a smart plug.
"""

from pathlib import Path
from typing import Any

from ray.autoscaler._private.local.node_provider import LocalNodeProvider

SWITCHES = Path("/tmp/switches")
"""Directory with a file for each machine, by its address: ``on`` or ``off``."""


class RackProvider(LocalNodeProvider):  # type: ignore[misc, unused-ignore]
    """Provider of any number of machines, from none, each with a switch."""

    def create_node(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int
    ) -> dict[str, Any] | None:
        """Switch as many machines on, or as many as there are."""
        before = {*self.non_terminated_nodes({})}
        super().create_node(node_config, tags, count)
        for address in {*self.non_terminated_nodes({})} - before:
            turn(address, "on")
        return None

    def terminate_node(self, node_id: str) -> dict[str, Any] | None:
        """Switch a machine off."""
        super().terminate_node(node_id)
        turn(node_id, "off")
        return None


def turn(address: str, position: str) -> None:
    """Turn the switch of a machine."""
    SWITCHES.mkdir(exist_ok=True)
    (SWITCHES / address).write_text(position)
