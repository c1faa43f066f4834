"""Interruptions end a command in order, with a line that says how to go on, and in time.

Ctrl-C raises `KeyboardInterrupt` where the command stands, SIGTERM and SIGHUP raise `SystemExit`.
What is at work then gives back its lease and stops Ray. That may take too long, or never begin:
code in C may not look for signals, and a library may swallow the exception. So a thread watches,
and ends the process `END_WITHIN_S` after the first signal, or with the second one.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

from lightsans.scratch import remove_directories
from pipelines.console.logs import log_error
from pipelines.early import GO_ON, WORDS

END_WITHIN_S = 3.0
"""Time to end in order."""


class _State:
    """State of the process: there is one command in it."""

    received: int | None = None
    is_leaving = False
    is_told = False
    is_limited = True
    signals: socket.socket | None = None
    """Socket to which Python writes a signal's number, even while C code keeps the main thread."""

    def end_all(self) -> None:
        """End what would outlive this process."""
        remove_directories()


_state = _State()
_telling = threading.Lock()


def install() -> None:
    """Let signals end this process, which is a command; those that are ignored stay ignored."""
    if _state.signals is not None:
        return
    _state.signals, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.detach(), warn_on_full_buffer=False)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    threading.Thread(target=_watch, args=(_state.signals,), daemon=True, name="signals").start()


def call_at_end(end_all: Callable[[], None]) -> None:
    """Call this when a command has to be ended: it ends what else would outlive the process."""
    _state.end_all = end_all  # type: ignore[method-assign]


def take_time() -> None:
    """Let this command take its time to end: it asks what shall become of a job."""
    _state.is_limited = False
    signal.signal(signal.SIGINT, signal.default_int_handler)


def received() -> int | None:
    """Number of the signal that ends this command, if any has come."""
    if _state.received is None and _state.signals is not None:
        try:
            for number in _state.signals.recv(64, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                if number in WORDS:
                    _state.received = number
        except BlockingIOError:
            pass
    return _state.received


def tell(number: int, error: BaseException) -> None:
    """Write the line about an interruption, once in this process, and the last one of it."""
    with _telling:
        if not _state.is_told:
            _state.is_told = True
            # Objects of libraries may miss each other while the process falls apart, and say so.
            sys.unraisablehook = lambda told: None
            log_error(f"{WORDS[signal.Signals(number)]}; {GO_ON}", error)


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave in order, once: another signal must not disturb the ending."""
    if not _state.is_leaving:
        _state.is_leaving, _state.received = True, number
        sys.exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _state.is_leaving:
        _state.is_leaving, _state.received = True, number
        raise KeyboardInterrupt


def _watch(signals: socket.socket) -> None:
    """Wait for a signal, then for the next one or the end of the time; then end the process."""
    first: int | None = None
    while True:
        signals.settimeout(None if first is None else END_WITHIN_S)
        try:
            numbers = [number for number in signals.recv(1) if number in WORDS]
        except TimeoutError:
            break
        if not numbers or not _state.is_limited:
            continue
        if first is not None:
            break
        first = _state.received = numbers[0]
    assert first is not None
    try:
        tell(first, KeyboardInterrupt())
        _state.end_all()
    finally:
        os._exit(128 + first)
