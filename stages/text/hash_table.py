"""A hash table for numba kernels: open addressing, emptied by raising its stamp instead of by writing to it.

`table`: uint64, shape (slots, 2), slots a power of two: in each the key, and the stamp (high half) with a count (low half).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tokenmill.model.data.permutation import FACTORS

FNV_BASIS, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""Of FNV-1a with 64 bits (Fowler, Noll, Vo): `hash = (hash ^ byte) * FNV_PRIME`, from the basis on."""

ROOMY_ENTRIES = 1 << 20
"""Entries below which a table may be half empty."""


@njit(cache=True, nogil=True, inline="always")
def mixed(value: Any) -> Any:
    """SplitMix64's finalizer: `model.data.permutation.mix` of one number, for kernels."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(FACTORS[0])
    value = (value ^ (value >> np.uint64(27))) * np.uint64(FACTORS[1])
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def mask_for(entries: int) -> Any:
    """One less than the slots that so many entries need."""
    slots = 2
    # half empty for speed, but for pages of megabytes, whose table bounds what a worker takes: a quarter more than entries
    while slots < (2 * entries if entries < ROOMY_ENTRIES else entries + entries // 4):
        slots *= 2
    return np.uint64(slots - 1)


@njit(cache=True, nogil=True)
def slot_of(key: Any, stamp: Any, mask: Any, table: Any) -> Any:
    """Where a key is, or may be put, in the table of this stamp."""
    slot = mixed(key) & mask
    # the next slot is near in memory; a slot of an older stamp is empty, and there always is one, see `mask_for`
    while table[slot, 1] >> np.uint64(32) == stamp and table[slot, 0] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def times_seen(slot: Any, key: Any, stamp: Any, table: Any) -> Any:
    """Counts a key in its slot, and says how often it was there before."""
    if table[slot, 1] >> np.uint64(32) != stamp:
        table[slot, 0], table[slot, 1] = key, stamp << np.uint64(32)
    # the count never reaches the stamp above it: no text has 2^32 entries
    table[slot, 1] += np.uint64(1)
    return np.int64(table[slot, 1] & np.uint64(0xFFFFFFFF)) - 1
