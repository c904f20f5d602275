"""Rows with the same key side by side, in time that grows with the rows alone (they are not sorted as a whole).

Keys are hashes. Rows are scattered by the lowest bits of their keys into parts that fit a processor's cache, and there by the
next bits into buckets of a few (a radix sort that stops early); what is left is sorted by insertion. 16 million rows take
1.1 s, numpy's argsort of their keys 3.7 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

PART_BITS = 13
"""A part has about 2^13 rows: 128 KB of keys and rows."""

MOST_PARTS_BITS = 12
"""Rows are scattered to so many places in memory; 16 million rows, the most on average (`ids.key_ranges`), need 2^10."""

FEW = 48
"""Rows that are sorted by insertion; more by numpy."""


def grouped(keys: Keys) -> tuple[Numbers, Keys]:
    """Rows in an order that has equal keys side by side, and the keys in that order; both shape (rows,)."""
    bits = max(len(keys) // 2**PART_BITS, 1).bit_length() - 1
    order, ordered, large = _scatter(keys, min(bits, MOST_PARTS_BITS), PART_BITS - 2)
    for begin, end in large:
        by_key = np.argsort(ordered[begin:end])
        order[begin:end], ordered[begin:end] = order[begin:end][by_key], ordered[begin:end][by_key]
    return order, ordered


def sorted_groups(keys: Keys, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> tuple[Numbers, Keys]:
    """As `grouped`, rows of the same key ascending by `first`, then by `second`."""
    order, ordered = grouped(keys)
    for begin, end in _sort_runs(order, ordered, first, second):
        rows = order[begin:end]
        order[begin:end] = rows[np.lexsort((second[rows], first[rows]))]
    return order, ordered


@njit(cache=True, nogil=True)
def _starts(keys: Any, first: int, end: int, shift: Any, bits: int) -> Any:
    """Where each bucket begins, by some bits of the keys."""
    mask = np.uint64((1 << bits) - 1)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for row in range(first, end):
        starts[int((keys[row] >> shift) & mask) + 1] += 1
    starts[0] = first
    for bucket in range(1 << bits):
        starts[bucket + 1] += starts[bucket]
    return starts


@njit(cache=True, nogil=True)
def _scatter(keys: Any, part_bits: int, bucket_bits: int) -> Any:
    """Rows and keys, grouped but for the buckets of more than `FEW` different keys, whose bounds come third."""
    count = len(keys)
    rows, moved = np.empty(count, np.int64), np.empty(count, np.uint64)
    order, ordered = np.empty(count, np.int64), np.empty(count, np.uint64)
    large = [(0, 0)]  # numba cannot type an empty list; the first is cut off at the end
    nothing, shift = np.uint64(0), np.uint64(part_bits)
    # two passes, one that counts and one that moves, so that each part has its final place and nothing is linked or grown
    starts = _starts(keys, 0, count, nothing, part_bits)
    ends = starts.copy()
    mask = np.uint64((1 << part_bits) - 1)
    for row in range(count):
        part = int(keys[row] & mask)
        rows[ends[part]], moved[ends[part]] = row, keys[row]
        ends[part] += 1
    mask = np.uint64((1 << bucket_bits) - 1)
    # a part at a time from here on: its reads and writes, which are all over it, hit the cache
    for part in range(1 << part_bits):
        inner = _starts(moved, starts[part], starts[part + 1], shift, bucket_bits)
        free = inner.copy()
        for place in range(starts[part], starts[part + 1]):
            bucket = int((moved[place] >> shift) & mask)
            order[free[bucket]], ordered[free[bucket]] = rows[place], moved[place]
            free[bucket] += 1
        for bucket in range(1 << bucket_bits):
            begin, end = inner[bucket], inner[bucket + 1]
            if end - begin > FEW:
                # hashes are even, so a large bucket is one frequent key (done: it is grouped) or, seldom, crafted input; the
                # caller sorts that, since insertion takes the square of the rows
                for place in range(begin + 1, end):
                    if ordered[place] != ordered[begin]:
                        large.append((begin, end))
                        break
                continue
            # about four rows a bucket: insertion needs no more than six comparisons for them
            for place in range(begin + 1, end):
                key, row, at = ordered[place], order[place], place
                while at > begin and ordered[at - 1] > key:
                    ordered[at], order[at] = ordered[at - 1], order[at - 1]
                    at -= 1
                ordered[at], order[at] = key, row
    return order, ordered, large[1:]


@njit(cache=True, nogil=True)
def _sort_runs(order: Any, ordered: Any, first: Any, second: Any) -> Any:
    """Sorts runs of equal keys by insertion; gives back the bounds of those that are too long for it."""
    large = [(0, 0)]
    begin = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and ordered[end] == ordered[begin]:
            continue
        if end - begin > FEW:
            large.append((begin, end))
        else:
            for place in range(begin + 1, end):
                row, at = order[place], place
                while at > begin and (
                    first[order[at - 1]] > first[row]
                    or (first[order[at - 1]] == first[row] and second[order[at - 1]] > second[row])
                ):
                    order[at] = order[at - 1]
                    at -= 1
                order[at] = row
        begin = end
    return large[1:]
