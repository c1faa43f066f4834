"""Columns of ``score.item_table`` that eligibility and rules ask for, read in one go."""

from dataclasses import dataclass

import pyarrow as pa

from lightsans.config import RunConfig
from lightsans.lists.tables import open_table
from lightsans.reading.columns import Wanted
from lightsans.storage.location import Location

SETTING = "score.item_table"


@dataclass(frozen=True, slots=True)
class ItemTable:
    """Rows of the item table as text, null where there is no value."""

    location: Location
    item_ids: pa.Array
    eligible: pa.Array | None
    """The column that ``score.eligible_column`` names."""
    columns: dict[str, pa.Array]
    """The columns that ``score.rules`` name."""


def read_item_table(config: RunConfig) -> ItemTable | None:
    """The columns that settings name; None where they name none.

    Raises:
        InputError: The table is missing or unreadable, or lacks a column.
    """
    score = config.score
    if score.item_table is None:
        return None
    wanted = {"item": Wanted(config.data.columns.item, "data.columns.item")}
    if score.eligible_column is not None:
        wanted["eligible"] = Wanted(score.eligible_column, "score.eligible_column")
    names = score.rules.columns
    wanted |= {f"value {name}": Wanted(name, "score.rules") for name in names}
    table = open_table(SETTING, score.item_table, config)
    found = table.read(wanted)
    columns = {name: found[f"value {name}"] for name in names}
    return ItemTable(table.location, found["item"], found.get("eligible"), columns)
