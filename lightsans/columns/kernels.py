"""The compiled loops of preprocessing: hashing, grouping, counting, fingerprints.

Shapes:
    R rows of a part, a user's rows together   U its users   I its distinct items
    N ids or segments                          P parts

Needs Numba. `lightsans.columns.hashing` and `lightsans.preparation` say what the results
mean.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplying loses no bits
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)
_ZERO, _ONE, _FOUR, _SIXTEEN = np.uint64(0), np.uint64(1), np.uint64(4), np.uint64(16)
_LOW, _HIGH = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000)


@njit(cache=True, nogil=True)
def mix(value: Any) -> Any:
    """One number with every input bit spread over all output bits."""
    x = value + _MULTIPLIER
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


@njit(cache=True, nogil=True)
def hash_segments(values: Array, offsets: Array) -> Array:
    """(N,) a hash of each ``values[offsets[i]:offsets[i + 1]]``, of any unsigned type."""
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(hashes)):
        total, power = _ZERO, _ONE
        for j in range(offsets[i], offsets[i + 1]):
            power = power * _MULTIPLIER
            total += (np.uint64(values[j]) + _ONE) * power
        hashes[i] = mix(total + np.uint64(offsets[i + 1] - offsets[i]))
    return hashes


@njit(cache=True, nogil=True)
def number_texts(
    data: Array, offsets: Array, hashes: Array, order: Array, starts: Array
) -> tuple[Array, Array, Array, Array]:
    """Number the distinct texts of each stretch of some rows from 0 by first appearance.

    Args:
        data: Bytes.
        offsets: (N + 1,) text i is ``data[offsets[i]:offsets[i + 1]]``.
        hashes: (N,) of the texts.
        order: (R,) the text of each row.
        starts: Where each stretch of rows begins, and the end of the last.

    Returns:
        (R,) numbers; the bytes of the texts that they stand for, stretch after stretch; where each
        text begins in them, and the end of the last; where each stretch begins among the texts.
    """
    numbers = np.empty(len(order), np.int32)
    # The texts are copied next to each other: few enough of them to compare with from the cache.
    kept, ends = np.empty(len(data), np.uint8), np.zeros(len(order) + 1, np.int64)
    kept_hashes = np.empty(len(order), np.uint64)
    kept_starts = np.zeros(len(starts), np.int64)
    first_size, total = 256, 0
    for p in range(len(starts) - 1):
        while first_size < starts[p + 1] - starts[p] and first_size < 2**16:
            first_size *= 2
        size, count = first_size, 0
        table = np.zeros(size, np.uint64)  # upper half of the hash, and number + 1
        for i in range(starts[p], starts[p + 1]):
            value, begin = hashes[order[i]], np.uint64(offsets[order[i]])
            length = np.uint64(offsets[order[i] + 1]) - begin
            slot = _slot(value, size)
            while True:
                entry = table[slot]
                if entry == _ZERO:
                    table[slot] = (value & _HIGH) | np.uint64(count + 1)
                    kept_hashes[count] = value
                    first, end = np.uint64(ends[total + count]), _ZERO
                    while end < length:
                        kept[first + end] = data[begin + end]
                        end += _ONE
                    numbers[i] = count
                    count += 1
                    ends[total + count] = first + end
                    break
                if (entry ^ value) & _HIGH == _ZERO:
                    number = np.int64(entry & _LOW) - 1
                    first = np.uint64(ends[total + number])
                    if np.uint64(ends[total + number + 1]) - first == length:
                        same = _ZERO
                        while same < length and kept[first + same] == data[begin + same]:
                            same += _ONE
                        if same == length:
                            numbers[i] = number
                            break
                slot = (slot + 1) & (size - 1)
            if 2 * count > size:
                size *= 4
                table = np.zeros(size, np.uint64)
                for known in range(count):
                    slot = _slot(kept_hashes[known], size)
                    while table[slot] != _ZERO:
                        slot = (slot + 1) & (size - 1)
                    table[slot] = (kept_hashes[known] & _HIGH) | np.uint64(known + 1)
        total += count
        kept_starts[p + 1] = total
    return numbers, kept[: ends[total]].copy(), ends[: total + 1].copy(), kept_starts


@njit(cache=True, nogil=True)
def _slot(value: Any, size: Any) -> Any:
    """Where to look first: not by the lowest bits, which users of one part share."""
    return np.int64((value >> _SIXTEEN) & np.uint64(size - 1))


@njit(cache=True, nogil=True)
def group_rows(group: Array, num_groups: int) -> tuple[Array, Array]:
    """Stable order of rows by a number below ``num_groups``, and where each group begins in it."""
    starts = np.zeros(num_groups + 1, np.int64)
    for g in group:
        starts[g + 1] += 1
    for g in range(num_groups):
        starts[g + 1] += starts[g]
    place = starts[:-1].copy()
    order = np.empty(len(group), np.int64)
    for row in range(len(group)):
        order[place[group[row]]] = row
        place[group[row]] += 1
    return order, starts


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def find_places(
    offsets: Array, times: Array, later_offsets: Array, later_times: Array, user: Array, new: Array
) -> Array:
    """Where rows go among those of a part: behind the rows of their user of no later time.

    Args:
        offsets: (U + 1,) where the rows of each user of the part begin.
        times: (R,) of the part.
        later_offsets: Where the rows of each user begin that come to it.
        later_times: Of those rows.
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


@njit(cache=True, nogil=True)
def renumber(values: Array, starts: Array, num_values: int) -> tuple[Array, Array, Array]:
    """Number the distinct values of each stretch from 0 by first appearance.

    Returns:
        The new numbers; the values that they stand for, stretch after stretch; where each
        stretch begins among those.
    """
    numbers = np.empty(len(values), np.int32)
    used = np.empty(len(values), np.int32)
    used_starts = np.zeros(len(starts), np.int64)
    stretch_of = np.full(num_values, -1, np.int32)
    number_of = np.empty(num_values, np.int32)
    count = 0
    for p in range(len(starts) - 1):
        first = count
        for row in range(starts[p], starts[p + 1]):
            value = values[row]
            if stretch_of[value] != p:
                stretch_of[value] = p
                number_of[value] = count - first
                used[count] = value
                count += 1
            numbers[row] = number_of[value]
        used_starts[p + 1] = count
    return numbers, used[:count].copy(), used_starts


@njit(cache=True, nogil=True)
def count_repeats(offsets: Array, item: Array, times: Array) -> int:
    """Rows that repeat item and time of an earlier row of their user."""
    repeats = 0
    for u in range(len(offsets) - 1):
        first, end = offsets[u], offsets[u + 1]
        while first < end:
            last = first + 1
            while last < end and times[last] == times[first]:
                last += 1
            if last - first > 1:
                items = np.sort(item[first:last])
                for i in range(1, len(items)):
                    repeats += items[i] == items[i - 1]
            first = last
    return repeats


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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
    n, m = 0, 0
    for u in range(U):
        begin, other_begin = n, m
        total, power, seen = _ZERO, _ONE, _ZERO
        for row in range(offsets[u], offsets[u + 1]):
            i = item[row]
            if is_kept[row] and item_id[i] > 0:
                ids[n], stamps[n] = item_id[i], times[row]
                n += 1
                user_of[i] = u
                event = mix(item_hash[i] ^ mix(np.uint64(times[row])))
                power = power * _MULTIPLIER
                total += (event + _ONE) * power
        for row in range(offsets[u], offsets[u + 1]):
            i = item[row]
            if item_id[i] > 0 and user_of[i] != u:
                user_of[i] = u
                others[m] = item_id[i]
                m += 1
                seen += mix(item_hash[i])  # a set: order does not matter
        if m - other_begin > 1:
            others[other_begin:m] = np.sort(others[other_begin:m])
        is_trainable = np.uint64(n - begin >= least)
        sequence = mix(total + np.uint64(n - begin))
        total, power = _ZERO, _ONE
        for field in (user_hash[u], sequence, seen, is_trainable):
            power = power * _MULTIPLIER
            total += (field + _ONE) * power
        fingerprints[u] = mix(total + _FOUR)
        ends[u], other_ends[u] = n, m
    return ends, ids[:n], stamps[:n], other_ends, others[:m], fingerprints
