"""The order in which RecBole numbers items, and weights moved from one order to another.

RecBole numbers items from 1 by their first appearance among the rows that pass its filters, in the
order of the file; a dataset of ours numbers them by falling count.

Source: RecBole 1.2.1, recbole/data/dataset/dataset.py, ``_data_processing`` (filters, then
``_remap_ID_all``, which is ``pandas.factorize``).
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from lightsans.config import DataConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.preparation.selection import select_rows

PADDING_TOKEN = "[PAD]"
ITEM_TABLE = "item_embedding.weight"


def items_by_first_appearance(
    parts: Iterable[pa.Table], vocabulary: Vocabulary, data: DataConfig, as_of: int | None = None
) -> pa.Array:
    """A dataset's raw item ids in RecBole's order, when both have the same input and filters.

    Args:
        parts: The dataset's ``interactions/``.
        vocabulary: Its items.
        data: Its filters.
        as_of: Rows from this time on, in microseconds, count for nothing.
    """
    nowhere = np.iinfo(np.int64).max
    first = np.full(vocabulary.num_items + 1, nowhere)
    for table in parts:
        if as_of is not None:
            table = table.filter(pc.less(table["timestamp"], as_of))
        rows = select_rows(table, data)
        item_id = vocabulary.encode(rows.raw_item_ids)[rows.item]
        is_kept = rows.is_kept & (item_id > 0)
        per_user = np.bincount(rows.user[is_kept], minlength=len(rows.user_ids))
        is_kept &= per_user[rows.user] >= data.min_user_interactions
        np.minimum.at(first, item_id[is_kept], table["order_key"].to_numpy()[is_kept])
    assert int(first[1:].max(initial=0)) < nowhere, "an item of the vocabulary that no row has"
    return vocabulary.raw_item_ids.take(pa.array(np.argsort(first[1:], kind="stable")))


def parse_tokens(content: bytes, name: str) -> pa.Array:
    """The items of a text file, one a line, in order of their ids; [PAD] may stand first.

    Raises:
        InputError: The file is not UTF-8, is empty, or names an item twice.
    """
    try:
        lines = content.decode("utf-8-sig").split("\n")  # other ends may be part of an id
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text ({error}); write one item a line") from error
    tokens = [line.removesuffix("\r") for line in lines]
    if tokens[-1] == "":
        tokens.pop()
    if tokens[:1] == [PADDING_TOKEN]:
        tokens = tokens[1:]
    if not tokens:
        raise InputError(f"{name}: names no item; write one item a line, in the order of their ids")
    seen: set[str] = set()
    for line, token in enumerate(tokens, 1):
        if token in seen:
            raise InputError(f"{name}: item {token!r} stands there twice, again as item {line}")
        seen.add(token)
    return pa.array(tokens, pa.string())


def reorder_items(weights: dict[str, Tensor], current: pa.Array, wanted: pa.Array) -> None:
    """Sort the rows of the item table, in place of the one in ``weights``.

    Args:
        weights: RecBole's or ours: both call it ``item_embedding.weight``.
        current: Raw ids of the rows from 1 on.
        wanted: The same ids in the order that the rows shall have.

    Raises:
        InputError: They are not the same items.
    """
    rows = pc.index_in(wanted, value_set=current)
    missing = wanted.filter(pc.is_null(rows))
    if len(missing) or len(wanted) != len(current):
        example = f", such as {missing[0].as_py()!r}" if len(missing) else ""
        raise InputError(
            f"the model has {len(current)} items and the order names {len(wanted)}, {len(missing)} "
            f"of them unknown to the model{example}; give the items that it was trained on"
        )
    order = np.concatenate([[0], rows.to_numpy(zero_copy_only=False).astype(np.int64) + 1])
    weights[ITEM_TABLE] = weights[ITEM_TABLE][torch.from_numpy(order)]
