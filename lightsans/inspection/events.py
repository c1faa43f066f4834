"""Uses that the events of an unknown log likely have: the strongest is predicted, from others."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.nulls import bools
from lightsans.config.data import EventConfig
from lightsans.reading.values import Problems, clean_events, count_words

_STRENGTHS: Final = (
    ("purchase", "buy", "bought", "order", "transaction", "pay", "paid", "checkout", "conver",
     "sale", "subscribe", "install", "booking", "apply", "donat"),
    ("cart", "basket"),
    ("like", "fav", "wish", "save", "bookmark", "share", "rate", "rating", "review"),
    ("watch", "play", "listen", "read", "complete", "stream", "download", "finish"),
    ("click", "open", "select", "tap"),
    ("view", "pv", "detail", "visit", "browse", "look"),
)  # fmt: skip
"""Beginnings of words for events, those that say most about a user's wish first."""
_NO_INTEREST: Final = (
    "remove", "refund", "return", "cancel", "unlike", "dislike", "unsub", "skip", "delete", "hide",
    "ignore", "impression", "exposure", "display", "search", "login", "logout",
)  # fmt: skip
_SAME_TIME = 0.05
"""Share of targets from which on a weaker event of the same user, item and time gives them away."""
_LEAST_LETTERS = 4


@dataclass(frozen=True, slots=True)
class EventProposal:
    """Events of a sample with their counts, and what they likely count for."""

    column: str
    counts: Mapping[str, int]
    """Rows by event, the most frequent first."""
    events: dict[str, EventConfig]
    """Value of ``data.events``; empty where no name says what an event is."""
    repeats: tuple[str, ...] = ()
    """Events that come with a target at the same time, so that they give it away."""

    def remark(self) -> str:
        """A sentence about the events, and about what is proposed."""
        total = sum(self.counts.values())
        found = ", ".join(
            f"{name} {count:,} ({count / total:.1%})" for name, count in self.counts.items()
        )
        said = f"column {self.column!r} is likely the event: {found}. "
        targets = [name for name, event in self.events.items() if event.target]
        if not targets:
            return said + (
                "data.columns.event and data.events say what each counts for, such as "
                f"{{{next(iter(self.counts))}: {{input: true, target: true, seen: true}}}}"
            )
        said += f"data.events would predict {', '.join(targets)}"
        inputs = [n for n, event in self.events.items() if event.input and not event.target]
        said += f" from it and {', '.join(inputs)}" if inputs else ""
        unused = [n for n, e in self.events.items() if e == EventConfig() and n not in self.repeats]
        said += f"; {', '.join(unused)} would count for nothing" if unused else ""
        if self.repeats:
            said += (
                f"; {', '.join(self.repeats)} would count for nothing, as the same user and item "
                "have it at the time of a target, which it gives away"
            )
        return said


def propose_events(
    column: str, names: pa.Array, keys: pa.Table, missing_values: tuple[str, ...]
) -> EventProposal | None:
    """Events of a sample and what they likely count for; None where there is but one.

    Args:
        column: Name of the column.
        names: (R,) event of each row.
        keys: (R,) user, item and time.
        missing_values: Words for no event.
    """
    problems = Problems(len(names))
    cleaned = clean_events(names, missing_values, problems)
    is_there = pa.array(problems.is_valid)
    cleaned, keys = cleaned.filter(is_there), keys.filter(is_there)
    counts = dict(Counter(count_words(cleaned)).most_common())
    if len(counts) < 2:
        return None
    strengths = {name: _strength(name) for name in counts}
    known = [strength for strength in strengths.values() if 0 <= strength < len(_STRENGTHS)]
    if not known:
        return EventProposal(column, counts, {})
    targets = [name for name, strength in strengths.items() if strength == min(known)]
    inputs = [name for name, strength in strengths.items() if strength > min(known)]
    repeats = tuple(name for name in inputs if _gives_away(name, targets, cleaned, keys))
    events = {name: EventConfig(input=True, target=True, seen=True) for name in targets}
    events |= {
        name: EventConfig(input=name in inputs and name not in repeats)
        for name in counts
        if name not in targets
    }
    return EventProposal(column, counts, events, repeats)


def _strength(name: str) -> int:
    """Place among `_STRENGTHS`, one beyond the last for an unknown name; -1 for no interest."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    joined = "".join(words)

    def is_one_of(known: tuple[str, ...]) -> bool:
        return any(
            word.startswith(each) or (len(each) >= _LEAST_LETTERS and each in joined)
            for each in known
            for word in words
        )

    if is_one_of(_NO_INTEREST):
        return -1
    places = [place for place, known in enumerate(_STRENGTHS) if is_one_of(known)]
    return places[0] if places else len(_STRENGTHS)


def _gives_away(name: str, targets: list[str], names: pa.Array, keys: pa.Table) -> bool:
    """Whether many targets have this event of the same user, item and time beside them."""
    is_target = bools(pc.is_in(names, value_set=pa.array(targets)))
    is_named = bools(pc.equal(names, name))
    table = keys.append_column("target", pa.array(is_target.astype(np.int8)))
    table = table.append_column("named", pa.array(is_named.astype(np.int8)))
    grouped = table.group_by(keys.column_names).aggregate([("target", "max"), ("named", "max")])
    has_target = grouped["target_max"].to_numpy() == 1
    has_both = has_target & (grouped["named_max"].to_numpy() == 1)
    return bool(has_both.sum() > _SAME_TIME * has_target.sum())
