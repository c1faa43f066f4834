"""Checks that the classes of settings share; each raises `ConfigError`."""

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
