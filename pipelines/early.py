"""First second of the program, while everything is imported: a signal ends it in one line."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "terminated, the terminal is gone",
}
"""Words for the signals that end a command."""
GO_ON = "the same command goes on from here"


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within the block, a signal that would end this process does so with a line."""
    before = {}
    for number in WORDS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    text = f"{WORDS[signal.Signals(number)]}; {GO_ON}"
    if "json" in (os.environ.get("LIGHTSANS_LOG"), *sys.argv):
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = json.dumps({"time": now, "level": "error", "message": text})
    os.write(2, f"{text}\n".encode())
    os._exit(128 + number)
