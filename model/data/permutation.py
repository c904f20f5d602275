"""Orders that are computed, not stored: keyed permutations of 0 .. size, for every size, in constant memory.

A Feistel network over a rectangle of columns x rows >= size in the manner of Black and Rogaway ("Ciphers with arbitrary
finite domains", 2002): a round adds a hash of one coordinate to the other, which can be undone whatever the hash is, so every
round is a permutation of the rectangle. It has fewer than `columns` cells beyond `size`; an index that lands on one is permuted
again until it lands inside, which it does since a permutation's cycle leads back to where it began. The hash is SplitMix64's.
"""

from __future__ import annotations

import hashlib
import json
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
"""What SplitMix64 adds from state to state: 2^64 over the golden ratio, odd."""
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Of SplitMix64's finalizer (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""
ROUNDS = 6
_HALF = np.uint64(32)


def key_of(*parts: Any) -> int:
    """A 64-bit key of JSON-able parts; other parts have another key."""
    return int.from_bytes(hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest(), "little")


def mix(words: Words) -> Words:
    """Hashes words one by one, uint64, shape kept: SplitMix64's finalizer, a bijection."""
    # in place after the first line: fresh memory for each operation would take a quarter more time
    shifted = words >> np.uint64(30)
    words = words ^ shifted
    words *= np.uint64(FACTORS[0])
    words ^= np.right_shift(words, np.uint64(27), out=shifted)
    words *= np.uint64(FACTORS[1])
    words ^= np.right_shift(words, np.uint64(31), out=shifted)
    return words


def keys_for(key: int, numbers: npt.NDArray[np.int64]) -> Words:
    """A key for each of `numbers` (epochs, blocks, ...), uint64, shape kept, from one: SplitMix64 seeded with `key`."""
    return mix(numbers.astype(np.uint64) * np.uint64(GOLDEN) + np.uint64(key))


def permute(indices: npt.NDArray[np.int64], size: int, keys: Words) -> npt.NDArray[np.int64]:
    """The place of each index. Every key maps the indices 0 .. size to 0 .. size, each to a place of its own.

    `indices`: int64, shape (n,), each in 0 .. size (below 2^62). `keys`: uint64, shape (n,), the key of each index, or (1,).
    """
    # nearly a square, of which fewer than `columns` cells lie beyond `size`
    columns = isqrt(max(size - 1, 0)) + 1
    rows = -(-size // columns)
    places = _rounds(indices.astype(np.uint64), rows, columns, keys)
    while len(outside := np.flatnonzero(places >= size)):
        places[outside] = _rounds(places[outside], rows, columns, keys if len(keys) == 1 else keys[outside])
    return places.astype(np.int64)


def _rounds(cells: Words, rows: int, columns: int, keys: Words) -> Words:
    row, column = np.divmod(cells, np.uint64(columns))
    for number in range(ROUNDS):
        # each round hashes with a key of its own, as a Feistel network needs to be hard to tell from chance
        hashed = mix((column if number % 2 == 0 else row) + (keys + np.uint64(number * GOLDEN % 2**64)))
        if number % 2 == 0:
            row = _add(row, hashed, rows)
        else:
            column = _add(column, hashed, columns)
    return row * np.uint64(columns) + column


def _add(coordinate: Words, hashed: Words, size: int) -> Words:
    """The coordinate plus a hash, modulo `size`. Changes `hashed`.

    Instead of a remainder (division is slow) the upper half of the hash is scaled: multiplied by `size`, and halved again.
    """
    hashed >>= _HALF
    hashed *= np.uint64(size)
    hashed >>= _HALF
    hashed += coordinate
    # modulo without a branch: where the sum is below `size`, the difference wraps round to a huge number
    return np.minimum(hashed, hashed - np.uint64(size))
