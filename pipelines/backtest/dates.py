"""Dates of a backtest: from one to another, by steps of hours, days or weeks."""

import re
from datetime import datetime, timedelta

from lightsans.config.checks import CENTURY_DAYS
from lightsans.errors import ConfigError

_STEP = re.compile(r"(\d+)\s*([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
MOST_NIGHTS = 10_000


def parse_step(text: str) -> timedelta:
    """The time between two nights, from text such as 1d, 12h or 1w.

    Raises:
        ConfigError: The text is no such step.
    """
    found = _STEP.fullmatch(text.strip().lower())
    hours = 0 if found is None else int(found[1]) * _HOURS[found[2]]
    if not 0 < hours <= CENTURY_DAYS * 24:
        raise ConfigError(
            f"--every {text}: expected a number of hours, days or weeks: 12h, 1d, 1w; a hundred "
            "years at most"
        )
    return timedelta(hours=hours)


def nights_between(first: str, last: str, step: timedelta) -> list[str]:
    """Dates of the nights, both ends included, as ``--as-of`` takes them.

    Raises:
        ConfigError: An end is no ISO date or time, or there are none or too many nights.
    """
    begin, end = _parse("--from", first), _parse("--to", last)
    if (begin.tzinfo is None) != (end.tzinfo is None):
        raise ConfigError(f"--from {first} and --to {last}: give both with an offset, or neither")
    count = (end - begin) // step + 1
    if count < 1:
        raise ConfigError(f"--to {last} is before --from {first}")
    if count > MOST_NIGHTS:
        raise ConfigError(f"{count:,} nights are too many; the most is {MOST_NIGHTS:,}")
    return [_name(begin + step * number) for number in range(count)]


def _parse(option: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{option} {text}: expected a date or time, such as 2026-11-05") from None


def _name(moment: datetime) -> str:
    is_date = moment.tzinfo is None and moment.time() == datetime.min.time()
    return f"{moment:%Y-%m-%d}" if is_date else moment.isoformat()
