"""Columns beside lists that are computed for them: reasons, probabilities, sources of items.

With ``score.buy_again`` lists go on with the best of what ``score.remove_seen`` takes away from
them, and every item has its source.

Shapes: P pairs of a user and an item   N items of all lists
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lightsans.arrays import Bool, Float32, Float64, Int64
from lightsans.columns.segments import expand
from lightsans.config import ScoreConfig
from lightsans.probability.softmax import log_sums
from lightsans.probability.temperature import exact_scores
from lightsans.ranking.products import exact_dots
from lightsans.recommendations.list_maker import Encoded, ListMaker
from lightsans.recommendations.reasons import BECAUSE, because_field
from lightsans.recommendations.tables import make_lists, to_table

PROBABILITY, SOURCES = "probability", "item_source"
BUY_AGAIN, PINNED = "buy_again", "pinned"
"""Sources of items beside those of whole lists."""
_PAIRS = 2**15
"""Pairs whose vectors are multiplied at once."""


@dataclass(frozen=True, slots=True)
class ComputedColumns:
    """Columns that settings ask for, and what they are computed with."""

    because: int
    """Most reasons of an item; 0: no such column."""
    probability: bool
    buy_again: int
    """Most items behind a list; 0: none, and no column of sources."""
    has_events: bool
    """Whether the dataset says of each event if it is seen."""
    temperature: float | None = None
    """Temperature of the probabilities; None where there are none: then they are null."""

    @classmethod
    def of(
        cls, score: ScoreConfig, has_events: bool, temperature: float | None
    ) -> "ComputedColumns":
        """The columns that ``score`` asks for."""
        return cls(score.because, score.probability, score.buy_again, has_events, temperature)

    def fields(self, wide: pa.Schema) -> list[pa.Field]:
        """The columns in order, of wide rows: each a list beside ``item_ids``."""
        asked = [
            (self.because, because_field(wide)),
            (self.probability, pa.field(PROBABILITY, pa.list_(pa.float32()))),
            (self.buy_again, pa.field(SOURCES, pa.list_(pa.string()))),
        ]
        return [field for is_asked, field in asked if is_asked]


def recommend_with(
    list_maker: ListMaker, rows: pa.Table, schema: pa.Schema, asked: ComputedColumns
) -> pa.Table:
    """The wide table of some rows of a sequences table, with computed columns.

    Args:
        list_maker: Makes the lists.
        rows: Users with ``item_ids`` and ``also_seen``.
        schema: Schema of the wide rows without these columns.
        asked: The columns.
    """
    made = make_lists(list_maker, rows)
    return add_columns(list_maker, to_table(rows, made, schema), made.encoded, asked)


@torch.inference_mode()
def add_columns(
    list_maker: ListMaker, wide: pa.Table, encoded: Encoded, asked: ComputedColumns
) -> pa.Table:
    """Wide rows with the computed columns; see `recommend_with`.

    Args:
        list_maker: Maker of the lists.
        wide: The lists.
        encoded: Their users.
        asked: The columns.
    """
    columns = {}
    if asked.because:
        columns[BECAUSE] = list_maker.explain(encoded.histories, wide, asked.because)
    if asked.probability:
        columns[PROBABILITY] = _probabilities(list_maker, wide, encoded, asked.temperature)
    if asked.buy_again:
        columns[SOURCES] = _sources(list_maker, wide)
    fields = asked.fields(wide.schema)
    for field in fields:
        wide = wide.append_column(field, columns[field.name])
    if not asked.buy_again:
        return wide
    bought = None
    if not asked.has_events:  # what a filter removed, such as low ratings, was no purchase
        mine = encoded.histories
        bought = expand(mine.lengths)[0] << 32 | mine.item_ids.astype(np.int64)
    users, ids, scores = _seen_again(list_maker, encoded, bought, asked.buy_again)
    more = {
        "item_ids": list_maker.items.decode(ids.astype(np.int32)),
        "scores": pa.array(scores),
        SOURCES: pa.array([BUY_AGAIN] * len(users), pa.string()),
    }
    for name in ("item_ids", "scores", *(field.name for field in fields)):
        field = wide.schema.field(name)
        values = more.get(name, pa.nulls(len(users), field.type.value_type))
        behind = _behind(wide[name].combine_chunks(), users, values.cast(field.type.value_type))
        wide = wide.set_column(wide.schema.get_field_index(name), field, behind)
    return wide


def _probabilities(
    list_maker: ListMaker, wide: pa.Table, encoded: Encoded, temperature: float | None
) -> pa.ListArray:
    """Probability of every item by the model; null in lists of popular items."""
    lists, users = wide["item_ids"].combine_chunks(), encoded.users
    offsets = lists.offsets.to_numpy().astype(np.int64) - lists.offsets[0].as_py()
    found, is_null = np.zeros(offsets[-1], np.float32), np.ones(offsets[-1], bool)
    if temperature is not None:
        table_VD, scope = list_maker.item_table, list_maker.scope(encoded)
        sums_B = log_sums(encoded.vectors, table_VD, scope, 1 / temperature).cpu().numpy()
        whose, rank = expand(np.diff(offsets)[users])
        at = offsets[users][whose] + rank
        ids = list_maker.items.encode(lists.flatten()).astype(np.int64)[at]
        logs = own_scores(list_maker, encoded, whose, ids) / temperature - sums_B[whose]
        found[at], is_null[at] = np.exp(np.minimum(logs, 0.0)), False
    values = pa.array(found, mask=is_null)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def own_scores(list_maker: ListMaker, encoded: Encoded, rows: Int64, ids: Int64) -> Float64:
    """(P,) the model's scores, boosts not counted, of pairs of an encoded user and an item."""
    vectors_BD, table_VD, pieces = encoded.vectors, list_maker.item_table, [np.zeros(0)]
    for of_users, of_items in _pieces(rows, ids, vectors_BD.device):
        scores_P = exact_scores(vectors_BD[of_users], table_VD, of_items)
        pieces.append(scores_P.cpu().numpy())
    return np.concatenate(pieces)


def _pieces(
    rows: Int64, ids: Int64, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of a row and an item, as many as are multiplied at once, on a device."""
    for first in range(0, len(rows), _PAIRS):
        piece = slice(first, first + _PAIRS)
        yield torch.from_numpy(rows[piece]).to(device), torch.from_numpy(ids[piece]).to(device)


def _seen_again(
    list_maker: ListMaker, encoded: Encoded, bought: Int64 | None, most: int
) -> tuple[Int64, Int64, Float32]:
    """The best items that were taken away from each list: users, items and scores, in order.

    Args:
        list_maker: Maker of the lists.
        encoded: Their users.
        bought: Rows and items, packed, that may be bought again; None for all that were seen.
        most: Items of a user.
    """
    scope = list_maker.scope(encoded)
    pairs = torch.unique(scope.seen_rows << 32 | scope.seen_item_ids)
    rows_P, ids_P = pairs >> 32, pairs & 0xFFFFFFFF
    may_P = scope.allows(rows_P, ids_P)
    rows, ids = rows_P[may_P].cpu().numpy(), ids_P[may_P].cpu().numpy()
    if bought is not None:
        kept: Bool = np.isin(encoded.users[rows] << 32 | ids, bought)
        rows, ids = rows[kept], ids[kept]
    scores = _list_scores(list_maker, encoded, rows, ids)
    kept = scores >= list_maker.min_score
    rows, ids, scores = rows[kept], ids[kept], scores[kept]
    order = np.lexsort([ids, -scores, rows])
    rows, ids, scores = rows[order], ids[order], scores[order]
    best = np.arange(len(rows)) - np.searchsorted(rows, rows) < most
    return encoded.users[rows[best]], ids[best], scores[best]


def _list_scores(list_maker: ListMaker, encoded: Encoded, rows: Int64, ids: Int64) -> Float32:
    """(P,) scores as lists have them: boosts are one more number of an item, in an exact sum."""
    vectors_BD, table_VD = encoded.vectors.float(), list_maker.item_table.float()
    boosts_V = None if list_maker.rules is None else list_maker.rules.model.boosts
    if boosts_V is not None:
        table_VD = torch.cat([table_VD, boosts_V.to(table_VD.device)[:, None]], dim=1)
        vectors_BD = torch.cat([vectors_BD, vectors_BD.new_ones(len(vectors_BD), 1)], dim=1)
    pieces = [np.zeros(0, np.float32)]
    for of_users, of_items in _pieces(rows, ids, vectors_BD.device):
        pieces.append(exact_dots(vectors_BD[of_users], table_VD[of_items]).cpu().numpy())
    return np.concatenate(pieces)


def _sources(list_maker: ListMaker, wide: pa.Table) -> pa.ListArray:
    """The source of every item: that of its list, or a pin."""
    lists = wide["item_ids"].combine_chunks()
    items = lists.flatten()
    of_list = wide["source"].combine_chunks().take(lists.value_parent_indices())
    rules, sources = list_maker.rules, of_list
    if rules is not None:
        both = zip(
            (list_maker.items, list_maker.dataset_items), rules.pinned(list_maker.k), strict=True
        )
        for known, pins in both:  # popular lists may hold items that the model does not know
            pinned = known.decode(np.array(pins, np.int32)).cast(items.type)
            sources = pc.if_else(pc.is_in(items, value_set=pinned), PINNED, sources)
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    return pa.ListArray.from_arrays(offsets, sources)


def _behind(lists: pa.ListArray, users: Int64, more: pa.Array) -> pa.ListArray:
    """Lists with further values at their ends, of users in rising order."""
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    owners = np.concatenate([expand(lengths)[0], users])
    order = np.argsort(owners, kind="stable")
    values = pa.concat_arrays([lists.flatten(), more]).take(pa.array(order))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(lists)))])
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
