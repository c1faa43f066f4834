"""Reasons for recommendations: items of a history without which a score would be lower.

An item of the newest 20 is left out, wherever it stands in the history, and the rest encoded again;
what each recommended item's score loses is the reason's weight. Weights of attention could not say
it: they do not depend on the item that is recommended.

Shapes:
    U users   D hidden size   C candidates: distinct items of the newest of all users
    I items of all lists
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lightsans.arrays import Bool, Int64, Intp
from lightsans.dataset.sequences import UserSequences
from lightsans.dataset.vocabulary import Vocabulary

BECAUSE = "because"
NEWEST = 20
"""Positions of a history whose items may be reasons."""
_USERS_AT_ONCE = 64

Encode = Callable[[UserSequences, Intp], torch.Tensor]
"""Histories and which of them -> their vectors."""


def find_reasons(
    encode: Encode,
    table_VD: torch.Tensor,
    histories: UserSequences,
    is_explained: Bool,
    item_ids: Int64,
    offsets: Int64,
    most: int,
) -> tuple[Int64, Int64]:
    """The reasons for every item of all lists, the largest loss first.

    Args:
        encode: Gives vectors of histories.
        table_VD: Item vectors.
        histories: (U,) what the model knows of each user.
        is_explained: (U,) whose lists have reasons; these users have a history.
        item_ids: (I,) lists, end to end.
        offsets: (U + 1,) where each list begins.
        most: Reasons of an item.

    Returns:
        Ids of the reasons, end to end, and how many each of the I items has.
    """
    counts = np.zeros(len(item_ids), np.int64)
    found = [np.zeros(0, np.int64)]
    users = np.flatnonzero(is_explained & (np.diff(offsets) > 0))
    for first in range(0, len(users), _USERS_AT_ONCE):
        chosen = users[first : first + _USERS_AT_ONCE]
        candidates = [_candidates(histories, user) for user in chosen]
        variants, is_empty = _without(histories, chosen, candidates)
        whole_UD = encode(histories, chosen)
        others_CD = encode(variants, np.arange(len(variants.lengths)))
        ends = np.cumsum([len(each) for each in candidates])
        for row, user in enumerate(chosen):
            mine = slice(ends[row] - len(candidates[row]), ends[row])
            own = slice(offsets[user], offsets[user + 1])
            items_ID = table_VD[torch.from_numpy(item_ids[own]).to(table_VD.device)]
            lost_IC = (items_ID @ (whole_UD[row] - others_CD[mine]).T).cpu().numpy()
            lost_IC[:, is_empty[mine]] = np.inf  # of an only item there is nothing left to encode
            order = np.argsort(-lost_IC, axis=1, kind="stable")[:, :most]
            is_reason = np.take_along_axis(lost_IC, order, axis=1) > 0
            counts[own] = is_reason.sum(axis=1)
            found.append(candidates[row][order][is_reason])
    return np.concatenate(found), counts


def reasons_of(
    encode: Encode,
    table_VD: torch.Tensor,
    items: Vocabulary,
    histories: UserSequences,
    lists: pa.ListArray,
    is_explained: Bool,
    most: int,
) -> pa.ListArray:
    """Reasons beside the items of lists, as raw ids; null for items without an explanation.

    Args:
        encode: See `find_reasons`.
        table_VD: See `find_reasons`.
        items: Raw ids of the model's items.
        histories: See `find_reasons`.
        lists: (U,) lists of raw ids.
        is_explained: See `find_reasons`.
        most: See `find_reasons`.
    """
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = items.encode(lists.flatten()).astype(np.int64)
    found, counts = find_reasons(encode, table_VD, histories, is_explained, ids, offsets, most)
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    is_null = pa.array(~np.repeat(is_explained, lengths))
    reasons = pa.ListArray.from_arrays(ends, items.decode(found.astype(np.int32)), mask=is_null)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), reasons)


def because_field(wide: pa.Schema) -> pa.Field:
    """The column of reasons of wide rows: beside each item a list of raw ids."""
    return pa.field(BECAUSE, pa.list_(wide.field("item_ids").type))


def _candidates(histories: UserSequences, user: int) -> Int64:
    """Distinct items of a user's newest positions, the newest first."""
    end = histories.offsets[user + 1]
    begin = max(histories.offsets[user], end - NEWEST)
    newest = histories.item_ids[begin:end][::-1].astype(np.int64)
    _, first = np.unique(newest, return_index=True)
    return newest[np.sort(first)]


def _without(
    histories: UserSequences, users: Intp, candidates: list[Int64]
) -> tuple[UserSequences, Bool]:
    """Histories without each of their candidates, and which of them are empty.

    Those are given their whole history instead, since there must be something to encode.
    """
    places, is_empty = [], []
    for user, items in zip(users, candidates, strict=True):
        places_of_user = np.arange(histories.offsets[user], histories.offsets[user + 1])
        history = histories.item_ids[places_of_user]
        for item in items:
            left = places_of_user[history != item]
            is_empty.append(not len(left))
            places.append(left if len(left) else places_of_user)
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in places])]).astype(np.int64)
    at = np.concatenate(places)
    times = None if histories.times is None else histories.times.select(at)
    variants = UserSequences(histories.item_ids[at], offsets, times=times)
    return variants, np.array(is_empty, bool)
