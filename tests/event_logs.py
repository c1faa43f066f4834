"""Logs with events: what they make of a dataset, and the same by brute force."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from lightsans.config import ColumnsConfig, DataConfig, EventConfig
from lightsans.dataset.events import events_to_json
from lightsans.preparation.derive import derive_sequences
from lightsans.preparation.part_files import save_sequences
from lightsans.preparation.selection import select_rows
from lightsans.preparation.sorting import sort_interactions
from lightsans.preparation.temporal import Cutoffs
from lightsans.storage.location import Location
from tests.factories import interaction_log, local, vocabulary_of

EVERYTHING = EventConfig(input=True, target=True, seen=True)
SHOP = {
    "purchase": EventConfig(input=True, target=True, seen=True, weight=2.0),
    "view": EventConfig(input=True),
    "like": EventConfig(seen=True),
}


class Row(NamedTuple):
    user: str
    item: int
    """Its item id, too: items are numbered as they are named."""
    time: int
    event: str


def event_data(events: dict[str, EventConfig], **settings: object) -> DataConfig:
    return DataConfig(columns=ColumnsConfig(event="event"), events=events, **settings)  # type: ignore[arg-type]


def event_part(rows: list[Row], data: DataConfig) -> pa.Table:
    """The interactions of a log in one part; without ``data.events`` their events are forgotten."""
    log = interaction_log([(row.user, f"i{row.item:03}", row.time, None) for row in rows])
    if data.events:
        codes = [data.event_names.index(row.event) + 1 for row in rows]
        log = log.append_column("event", pa.array(codes, pa.int8()))
    return sort_interactions(log)


def write_part(
    path: Path, rows: list[Row], data: DataConfig, cutoffs: Cutoffs | None = None
) -> Location:
    """The sequences of a log, as a file of a dataset."""
    selected = select_rows(event_part(rows, data), data, None, cutoffs)
    items = vocabulary_of(*(f"i{item:03}" for item in range(1, max(r.item for r in rows) + 1)))
    events = events_to_json(data) if data.events else None
    table = derive_sequences(selected, items, 1, None, cutoffs, events)
    save_sequences(local(path), table)
    return local(path)


@dataclass
class Told:
    """One user's rows in order, told apart by what they count for."""

    rows: list[Row]
    events: dict[str, EventConfig]

    def inputs(self, before: int | None = None) -> list[int]:
        """Items of the inputs, of all rows or of those before a row."""
        return [row.item for row in self.rows[:before] if self.events[row.event].input]

    def targets(self) -> list[int]:
        """Places of the targets among the rows."""
        return [at for at, row in enumerate(self.rows) if self.events[row.event].target]

    def usable(self) -> list[int]:
        """Targets with an input before them."""
        return [at for at in self.targets() if self.inputs(at)]

    def trained(self, cutoffs: Cutoffs | None = None) -> list[int]:
        """Targets for training."""
        if cutoffs is not None:
            return [at for at in self.targets() if self.rows[at].time < cutoffs.valid_from]
        return self.targets()[:-2] if len(self.usable()) >= 2 else self.targets()

    def learnt(self, cutoffs: Cutoffs | None = None) -> list[tuple[tuple[int, ...], int]]:
        """Inputs and item of every target that is learnt."""
        learnt = [at for at in self.trained(cutoffs) if self.inputs(at)]
        return [(tuple(self.inputs(at)), self.rows[at].item) for at in learnt]

    def learnt_period(self, cutoffs: Cutoffs) -> bool:
        """Whether an input lies before the first cut-off of a temporal split."""
        return any(r.time < cutoffs.valid_from and self.events[r.event].input for r in self.rows)


def told_by_user(rows: list[Row], data: DataConfig) -> dict[str, Told]:
    """The users of a log; rows of a user are in order of time, and then of the input."""
    users = {row.user: Told([], data.events) for row in rows}
    for row in sorted(rows, key=lambda row: row.time):
        users[row.user].rows.append(row)
    return users


def event_rows(events: dict[str, EventConfig], *, distinct: bool) -> st.SearchStrategy[list[Row]]:
    """Short logs; with distinct items, a row is known by its item."""
    row = st.tuples(
        st.sampled_from("abc"),
        st.integers(1, 4),
        st.integers(0, 9),
        st.sampled_from(sorted(events)),
    )
    rows = st.lists(row, min_size=1, max_size=24)
    return rows.map(
        lambda found: [
            Row(user, at + 1 if distinct else item, time, event)
            for at, (user, item, time, event) in enumerate(found)
        ]
    )


def event_kinds() -> st.SearchStrategy[dict[str, EventConfig]]:
    """Uses of three events: at least one is an input, and one a target."""
    kind = st.builds(
        lambda is_input, is_target, is_seen, weight: EventConfig(
            input=is_input, target=is_target, seen=is_seen, weight=weight if is_target else 1.0
        ),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from([1.0, 2.0, 0.5]),
    )
    return st.fixed_dictionaries({"buy": kind, "view": kind, "like": kind}).filter(
        lambda events: (
            any(e.input for e in events.values()) and any(e.target for e in events.values())
        )
    )


def multiset(pairs: object) -> list[object]:
    """Anything iterable in one order."""
    return sorted(pairs, key=repr)  # type: ignore[call-overload, no-any-return]


def items_of(array: object) -> list[int]:
    """Item ids without padding."""
    return [int(item) for item in np.asarray(array).ravel() if item]
