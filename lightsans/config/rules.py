"""Rules over lists: what a business decides about recommendations beside the model's scores.

docs/recommendations.md says in which order they hold.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from lightsans.config.checks import CENTURY_DAYS, require
from lightsans.config.marks import Mark, made_setting, setting

MOST_BITS = 62
"""Segment rules, and quotas: each is a bit of a whole number."""
_STRICT: dict[str, Any] = {"extra": "forbid"}
"""Setting of pydantic: a name that a rule does not have is an error, as for settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemGroup:
    """Some items: those that a file lists, or those with certain values in a column."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    items: str | None = setting(None, Mark.PATH)
    """A list of raw item ids: text with one a line, or a table with ``data.columns.item``."""
    column: str | None = None
    """A column of score.item_table, compared with values, or with min and max."""
    values: tuple[str, ...] = ()
    """Items with one of these values, compared as text."""
    min: float | str | None = None
    """Items with this value or a larger one. A text compares as text, which orders ISO dates."""
    max: float | str | None = None
    """Items with this value or a smaller one."""
    separator: str | None = None
    """Text between the values of an item that has several; null: it has one."""

    def __post_init__(self) -> None:
        name = "score.rules: a group of items"
        require(
            (self.items is None) != (self.column is None),
            f"{name} needs either items, a file, or column; found items={self.items} and "
            f"column={self.column}",
        )
        has_range = self.min is not None or self.max is not None
        require(
            self.column is None or bool(self.values) != has_range,
            f"{name} by column={self.column} needs either values, or min or max; found "
            f"values={list(self.values)}, min={self.min}, max={self.max}",
        )
        require(
            self.items is None or not (self.values or has_range or self.separator),
            f"{name} that items={self.items} lists takes no values, min, max or separator: those "
            "belong to a column",
        )
        require(
            None in (self.min, self.max) or isinstance(self.min, str) == isinstance(self.max, str),
            f"{name} has min={self.min!r} and max={self.max!r}; give two numbers or two texts",
        )
        _require_separator(name, self.separator)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRule:
    """Items that a segment of the users may, or may not, be recommended."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    users: str = setting("", Mark.PATH)
    """A list of user ids: text with one a line, or a table with ``data.columns.user``."""
    allow: ItemGroup | None = None
    """Nothing but these."""
    deny: ItemGroup | None = None
    """None of these."""

    def __post_init__(self) -> None:
        require(self.users != "", "score.rules.segments: a rule needs users, a file of user ids")
        require(
            (self.allow is None) != (self.deny is None),
            f"score.rules.segments: the rule for users={self.users} needs either allow or deny",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Boost:
    """A number added to scores, by a column or by what is popular; a penalty is a negative one."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    column: str | None = None
    """A column of score.item_table."""
    recent_days: int | None = None
    """Days before the newest interaction, in place of a column: weight * log(1 + n) is added to an
    item that came up n times in them."""
    values: dict[str, float] = made_setting(dict)
    """Numbers added to the scores of items with each value; other items keep theirs."""
    weight: float | None = None
    """The column's number times this is added; null values add nothing."""
    separator: str | None = None
    """Text between the values of an item that has several: each adds its own."""

    def __post_init__(self) -> None:
        require(
            (self.column is None) != (self.recent_days is None),
            "score.rules.boosts: a boost needs either column, one of score.item_table, or "
            f"recent_days; found column={self.column} and recent_days={self.recent_days}",
        )
        by = "recent_days" if self.column is None else "column"
        name = f"score.rules.boosts: the boost by {by}={getattr(self, by)}"
        require(
            self.recent_days is None or 1 <= self.recent_days <= CENTURY_DAYS,
            f"{name} needs a number of days from 1 to {CENTURY_DAYS:,}",
        )
        require(
            self.recent_days is None or (self.weight is not None and not self.values),
            f"{name} needs a weight, such as 1.0, and no values",
        )
        require(
            bool(self.values) != (self.weight is not None),
            f"{name} needs either values, such as {{acme: 0.5}}, or a weight",
        )
        require(
            self.weight is None or self.separator is None,
            f"{name} has a separator, which goes with values, not with a weight",
        )
        for value, added in [*self.values.items(), ("weight", self.weight or 0.0)]:
            require(math.isfinite(added), f"{name} has {value}: {added}; give a finite number")
        _require_separator(name, self.separator)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """At least so many items of a group among the first ones of a list: new items, perhaps."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    group: ItemGroup
    at_least: int
    first: int
    """How many places of the list it is about, from the top."""

    def __post_init__(self) -> None:
        require(
            1 <= self.at_least <= self.first,
            f"score.rules.quotas: at_least={self.at_least} must be from 1 to first={self.first}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """At most so many items of each value of a column among the first ones of a list."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    column: str
    """A column of score.item_table; items without a value in it are not capped."""
    at_most: int
    first: int
    """How many places of the list it is about, from the top."""
    separator: str | None = None
    """Text between the values of an item that has several: it counts for each."""

    def __post_init__(self) -> None:
        name = f"score.rules.caps: the cap by column={self.column}"
        require(self.at_most >= 1, f"{name} has at_most={self.at_most}; the least is 1")
        require(
            self.first > self.at_most,
            f"{name} has first={self.first}, which at_most={self.at_most} cannot change; give a "
            "larger first",
        )
        _require_separator(name, self.separator)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """An item with a fixed place in every list where it may be recommended."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    item: str
    """Raw item id."""
    position: int
    """Place from 1, the top; or from -1, the last of score.k places."""

    def __post_init__(self) -> None:
        require(
            self.position != 0,
            f"score.rules.pins: item={self.item} has position=0; 1 is the first and -1 the last",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DiversityConfig:
    """Maximal marginal relevance: the next item is good, and unlike those above it."""

    weight: float = 0.0
    """Share of unlikeness against score: each place takes the item with the greatest
    (1 - weight) * score - weight * (greatest cosine with an item above), where the scores of the
    candidates are stretched to 0 to 1. 0 is off."""
    candidates: int = 500
    """The best items that it chooses from. More where other rules leave too few of them."""

    def __post_init__(self) -> None:
        require(
            0 <= self.weight <= 1,
            f"score.rules.diversity.weight={self.weight} is not between 0 and 1",
        )
        require(
            self.candidates >= 1,
            f"score.rules.diversity.candidates={self.candidates} is too small; the least is 1",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RulesConfig:
    """Rules over lists. They hold in this order, whatever their order in the file."""

    segments: tuple[SegmentRule, ...] = setting((), Mark.PATH)
    """Items that some users may, or may not, be recommended:
    [{users: FILE, deny: {column: age, min: 18}}]."""
    boosts: tuple[Boost, ...] = ()
    """Numbers added to scores: [{column: brand, values: {acme: 0.5}}, {recent_days: 7, weight:
    1}]."""
    quotas: tuple[Quota, ...] = ()
    """Least numbers of items of a group:
    [{group: {column: added, min: '2026-11-01'}, at_least: 2, first: 10}]."""
    caps: tuple[Cap, ...] = ()
    """Greatest numbers of items of each value: [{column: brand, at_most: 2, first: 10}]."""
    diversity: DiversityConfig = made_setting(DiversityConfig)
    pins: tuple[Pin, ...] = ()
    """Items with a fixed place: [{item: '17', position: 1}]."""

    def __post_init__(self) -> None:
        for name in ("segments", "quotas"):
            found = len(getattr(self, name))
            require(
                found <= MOST_BITS,
                f"score.rules.{name} has {found} rules; the most is {MOST_BITS}",
            )
        for first in {quota.first for quota in self.quotas}:
            wanted = sum(quota.at_least for quota in self.quotas if quota.first <= first)
            require(
                wanted <= first,
                f"score.rules.quotas want {wanted} items among the first {first}; lower at_least, "
                "or raise first",
            )
        for field in ("item", "position"):
            values = Counter(getattr(pin, field) for pin in self.pins)
            twice = [str(value) for value, number in values.items() if number > 1]
            require(
                not twice,
                f"score.rules.pins has {field} {', '.join(twice)} twice; a pin is one item in one "
                "place",
            )

    @property
    def is_empty(self) -> bool:
        """Whether no rule changes any list."""
        lists = self.segments or self.boosts or self.quotas or self.caps or self.pins
        return not lists and self.diversity.weight == 0

    @property
    def columns(self) -> list[str]:
        """Columns of the item table that rules name, each once, sorted."""
        groups = [quota.group for quota in self.quotas]
        groups += [g for rule in self.segments for g in (rule.allow, rule.deny) if g is not None]
        named = {group.column for group in groups if group.column is not None}
        named |= {boost.column for boost in self.boosts if boost.column is not None}
        named |= {cap.column for cap in self.caps}
        return sorted(named)

    @property
    def recent_days(self) -> set[int]:
        """Lengths, in days, of the windows in which boosts count interactions."""
        return {boost.recent_days for boost in self.boosts if boost.recent_days is not None}


def _require_separator(name: str, separator: str | None) -> None:
    require(separator != "", f"{name} has an empty separator; null means one value an item")
