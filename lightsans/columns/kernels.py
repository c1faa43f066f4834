"""The compiled loops of preprocessing: hashing, grouping, counting, fingerprints.

Shapes:
    R rows of a part, a user's rows together   U its users   I its distinct items
    N ids or segments                          P parts

Needs Numba. `lightsans.columns.hashing` and `lightsans.preparation` say what the results
mean.
"""

from typing import Any

import numpy as np

from lightsans.arrays import Array
from lightsans.compiling import compiled

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so multiplying loses no bits."""
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)
_ZERO, _ONE, _SIXTEEN = np.uint64(0), np.uint64(1), np.uint64(16)
_SIP_0, _SIP_1 = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D)
_SIP_2, _SIP_3 = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
_13, _16, _17, _21 = np.uint64(13), np.uint64(16), np.uint64(17), np.uint64(21)
_32, _43, _47, _48 = np.uint64(32), np.uint64(43), np.uint64(47), np.uint64(48)
_51, _56, _LAST = np.uint64(51), np.uint64(56), np.uint64(255)
_LOW, _HIGH = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000)


@compiled()
def mix(value: Any) -> Any:
    """One number with every input bit spread over all output bits."""
    x = value + MULTIPLIER
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


@compiled()
def hash_segments(values: Array, offsets: Array) -> Array:
    """(N,) a hash of each ``values[offsets[i]:offsets[i + 1]]``, of any unsigned type."""
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(hashes)):
        total, power = _ZERO, _ONE
        for j in range(offsets[i], offsets[i + 1]):
            power = power * MULTIPLIER
            total += (np.uint64(values[j]) + _ONE) * power
        hashes[i] = mix(total + np.uint64(offsets[i + 1] - offsets[i]))
    return hashes


@compiled()
def keyed_hash_segments(data: Array, offsets: Array, key_0: Any, key_1: Any) -> Array:
    """(N,) SipHash-2-4 of each ``data[offsets[i]:offsets[i + 1]]``, of bytes, under a key.

    Nobody who does not know the key can find two texts of the same hash
    (Aumasson and Bernstein, 2012).
    """
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(hashes)):
        begin, end = offsets[i], offsets[i + 1]
        a, b = key_0 ^ _SIP_0, key_1 ^ _SIP_1
        c, d = key_0 ^ _SIP_2, key_1 ^ _SIP_3
        # Eight bytes at a time; the last word holds what is left, and the length in its top byte.
        for word in range((end - begin) // 8 + 1):
            first = begin + 8 * word
            last = min(first + 8, end)
            value = _ZERO
            for j in range(first, last):
                value |= np.uint64(data[j]) << np.uint64(8 * (j - first))
            if last - first < 8:
                value |= np.uint64((end - begin) & 255) << _56
            d ^= value
            a, b, c, d = _sip_round(a, b, c, d)
            a, b, c, d = _sip_round(a, b, c, d)
            a ^= value
        c ^= _LAST
        for _ in range(4):
            a, b, c, d = _sip_round(a, b, c, d)
        hashes[i] = a ^ b ^ c ^ d
    return hashes


@compiled()
def _sip_round(a: Any, b: Any, c: Any, d: Any) -> Any:
    a += b
    b = ((b << _13) | (b >> _51)) ^ a
    a = (a << _32) | (a >> _32)
    c += d
    d = ((d << _16) | (d >> _48)) ^ c
    a += d
    d = ((d << _21) | (d >> _43)) ^ a
    c += b
    b = ((b << _17) | (b >> _47)) ^ c
    c = (c << _32) | (c >> _32)
    return a, b, c, d


@compiled()
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


@compiled()
def _slot(value: Any, size: Any) -> Any:
    """First slot to probe: not by the lowest bits, which users of one part share."""
    return np.int64((value >> _SIXTEEN) & np.uint64(size - 1))


@compiled()
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


@compiled()
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
