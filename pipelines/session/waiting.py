"""Waiting for another process, with a line a minute."""

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from lightsans.errors import LeaseError
from pipelines.console.progress import say

POLL_S = 2.0
"""Time between two looks at what is waited for."""
TELL_EVERY_S = 60.0
"""Time between two lines about what is waited for."""

T = TypeVar("T")


def wait_while(
    find: Callable[[], T | None],
    wait_s: float,
    tell: Callable[[T], str],
    refuse: Callable[[T, str], str],
) -> None:
    """Return once nobody is found in the way.

    Args:
        find: Whoever is in the way now; None once nobody is.
        wait_s: Seconds to wait at most; infinity waits without end, with a line a minute.
        tell: That line.
        refuse: Message of the error, with `` after 5 s of waiting`` or nothing.

    Raises:
        LeaseError: Somebody still is.
    """
    begun, told_at = time.monotonic(), -math.inf
    while (other := find()) is not None:
        now = time.monotonic()
        left_s = wait_s - (now - begun)
        if left_s <= 0:
            raise LeaseError(refuse(other, f" after {wait_s:g} s of waiting" if wait_s else ""))
        if now - told_at >= TELL_EVERY_S:
            told_at = now
            say(tell(other))
        time.sleep(min(POLL_S, left_s))


def tell_while(lasts: Callable[[], bool], text: Callable[[float], str], name: str) -> None:
    """Say once a minute, beside the work, what it waits for.

    Args:
        lasts: Whether it still waits; looked at now and then.
        text: The line, for so many seconds of waiting.
        name: Name of the thread: of one name one is told at a time.
    """
    if any(thread.name == name for thread in threading.enumerate()):
        return

    def tell() -> None:
        begun = told_at = time.monotonic()
        while lasts():
            now = time.monotonic()
            if now - told_at >= TELL_EVERY_S:
                told_at = now
                say(text(now - begun))
            time.sleep(POLL_S)

    threading.Thread(target=tell, name=name, daemon=True).start()
