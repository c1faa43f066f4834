"""Start of an embedded Ray: no process that one machine does not need, workers that are forked."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import services
from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_DASHBOARD
from ray._private.state import GlobalState

from pipelines.embedded.workers import fork_server, is_raylet

_NEEDLESS = ("start_log_monitor", "start_monitor", "start_api_server")
_NO_AGENT = (
    "import os, time; parent = os.getppid(); any(time.sleep(1) for _ in "
    "iter(lambda: os.getppid() == parent and os.kill({driver}, 0) is None, False))"
)
"""Program that ends with the process that started it, or the driver."""
_LOOKS, _BETWEEN_LOOKS_S = 100, 0.02
"""Quick looks for Ray's process of this machine, before Ray's own."""


@contextmanager
def quick_start() -> Iterator[None]:
    """Let a Ray of one machine and one driver start within the block, without waste."""
    with _without_needless_processes(), _with_forked_workers(), _without_a_long_look():
        yield


@contextmanager
def _without_needless_processes() -> Iterator[None]:
    """Let Ray start without four processes that one machine and one driver do not need.

    One copies lines of workers to drivers that want them (``log_to_driver``), one asks for more
    machines, two gather figures for the dashboard. All import for half a second to a whole one,
    Ray waits for those of the dashboard, then they look around until the end; no setting of Ray
    leaves them out. One of them must have a process: it gets one that does nothing.
    """
    # In another version of Ray they may have other names: it starts what it will.
    own = {name: getattr(Node, name) for name in _NEEDLESS if hasattr(Node, name)}
    for name in own:
        setattr(Node, name, lambda node, **options: None)
    start_process = services.start_ray_process

    def start(command: list[str], *arguments: Any, **options: Any) -> Any:
        return start_process(_without_agent(command), *arguments, **options)

    services.start_ray_process = start
    try:
        yield
    finally:
        services.start_ray_process = start_process
        for name, method in own.items():
            setattr(Node, name, method)


@contextmanager
def _with_forked_workers() -> Iterator[None]:
    """Let the first process of a machine that Ray starts have its workers forked."""
    server = fork_server()
    start_process = services.start_ray_process

    def start(command: list[str], *arguments: Any, **options: Any) -> Any:
        if server is None or server.serves or not is_raylet(command):
            return start_process(command, *arguments, **options)
        started = start_process(server.take_over(command), *arguments, **options)
        server.serve(started.process.pid)
        return started

    services.start_ray_process = start
    try:
        yield
    finally:
        services.start_ray_process = start_process


@contextmanager
def _without_a_long_look() -> Iterator[None]:
    """Let Ray see within hundredths of a second that its process of this machine is there.

    Ray looks at once, when it never is, and then once a second: .6 s of every command.
    """
    own: Any = services.get_node
    get_options: Any = services._get_gcs_client_options

    def get_node(gcs_address: str, node_id: str) -> Any:
        state: Any = GlobalState()  # type: ignore[no-untyped-call]
        state._initialize_global_state(get_options(gcs_address))
        for _ in range(_LOOKS):
            if any(node["NodeID"] == node_id for node in state.node_table()):
                break
            time.sleep(_BETWEEN_LOOKS_S)
        return own(gcs_address, node_id)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = own


def have_dashboard() -> None:
    """Start one of the processes that `quick_start` leaves out: Ray Train asks it.

    Ray Train frees what a group of workers held, whose controller was killed, once the dashboard
    tells of the controller's end. Does nothing on a cluster, whose dashboard is there.
    """
    node = ray._private.worker._global_node
    if node is not None and node.head and PROCESS_TYPE_DASHBOARD not in node.all_processes:
        node.start_api_server(include_dashboard=False, raise_on_failure=False)


def _without_agent(command: list[str]) -> list[str]:
    """Command line of Ray's process of a machine, without an agent; of another one as it is."""
    idle = [sys.executable, "-I", "-S", "-c", _NO_AGENT.format(driver=os.getpid())]
    changed = {
        "--dashboard_agent_command": subprocess.list2cmdline(idle),
        "--metrics-agent-port": "-1",  # as an agent says that has no metrics
        "--metrics_export_port": "-1",
    }
    names = [argument.partition("=")[0] for argument in command]
    if not set(changed) <= set(names):
        return command
    replaced = [
        f"{name}={changed[name]}" if name in changed else argument
        for name, argument in zip(names, command, strict=True)
    ]
    return [*replaced, "--dashboard_agent_listen_port=-1"]  # else it waits for one
