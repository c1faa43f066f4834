"""A raw line of Ray's core that no setting silences: said once, where nobody reads it.

An actor that restarts, and has an argument in the object store, as all actors of Ray Data do, makes
Ray's core write a warning to standard error, once a process, as plain text between our lines, which
may be JSON. It is about arguments that go out of scope, and those of Ray Data do not.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

NOWHERE = {"lightsans_nowhere": 1.0}
"""Resources that no machine has, so that the actor is never started."""
WARNING = re.compile(rb"\[[^\n]*core_worker\.cc:\d+: Actor with class name: [^\n]*\n")
"""The warning, as a whole line."""


class _Nobody:
    def __init__(self, argument: object) -> None:
        del argument


def spend_warning_on_arguments() -> None:
    """Let Ray warn of an actor that is never started: it does not warn a second time."""
    actor: Any = ray.remote(num_cpus=0, resources=NOWHERE, max_restarts=1)(_Nobody)
    with hiding(WARNING):
        ray.kill(actor.remote(ray.put(None)))


@contextmanager
def hiding(line: re.Pattern[bytes]) -> Iterator[None]:
    """Keep lines out of this process's standard error; all others follow after the block."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        before = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            said.seek(0)
            os.write(2, line.sub(b"", said.read()))
