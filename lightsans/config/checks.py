"""Checks that the classes of settings share; each raises `ConfigError`."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, get_origin

from lightsans.errors import ConfigError

CENTURY_DAYS = 36_525
"""Longest span of time that a setting may ask for: dates end, and so do the numbers of clocks."""


def require(condition: bool, message: str) -> None:
    """Refuse a configuration that does not meet the condition."""
    if not condition:
        raise ConfigError(message)


def at_least(section: str, config: object, minimum: float, *names: str) -> None:
    """Refuse values of these settings below the minimum; null passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < minimum:
            raise ConfigError(f"{section}.{name}={value} is too small; the least is {minimum}")


def at_most(section: str, config: object, maximum: float, *names: str) -> None:
    """Refuse values of these settings above the maximum; null passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value > maximum:
            raise ConfigError(f"{section}.{name}={value} is too large; the most is {maximum:,}")


def fraction(section: str, config: object, *names: str) -> None:
    """Refuse values of these settings outside [0, 1); null passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{section}.{name}={value} is not in [0, 1)")


_CREDENTIALS = re.compile(r"\w://(?:[^/\s]*@|[^/@\s]*:(?!\d+/)[^@\s]*@)")
"""``user:password@`` or ``token@`` before a host; a password may have slashes in it."""
_SECRET_PARAMETER = re.compile(
    r"(?i)\bhttps?://\S*[?&;](?:[\w.-]*(?:pass(?:word|wd)|secret|token|signature|credential|api[-_]?key"
    r"|access[-_]?key)[\w.-]*|sig|key|auth)=(?!\$\{)[^&;\s]"
)
"""``?token=...`` in an address, unless it refers to a variable as ``${NAME}``."""
TABLE_VERSION = re.compile(
    r"\b((?:delta|iceberg)://(?:\w+://)?[^\s:'\"@]*)@(v\d+)(?=/?(?:$|[\s'\",:;)\]}]))"
)
"""Address of a version of a table: ``delta://s3://bucket/log@v3`` has no credentials."""

AZURE_ACCOUNT = re.compile(r"\b(abfss?://[\w$-]+)@(?=\w+\.(?:dfs|blob)\.)", re.IGNORECASE)
"""``abfss://container@account.dfs.core.windows.net`` has no credentials either."""


def without_credentials(name: str, value: object) -> None:
    """Refuse an address with a password or token in it, wherever it stands in a setting.

    Settings are saved with results, sent to jobs and logged; the message repeats no part of it.
    """
    if isinstance(value, str):
        address = AZURE_ACCOUNT.sub(r"\1", TABLE_VERSION.sub(r"\1", value))
        if _CREDENTIALS.search(address) or _SECRET_PARAMETER.search(address):
            raise ConfigError(
                f"{name} has credentials in its address, which would be saved with every result; "
                "take them out, and give them in the environment: AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (or storage.profile), GOOGLE_APPLICATION_CREDENTIALS, "
                "AZURE_STORAGE_ACCOUNT_KEY, "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN); "
                "nightly.notify_url takes ${NAME} for them"
            )
    elif isinstance(value, dict):
        for key, entry in value.items():
            without_credentials(name, key)
            without_credentials(name, entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            without_credentials(name, entry)


_MOST = 2**31 - 1
_MOST_OF = {"resources.memory_bytes": 2**63 - 1, "train.seed": 2**63 - 1}


def require_usable(
    name: str, value: object, origin: str, kind: Any, describe: Callable[[Any], str]
) -> None:
    """Refuse a value that has the right type and is of no use, also within lists and mappings.

    Args:
        name: Name of the setting.
        value: Its value, or one within it.
        origin: Where it was given.
        kind: Type of the setting.
        describe: Function that puts a type into words.
    """
    is_text = kind in (str, str | None)
    is_rule = isinstance(value, dict) and get_origin(kind) is not dict  # that checks itself
    for entry in () if is_rule else _entries(value):
        if isinstance(entry, float) and not math.isfinite(entry):
            hint = "; put it in quotes" if is_text else ""
            raise ConfigError(f"{name} is {value} ({origin}); expected {describe(kind)}{hint}")
        if isinstance(entry, str) and "\0" in entry:
            raise ConfigError(f"{name} is {value!r} ({origin}); a text cannot hold a NUL character")
    most = _MOST_OF.get(name, _MOST)
    counts = "float" not in repr(kind) and not is_text
    if counts and isinstance(value, int) and value > most:
        raise ConfigError(f"{name} is {value} ({origin}), which is too large; the most is {most}")


def _entries(value: object) -> Iterator[object]:
    """A value, those in a list, and names and values of a mapping."""
    if isinstance(value, dict):
        yield from (*value.keys(), *value.values())
    elif isinstance(value, list | tuple):
        yield from value
    else:
        yield value
