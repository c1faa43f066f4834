"""Checks of what a `Recommender` is asked: the length of lists, and the moment of the request."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64
from lightsans.dataset.loading import TIMESTAMPS
from lightsans.errors import ConfigError
from lightsans.reading.times import parse_moment
from lightsans.recommendations.list_maker import ListMaker


def require_length(k: int, method: str) -> None:
    """Return only if lists are to have an item at least.

    Raises:
        ConfigError: ``k`` is no whole number, or below 1.
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool):
        raise ConfigError(f"{method}(k={k!r}): expected a whole number, the length of the lists")
    if k < 1:
        raise ConfigError(f"{method}(k={k}): a list has at least one item")


def maker_at(
    maker: ListMaker, now: str | datetime | None, timezone: str, users: pa.Table, asked: Int64
) -> ListMaker:
    """The same maker for requests at a moment.

    Args:
        maker: Maker of lists.
        now: ISO time, or a time as Python has it; None changes nothing.
        timezone: Zone of a time that names none.
        users: Users, with the times of their items where the model reads them.
        asked: Rows of those who are asked for.

    Raises:
        ConfigError: It is no time, a user has an item of after it, or the model does not read it.
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
    newest = pc.max(pc.list_flatten(users[TIMESTAMPS].take(pa.array(asked)))).as_py()
    if newest is not None and moment < newest:
        at = np.datetime64(newest, "us").item().isoformat()
        raise ConfigError(
            f"recommend(now={str(now)!r}): a user who is asked for has an item of {at} UTC, which "
            "was not known then; name a moment from then on, or fit a log that ends earlier"
        )
    return maker.at(moment)
