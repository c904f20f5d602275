"""A generation hash table for numba kernels: open addressing, emptied by using a higher generation instead of by writing to it.

One table serves all documents of a batch, and clearing it for each would cost more than the short ones take. `table`: uint64,
shape (slots, 2), slots a power of two: in each the key, and the generation (high half) with a count (low half); a slot of
another generation is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

FNV_BASIS, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""Of FNV-1a with 64 bits (Fowler, Noll, Vo): `hash = (hash ^ byte) * FNV_PRIME`, from the basis on."""

ROOMY_ENTRIES = 1 << 20
"""Entries below which a table may be half empty."""


@njit(cache=True, nogil=True, inline="always")
def splitmix64(value: Any) -> Any:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014), so that every bit of a key bears on its slot."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def mask_for(entries: int) -> Any:
    """One less than the slots that so many entries need."""
    slots = 2
    # at least half empty for speed; for pages of megabytes, whose table decides a worker's memory, a quarter more than entries
    while slots < (2 * entries if entries < ROOMY_ENTRIES else entries + entries // 4):
        slots *= 2
    return np.uint64(slots - 1)


@njit(cache=True, nogil=True)
def slot_of(key: Any, generation: Any, mask: Any, table: Any) -> Any:
    """The slot of a key, or the empty one for it, in the table of this generation."""
    slot = splitmix64(key) & mask
    while table[slot, 1] >> np.uint64(32) == generation and table[slot, 0] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def times_seen(slot: Any, key: Any, generation: Any, table: Any) -> Any:
    """Counts a key in its slot, and returns how often it was counted before."""
    if table[slot, 1] >> np.uint64(32) != generation:
        table[slot, 0], table[slot, 1] = key, generation << np.uint64(32)
    table[slot, 1] += np.uint64(1)
    return np.int64(table[slot, 1] & np.uint64(0xFFFFFFFF)) - 1
