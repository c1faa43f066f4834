"""Program `lightsans`, and ``submit.py`` of a checkout: imports everything, and runs a command."""

import os
import sys

from pipelines.early import ending_at_once


def main() -> None:
    """Run the command line of this process, and exit with its status."""
    with ending_at_once():
        _have_utf8()
        from pipelines.commands.app import main as run
    run()


def _have_utf8() -> None:
    """Begin anew where Python takes names and arguments for ASCII, as ``LC_ALL=C`` may make it."""
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
