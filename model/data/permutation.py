"""Orders that are computed, not stored: keyed bijections of 0 .. size, for every size, in constant memory.

A Feistel network over a rectangle of columns x rows >= size in the manner of Black and Rogaway ("Ciphers with arbitrary
finite domains", 2002): a round adds a hash of one coordinate to the other, which can be undone whatever the hash is. The
fewer than `columns` cells beyond `size` are walked through until the walk comes back inside. The hash is the finalizer of
SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import hashlib
import json
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

ROUNDS = 6
_GOLDEN = 0x9E3779B97F4A7C15
_HALF = np.uint64(32)


def key_of(*parts: Any) -> int:
    """A 64-bit key from JSON-able parts; another key for other parts."""
    return int.from_bytes(hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest(), "little")


def mix(words: Words) -> Words:
    """Hashes words one by one, uint64, shape kept: SplitMix64's finalizer, a bijection."""
    shifted = words >> np.uint64(30)
    words = words ^ shifted
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= np.right_shift(words, np.uint64(27), out=shifted)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= np.right_shift(words, np.uint64(31), out=shifted)
    return words


def keys_for(key: int, numbers: npt.NDArray[np.int64]) -> Words:
    """A key for each of `numbers` (epochs, blocks, ...), uint64, shape kept, from one key."""
    return mix(numbers.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key))


def permute(indices: npt.NDArray[np.int64], size: int, keys: Words) -> npt.NDArray[np.int64]:
    """Where each index goes. For every key the indices 0 .. size go to 0 .. size, each to a place of its own.

    `indices`: int64, shape (n,), each in 0 .. size (below 2^62). `keys`: uint64, shape (n,), the key of each index, or (1,).
    """
    columns = isqrt(max(size - 1, 0)) + 1
    rows = -(-size // columns)
    places = _rounds(indices.astype(np.uint64), rows, columns, keys)
    while len(outside := np.flatnonzero(places >= size)):
        places[outside] = _rounds(places[outside], rows, columns, keys if len(keys) == 1 else keys[outside])
    return places.astype(np.int64)


def _rounds(cells: Words, rows: int, columns: int, keys: Words) -> Words:
    row, column = np.divmod(cells, np.uint64(columns))
    for number in range(ROUNDS):
        hashed = mix((column if number % 2 == 0 else row) + (keys + np.uint64(number * _GOLDEN % 2**64)))
        if number % 2 == 0:
            row = _add(row, hashed, rows)
        else:
            column = _add(column, hashed, columns)
    return row * np.uint64(columns) + column


def _add(coordinate: Words, hashed: Words, size: int) -> Words:
    """Adds the upper half of a hash, scaled to 0 .. size by multiplication (no division), round the end. Changes `hashed`."""
    hashed >>= _HALF
    hashed *= np.uint64(size)
    hashed >>= _HALF
    hashed += coordinate
    return np.minimum(hashed, hashed - np.uint64(size))  # below `size` the difference wraps round and is the larger
