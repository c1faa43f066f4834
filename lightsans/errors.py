"""The exceptions a caller may catch.

LightSANsError
├── ConfigError          a setting is wrong: the message names it, what was found and the way out
│   ├── AccessError      storage or a cluster denies access: credentials, or rights on a disk
│   └── ResourceError    a stage asks for more than the cluster has or may grow to
├── InputError           the data a user gave is unusable: the message names the file or column
│   ├── EmptyFileError   a file has no line, not even a header
│   ├── NothingLeftError no row is left after a filter, or without users who are left out
│   └── RejectLimitError more rows were refused than ``data.max_reject_fraction`` allows
├── VocabularyMismatchError  a model and a dataset number their items differently
├── NotFoundError        a dataset, model or run that was asked for does not exist
├── TrainingError        a training run cannot go on: non-finite loss, for example
├── GateError            a nightly run is not good enough to be published
├── StorageError         a store stayed unreachable, or busy, through all attempts
├── LeaseError           another process is making the same result, or took it over
└── PublishError         somebody else moves LATEST at the same time

Everything that a user can mend by changing a setting, a file or the command line is a
``ConfigError``, ``InputError``, ``VocabularyMismatchError`` or ``NotFoundError``: exit status 2. A
``GateError`` is 3, a ``LeaseError`` or ``PublishError`` 4; the others, and unexpected errors, are
1. Only the last print a traceback.
"""


class LightSANsError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(LightSANsError, ValueError):
    """A setting has an unknown name or a value out of range."""


class AccessError(ConfigError, PermissionError):
    """Access denied: credentials missing or refused, or a directory that cannot be written."""


class ResourceError(ConfigError):
    """The cluster can never offer what a stage needs."""


class InputError(LightSANsError):
    """An input file is missing, unreadable or not of the expected shape."""


class EmptyFileError(InputError):
    """A file has no line: a part file, perhaps, that a writer had no rows for."""


class NothingLeftError(InputError):
    """No row is left to make a dataset of."""


class RejectLimitError(InputError):
    """More rows were refused than the configuration allows."""


class VocabularyMismatchError(LightSANsError):
    """A model and a dataset disagree about the numbering of items."""


class NotFoundError(LightSANsError):
    """A dataset, model or recommendation run that was asked for does not exist."""


class TrainingError(LightSANsError):
    """Training cannot continue; the message says what to change."""


class StorageError(LightSANsError, OSError):
    """A request to a store failed as often as ``storage.max_attempts`` allows."""


class GateError(LightSANsError):
    """A nightly run did not pass its checks; the message gives value and bound of each."""

    def __init__(self, message: str, report: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.report = report or {}


class LeaseError(LightSANsError):
    """Another process holds the lease of a result; the message names it and when it ends."""


class PublishError(LightSANsError):
    """Another publication came first; the message gives the run that is published now."""
