"""Program `lightsans`, and ``submit.py`` of a checkout: imports everything, and runs a command."""

import atexit
import os
import sys

from pipelines.early import ending_at_once


def main() -> None:
    """Run the command line of this process, and exit with its status."""
    end = _QuickEnd()
    with ending_at_once():
        _have_utf8()
        from pipelines.commands.app import main as run
    try:
        run()
    except SystemExit as error:
        end.status = 0 if error.code is None else error.code
        raise


class _QuickEnd:
    """Ends the process when all that has to be done at its end is done.

    Python would take apart every module before, which takes as long as a fifth of their imports.
    """

    def __init__(self) -> None:
        self.status: object = None
        """Status to end with; anything but a number leaves the end to Python."""
        atexit.register(self._end)  # the first to be registered is the last to be called

    def _end(self) -> None:
        if not isinstance(self.status, int):
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # a reader that is gone: Python has its own status for it
            return
        os._exit(self.status & 0xFF)


def _have_utf8() -> None:
    """Begin anew where Python takes names and arguments for ASCII, as ``LC_ALL=C`` may make it."""
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
