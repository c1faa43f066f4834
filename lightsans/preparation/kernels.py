"""Compiled loops over the rows of a part: sorting, merging, counting, sequences, fingerprints.

Shapes:
    R rows of a part, a user's rows together   U its users   I its distinct items

Needs Numba. The files of this room say what the results mean.
"""

import numpy as np

from lightsans.arrays import Array
from lightsans.columns.kernels import MULTIPLIER, mix
from lightsans.compiling import compiled

_ZERO, _ONE, _FOUR = np.uint64(0), np.uint64(1), np.uint64(4)
_FEW = 24
"""Rows of one user and time that are compared in pairs."""


@compiled()
def order_by_time(order: Array, starts: Array, times: Array) -> None:
    """Sort each group of ``order`` by time, in place; equal times stay as they are."""
    for g in range(len(starts) - 1):
        first, end = starts[g], starts[g + 1]
        is_sorted = True
        for i in range(first + 1, end):
            if times[order[i]] < times[order[i - 1]]:
                is_sorted = False
                break
        if not is_sorted:
            rows = order[first:end].copy()
            order[first:end] = rows[np.argsort(times[rows], kind="mergesort")]


@compiled()
def find_places(
    offsets: Array, times: Array, later_offsets: Array, later_times: Array, user: Array, new: Array
) -> Array:
    """Find the places of new rows in a part: behind the rows of their user of no later time.

    Args:
        offsets: (U + 1,) where the rows of each user of the part begin.
        times: (R,) of the part.
        later_offsets: Where the rows of each user begin that come to it.
        later_times: Times of those rows.
        user: Which user of the part each is, or, of a new one, the user that it goes before.
        new: Whether the part does not know the user.

    Returns:
        The row that each of them goes before.
    """
    places = np.empty(len(later_times), np.int64)
    for u in range(len(user)):
        place = offsets[user[u]]
        for i in range(later_offsets[u], later_offsets[u + 1]):
            if not new[u]:
                end = offsets[user[u] + 1]
                place += np.searchsorted(times[place:end], later_times[i], side="right")
            places[i] = place
    return places


@compiled()
def count_repeats(offsets: Array, item: Array, times: Array) -> int:
    """Rows that repeat item and time of an earlier row of their user."""
    repeats = 0
    for u in range(len(offsets) - 1):
        first, end = offsets[u], offsets[u + 1]
        while first < end:
            last = first + 1
            while last < end and times[last] == times[first]:
                last += 1
            if last - first > _FEW:
                items = np.sort(item[first:last])
                for i in range(1, len(items)):
                    repeats += items[i] == items[i - 1]
            else:  # no copy for a user's few rows of one time, which some logs are full of
                for i in range(first + 1, last):
                    for j in range(first, i):
                        if item[j] == item[i]:
                            repeats += 1
                            break
            first = last
    return repeats


@compiled()
def first_of_each_item(offsets: Array, item: Array, num_items: int, last: bool) -> Array:
    """(R,) true for the first, or the last, of each user's rows with the same item."""
    is_kept = np.zeros(len(item), np.bool_)
    user_of = np.full(num_items, -1, np.int64)
    for u in range(len(offsets) - 1):
        for i in range(offsets[u + 1] - offsets[u]):
            row = offsets[u + 1] - 1 - i if last else offsets[u] + i
            if user_of[item[row]] != u:
                user_of[item[row]] = u
                is_kept[row] = True
    return is_kept


@compiled()
def count_alive(offsets: Array, item: Array, is_alive: Array, least: int) -> Array:
    """(I,) interactions with living items of users who have at least ``least`` of them."""
    counts = np.zeros(len(is_alive), np.int64)
    for u in range(len(offsets) - 1):
        found = 0
        for row in range(offsets[u], offsets[u + 1]):
            found += is_alive[item[row]]
        if found >= least:
            for row in range(offsets[u], offsets[u + 1]):
                counts[item[row]] += is_alive[item[row]]
    return counts


@compiled()
def derive(
    offsets: Array,
    item: Array,
    times: Array,
    is_kept: Array,
    item_id: Array,
    item_hash: Array,
    user_hash: Array,
    least: int,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Sequences, other items seen, and fingerprints of the users of a part.

    Args:
        offsets: (U + 1,) where each user's rows begin.
        item: (R,) index of the item.
        times: (R,)
        is_kept: (R,) rows that may be learnt from.
        item_id: (I,) 0 for items outside the vocabulary.
        item_hash: (I,)
        user_hash: (U,)
        least: Users with fewer interactions are not trainable.

    Returns:
        Ends of the sequences, (U,); their items; their times; ends of the lists of other items,
        (U,); those items, sorted for each user; fingerprints, (U,).
    """
    U, R = len(user_hash), len(item)
    ends, other_ends = np.empty(U, np.int64), np.empty(U, np.int64)
    ids, stamps, others = np.empty(R, np.int32), np.empty(R, np.int64), np.empty(R, np.int32)
    fingerprints = np.empty(U, np.uint64)
    user_of = np.full(len(item_id), -1, np.int64)
    n, m = 0, 0  # items of all sequences so far, and other items
    for u in range(U):
        begin, other_begin = n, m
        total, power, seen = _ZERO, _ONE, _ZERO
        # The sequence: kept rows of known items. Its hash is a polynomial of its events, each of
        # item and time, so that their order counts.
        for row in range(offsets[u], offsets[u + 1]):
            i = item[row]
            if is_kept[row] and item_id[i] > 0:
                ids[n], stamps[n] = item_id[i], times[row]
                n += 1
                user_of[i] = u
                event = mix(item_hash[i] ^ mix(np.uint64(times[row])))
                power = power * MULTIPLIER
                total += (event + _ONE) * power
        # Items met in other rows alone: each once, none that the sequence has.
        for row in range(offsets[u], offsets[u + 1]):
            i = item[row]
            if item_id[i] > 0 and user_of[i] != u:
                user_of[i] = u
                others[m] = item_id[i]
                m += 1
                seen += mix(item_hash[i])  # a set: order does not matter
        if m - other_begin > 1:
            others[other_begin:m] = np.sort(others[other_begin:m])
        # The user's fingerprint: a polynomial of four numbers, so that none stands for another.
        is_trainable = np.uint64(n - begin >= least)
        sequence = mix(total + np.uint64(n - begin))
        total, power = _ZERO, _ONE
        for field in (user_hash[u], sequence, seen, is_trainable):
            power = power * MULTIPLIER
            total += (field + _ONE) * power
        fingerprints[u] = mix(total + _FOUR)
        ends[u], other_ends[u] = n, m
    return ends, ids[:n], stamps[:n], other_ends, others[:m], fingerprints
