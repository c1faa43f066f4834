"""Which columns are likely the user, item, time, rating and event of a log.

Names are compared by the words that the field uses; then the values must fit: a column is no user
because a better one is missing, and a store never is.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.nulls import bools
from lightsans.columns.times import to_datetime
from lightsans.config import DataConfig
from lightsans.config.data import TimeUnit
from lightsans.reading.ids import is_id
from lightsans.reading.times import clean_timestamps
from lightsans.reading.values import (
    NUMBER,
    WHOLE_NUMBER,
    Problems,
    as_text,
    as_utf8,
    find_missing,
    is_text,
    matches,
)

_WORDS: Final = {
    "user": ["user", "uid", "customer", "client", "visitor", "member", "account", "household",
             "person", "profile", "reviewer", "buyer", "subscriber", "player", "listener", "author",
             "session"],
    "item": ["item", "iid", "product", "prod", "movie", "article", "sku", "asin", "track", "song",
             "video", "content", "book", "isbn", "game", "news", "business", "offer", "recipe",
             "artist", "show", "anime", "creative", "ad", "document", "doc", "page", "title"],
    "timestamp": ["timestamp", "eventtime", "time", "datetime", "ts", "unixreviewtime", "date",
                  "when", "createdat", "created", "eventdate", "day", "dt"],
    "rating": ["rating", "stars", "score", "overall", "rate"],
    "event": ["eventtype", "event", "action", "behavior", "behaviour", "type", "interaction"],
}  # fmt: skip
"""Words for each role, the likeliest first."""

_UNITS: Final[tuple[TimeUnit, ...]] = ("s", "ms", "us", "ns", "yyyymmdd")
_FIRST_YEAR, _LAST_YEAR = 1990, 2100
_MOST = 0.9
_FEW_VALUES = 50
_MOST_EVENTS = 30
_TIME_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Column:
    """Facts about a column of a sample."""

    name: str
    kind: str
    """Type of the values, in a word: whole numbers in text are ``text of integers``."""
    missing: float
    """Share of values that are null, or a word for it."""
    distinct: int
    examples: list[str]
    is_number: bool
    is_key: bool
    """Whether the values can be ids."""
    unit: TimeUnit | None
    """Unit in which the values are times of our era; ``s`` for text and timestamps."""
    is_doubles: bool
    """Whether these are texts such as 12.0: integers with gaps, written by pandas."""


def look_at(name: str, column: pa.Array, data: DataConfig) -> Column:
    """Facts about a column."""
    column = as_text(column)
    kind = column.type
    text: pa.Array | None = None
    is_doubles = False
    if is_text(kind):
        text = pc.utf8_trim_whitespace(as_utf8(column, None))
        is_missing = find_missing(text, data.missing_values)
        present = text.filter(pa.array(~is_missing))
        is_whole = _share(matches(present, WHOLE_NUMBER)) >= _MOST
        is_number = _share(matches(present, NUMBER)) >= _MOST
        is_doubles = is_number and _share(matches(present, r"^-?[0-9]+\.0+$")) >= _MOST
        word = f"text of {'integers' if is_whole else 'numbers'}" if is_number else "text"
    else:
        is_missing = bools(pc.is_null(column, nan_is_null=pa.types.is_floating(kind)))
        present = column.filter(pa.array(~is_missing))
        is_number = bool(
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        )
        word = str(kind)
    is_flat = not (pa.types.is_nested(kind) or pa.types.is_null(kind))
    distinct = pc.count_distinct(present).as_py() if is_flat else 0
    shown = pc.unique(present)[:3] if is_flat else present[:1]
    return Column(
        name,
        word if len(present) else "empty",
        _share(is_missing),
        distinct,
        [str(value) for value in shown.to_pylist()],
        is_number,
        is_id(kind) and len(present) > 0,
        _time_unit(text if text is not None else column, data) if len(present) else None,
        is_doubles,
    )


def find_roles(columns: Sequence[Column], limit: float) -> dict[str, Column]:
    """The likely column of each role, each at most once.

    Args:
        columns: The columns of the sample.
        limit: Largest share of missing values that a user, item or time may have.
    """
    found: dict[str, Column] = {}
    checks: dict[str, Callable[[Column], bool]] = {
        "timestamp": lambda c: c.unit is not None and c.missing <= limit,
        "user": lambda c: c.is_key and c.missing <= limit,
        "item": lambda c: c.is_key and c.missing <= limit,
        "rating": lambda c: c.is_number,
        "event": lambda c: c.kind == "text" and c.distinct <= _MOST_EVENTS,
    }
    for role, fits in checks.items():
        left = [column for column in columns if column not in found.values() and fits(column)]
        ranked = sorted(left, key=lambda column: _rank(role, column.name))
        if ranked and _rank(role, ranked[0].name) < len(_WORDS[role]):
            found[role] = ranked[0]
    return found


def find_by_name(columns: Sequence[Column], role: str) -> Column | None:
    """The column whose name says a role best, whatever its values."""
    ranked = sorted(columns, key=lambda column: _rank(role, column.name))
    is_named = ranked and _rank(role, ranked[0].name) < len(_WORDS[role])
    return ranked[0] if is_named else None


def find_unnamed_roles(columns: Sequence[Column]) -> dict[str, Column]:
    """The likely columns of a log without a header: time by its values, then user, item, rating."""
    times = [column for column in columns if column.unit is not None and column.distinct > 1]
    found = {"timestamp": times[0]} if times else {}
    left = [column for column in columns if column.is_key and column not in times]
    found |= dict(zip(("user", "item"), left, strict=False))
    ratings = [c for c in left[2:] if c.is_number and c.distinct <= _FEW_VALUES]
    return found | ({"rating": ratings[0]} if ratings else {})


def _rank(role: str, name: str) -> int:
    """Place of a name among the words for a role; the number of words where it is none."""
    words = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    joined = re.sub(r"[^a-z]", "", name.lower())
    core = [word for word in words if word not in ("id", "no", "nr", "key", "code", "hash")]
    for place, known in enumerate(_WORDS[role]):
        if joined in (known, f"{known}id", f"id{known}", f"{known}s", f"{known}ids"):
            return place
    for place, known in enumerate(_WORDS[role]):
        is_last = bool(core) and core[-1] == known
        if is_last and (role in ("timestamp", "rating", "event") or "id" in words):
            return place
    return len(_WORDS[role])


def _time_unit(column: pa.Array, data: DataConfig) -> TimeUnit | None:
    """The unit in which the values are times of our era, if there is one."""
    if pa.types.is_boolean(column.type) or pa.types.is_nested(column.type):
        return None
    column = column.take(pa.array(np.linspace(0, len(column) - 1, _TIME_ROWS).astype(np.int64)))
    for unit in _UNITS:
        problems = Problems(len(column))
        settings = DataConfig(timestamp_unit=unit, missing_values=data.missing_values)
        try:
            micros = clean_timestamps(column, settings, problems)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        words = sum(problems.findings.missing.get("timestamp", {}).values())
        valid = micros.filter(pa.array(problems.is_valid)).to_numpy()
        if not len(valid) or len(valid) < _MOST * (len(column) - words):
            continue
        first, last = to_datetime(int(np.min(valid))).year, to_datetime(int(np.max(valid))).year
        if first >= _FIRST_YEAR and last <= _LAST_YEAR:
            return unit
    return None


def _share(mask: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> float:
    return float(mask.mean()) if len(mask) else 0.0
