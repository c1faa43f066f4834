"""Checks that the classes of settings share; each raises `ConfigError`."""

import re

from lightsans.errors import ConfigError


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


def fraction(section: str, config: object, *names: str) -> None:
    """Refuse values of these settings outside [0, 1); null passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{section}.{name}={value} is not in [0, 1)")


_CREDENTIALS = re.compile(r"\w://(?:[^/\s]*@|[^/@\s]*:(?!\d+/)[^@\s]*@)")
"""``user:password@`` or ``token@`` before a host; a password may have slashes in it."""


def without_credentials(name: str, value: object) -> None:
    """Refuse an address with a password or token in it, wherever it stands in a setting.

    Settings are saved with results, sent to jobs and logged; the message repeats no part of it.
    """
    if isinstance(value, str):
        if _CREDENTIALS.search(value):
            raise ConfigError(
                f"{name} has credentials in its address, which would be saved with every result; "
                "take them out, and give them in the environment: AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (or storage.profile), GOOGLE_APPLICATION_CREDENTIALS, "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
            )
    elif isinstance(value, dict):
        for key, entry in value.items():
            without_credentials(name, key)
            without_credentials(name, entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            without_credentials(name, entry)
