"""The exceptions a caller may catch.

LightSANsError
├── ConfigError          a setting is wrong: the message names it, what was found and the way out
├── InputError           the data a user gave is unusable: the message names the file or column
│   └── RejectLimitError more rows were refused than ``data.max_reject_fraction`` allows
├── VocabularyMismatchError  a model and a dataset number their items differently
├── NotFoundError        a dataset, model or run that was asked for does not exist
└── TrainingError        a training run cannot go on: non-finite loss, for example

Everything that a user can mend by changing a setting, a file or the command line is a
``ConfigError``, ``InputError``, ``VocabularyMismatchError`` or ``NotFoundError``; `submit.py` ends
those with exit status 2 and without a traceback.
"""


class LightSANsError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(LightSANsError, ValueError):
    """A setting has an unknown name or a value out of range."""


class InputError(LightSANsError):
    """An input file is missing, unreadable or not of the expected shape."""


class RejectLimitError(InputError):
    """More rows were refused than the configuration allows."""


class VocabularyMismatchError(LightSANsError):
    """A model and a dataset disagree about the numbering of items."""


class NotFoundError(LightSANsError):
    """A dataset, model or recommendation run that was asked for does not exist."""


class TrainingError(LightSANsError):
    """Training cannot continue; the message says what to change."""
