"""Dates of nights: what moment is meant, and whether its day has come."""

from datetime import datetime

from lightsans.columns.times import to_datetime, zone_of
from lightsans.config import DataConfig
from lightsans.errors import ConfigError
from lightsans.stages.filters import resolve_as_of


def moment_of_night(data: DataConfig) -> datetime:
    """The moment, in UTC, up to which a night reads the log.

    Raises:
        ConfigError: ``data.as_of`` is null, or no date or time.
    """
    micros = resolve_as_of(data)
    if micros is None:
        raise ConfigError(
            "which night? Give its date, such as --as-of 2026-11-05, or set data.as_of"
        )
    return to_datetime(micros)


def require_past(data: DataConfig, night: datetime, now: datetime) -> None:
    """Refuse a date that is still to come: its rows are not there, and it would block all before.

    Args:
        data: ``timezone`` says where it is which day.
        night: Moment of the night.
        now: The time.

    Raises:
        ConfigError: The day of the night has not begun.
    """
    zone = zone_of(data.timezone)
    date, today = night.astimezone(zone).date(), now.astimezone(zone).date()
    if date > today:
        raise ConfigError(
            f"--as-of {data.as_of} is still to come: it is {today} in {data.timezone}. Nights of "
            "every date until then would be refused after it; correct the date, or insist with "
            "--force"
        )
