"""Program `lightsans`, and ``submit.py`` of a checkout: imports everything, and runs a command."""

from pipelines.early import ending_at_once


def main() -> None:
    """Run the command line of this process, and exit with its status."""
    with ending_at_once():
        from pipelines.commands.app import main as run
    run()
