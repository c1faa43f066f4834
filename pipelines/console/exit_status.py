"""Exit statuses: one table for all commands, their jobs and the CronJob."""

from enum import IntEnum

from lightsans.errors import (
    ConfigError,
    GateError,
    InputError,
    LeaseError,
    NotFoundError,
    PublishError,
    VocabularyMismatchError,
)


class ExitStatus(IntEnum):
    """Exit status of a command."""

    DONE = 0
    FAILED = 1
    """A fault of the program, or an outage: the same command may succeed later."""
    USAGE = 2
    """An option, a setting or an input is wrong; the message names it and the way out."""
    GATE = 3
    """The night was not good enough to be published."""
    BUSY = 4
    """Another process works on the same result or publishes, or waiting took too long."""
    HUNG_UP = 129
    """SIGHUP, when the terminal is closed."""
    INTERRUPTED = 130
    """SIGINT, usually Ctrl-C."""
    TERMINATED = 143
    """SIGTERM, as schedulers and Kubernetes end a process."""


DESCRIPTION = (
    "Exit status: 0 done, 1 a fault or an outage, 2 a wrong option, setting or input, 3 refused by "
    "the gate of nightly, 4 busy or given up waiting, 129, 130, 143 interrupted."
)


def status_of(error: BaseException) -> ExitStatus:
    """Exit status of a command that ends with this error."""
    match error:
        case ConfigError() | InputError() | NotFoundError() | VocabularyMismatchError():
            return ExitStatus.USAGE
        case GateError():
            return ExitStatus.GATE
        case LeaseError() | PublishError():
            return ExitStatus.BUSY
        case KeyboardInterrupt():
            return ExitStatus.INTERRUPTED
        case _:
            return ExitStatus.FAILED
