"""Ranks of held-out targets in lists that somebody else made.

Shapes: E users   I items of all lists   T items of a list that are looked at
"""

from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Bool, Int64
from lightsans.columns.segments import expand
from lightsans.dataset.held_out import HeldOut
from lightsans.ranking.metrics import Ranked

UNKNOWN = 0
"""An item that the dataset does not have: it takes its place, and is nobody's target."""


@dataclass(frozen=True, slots=True)
class ItemLists:
    """Item ids of lists, best first, end to end."""

    item_ids: Int64
    """(I,) ids of the dataset or `UNKNOWN`; others come once in a list."""
    offsets: Int64
    """Beginning of each list, and the end of the last."""


def rank_in_lists(
    lists: ItemLists,
    of_user: Int64,
    held_out: HeldOut,
    *,
    num_items: int,
    remove_seen: bool,
    num_top: int,
) -> Ranked:
    """Place of every user's target in the user's list; 0, a miss, where it is not there.

    Args:
        lists: The lists.
        of_user: (E,) number of each user's list; -1 for users without one.
        held_out: Histories and targets.
        num_items: Size of the catalogue.
        remove_seen: Seen items before the target take no place in a list, unless they are the
            target.
        num_top: T of ``top``.
    """
    num_users = len(of_user)
    begin = np.where(of_user >= 0, lists.offsets[of_user], 0)
    lengths = np.where(of_user >= 0, lists.offsets[of_user + 1] - begin, 0)
    owner, rank = expand(lengths)
    items = lists.item_ids[begin[owner] + rank]
    if remove_seen:
        kept = ~_is_seen(owner, items, held_out)
        owner, items = owner[kept], items[kept]
    first = np.searchsorted(owner, np.arange(num_users))
    place = np.arange(len(owner)) - first[owner] + 1
    ranks = np.zeros(num_users, np.int64)
    is_target = (items == held_out.target_ids[owner]) & (items != UNKNOWN)
    ranks[owner[is_target]] = place[is_target]
    top = np.zeros((num_users, num_top), np.int64)
    is_top = place <= num_top
    top[owner[is_top], place[is_top] - 1] = items[is_top]
    return Ranked(ranks, np.full(num_users, num_items, np.int64), top)


def _is_seen(owner: Int64, items: Int64, held_out: HeldOut) -> Bool:
    """(I,) whether its user has seen an item before the target, which it is not."""
    seen_owner, rank = expand(held_out.lengths)
    at = held_out.starts[seen_owner] + rank
    if held_out.is_seen is not None:
        counts = held_out.is_seen[at]
        seen_owner, at = seen_owner[counts], at[counts]
    seen = held_out.item_ids[at].astype(np.int64)
    is_seen = np.isin((owner << 32) + items, (seen_owner << 32) + seen)
    found: Bool = is_seen & (items != held_out.target_ids[owner]) & (items != UNKNOWN)
    return found
