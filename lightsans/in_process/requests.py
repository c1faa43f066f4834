"""Checks of what a `Recommender` is asked: the length of lists, and the moment of the request."""

from datetime import datetime

from lightsans.errors import ConfigError
from lightsans.reading.times import parse_moment
from lightsans.recommendations.list_maker import ListMaker


def require_length(k: int, method: str) -> None:
    """Return only if lists are to have an item at least.

    Raises:
        ConfigError: ``k`` is below 1.
    """
    if k < 1:
        raise ConfigError(f"{method}(k={k}): a list has at least one item")


def maker_at(maker: ListMaker, now: str | datetime | None, timezone: str) -> ListMaker:
    """The same maker for requests at a moment.

    Args:
        maker: Maker of lists.
        now: ISO time, or a time as Python has it; None changes nothing.
        timezone: Zone of a time that names none.

    Raises:
        ConfigError: It is no time, or the model does not read it.
    """
    if now is None:
        return maker
    if not maker.model.reads_now:
        raise ConfigError(
            f"recommend(now={str(now)!r}): this model does not read the moment of the request; "
            'leave now out, or fit one with gaps="request"'
        )
    text = now.isoformat() if isinstance(now, datetime) else now
    moment = parse_moment(text, timezone) if isinstance(text, str) else None
    if moment is None:
        raise ConfigError(
            f"recommend(now={now!r}): expected an ISO time such as 2026-11-28T06:00 or a datetime"
        )
    return maker.at(moment)
