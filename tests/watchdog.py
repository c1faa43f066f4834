"""The watchdog behind pytest-timeout, for tests that are stuck where its exception is not heard.

pytest-timeout raises an exception in the main thread. Ray's waits (`ray.get`, `ray.wait`) swallow
it and wait on, and native code may never let Python run; so some time later the process ends, with
the stack of every thread.
"""

import faulthandler
from collections.abc import Generator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key  # standard error, not captured

GRACE_S = 60.0
"""After a test's time limit."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the run if a test, its fixtures included, far outlives its time limit."""
    marker = item.get_closest_marker("timeout")
    limit_s = float(marker.args[0] if marker else item.config.getini("timeout"))
    stderr = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(limit_s + GRACE_S, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
