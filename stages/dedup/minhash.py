"""MinHash signatures and the keys of their bands.

Values are bit-identical to datasketch's `MinHash(scheme="affine32")`: the shingle's 32-bit hash goes through the finalizer of
MurmurHash3, then permutation k gives a[k] * h + b[k] modulo 2^32, and the least over all shingles is value k.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

RECALL_AT_THRESHOLD = 0.92
"""What `choose_bands` asks for: the share of pairs exactly at the threshold that become candidates."""

MOST_PERMUTATIONS = 128


def match_probability(similarity: float, bands: int, rows: int) -> float:
    """Probability that two documents of this Jaccard similarity share a band: 1 - (1 - s^rows)^bands (Leskovec, Rajaraman,
    Ullman, "Mining of Massive Datasets", 3.4)."""
    return 1.0 - (1.0 - similarity**rows) ** bands


def choose_bands(similarity: float) -> tuple[int, int]:
    """Bands and rows for a threshold: as many rows as leave a recall of `RECALL_AT_THRESHOLD` at the threshold within
    `MOST_PERMUTATIONS` values (more rows, fewer false candidates), then as few bands as do. 0.8 gives 14 x 8."""
    for rows in range(32, 0, -1):
        for bands in range(1, MOST_PERMUTATIONS // rows + 1):
            if match_probability(similarity, bands, rows) >= RECALL_AT_THRESHOLD:
                return bands, rows
    return MOST_PERMUTATIONS, 1


@cache
def permutations(count: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """datasketch's multipliers and summands, uint32, shape (count,) each."""
    # 0.6 s and 40 MB (it brings SciPy) that only processes which sign documents pay, once each
    from datasketch import MinHash

    factors, summands = MinHash(num_perm=count, seed=seed, scheme="affine32").permutations
    return np.ascontiguousarray(factors, np.uint32), np.ascontiguousarray(summands, np.uint32)


def signatures(
    hashes: npt.NDArray[np.uint32], bounds: npt.NDArray[np.int64], count: int, seed: int
) -> npt.NDArray[np.uint32]:
    """MinHash values, uint32, shape (documents, count), of documents given as `stages.text.shingles.shingles` does."""
    factors, summands = permutations(count, seed)
    return _signatures(hashes, bounds, factors, summands)


def band_keys(values: npt.NDArray[np.uint32], bands: int, rows: int) -> npt.NDArray[np.uint64]:
    """A 64-bit key for each band, uint64, shape (bands, documents): band k is of the values k * rows to (k + 1) * rows."""
    return _band_keys(values, bands, rows)


@njit(cache=True, nogil=True)
def _finalized(value: Any) -> Any:
    """The finalizer of MurmurHash3 (Appleby), 32 bits."""
    value ^= value >> np.uint32(16)
    value = np.uint32(value * np.uint32(0x85EBCA6B))
    value ^= value >> np.uint32(13)
    value = np.uint32(value * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ value >> np.uint32(16))


@njit(cache=True, nogil=True)
def _signatures(hashes: Any, bounds: Any, factors: Any, summands: Any) -> Any:
    count = len(factors)
    # a document without shingles keeps the largest value everywhere, as in datasketch; the caller leaves it out
    out = np.full((len(bounds) - 1, count), np.uint32(0xFFFFFFFF), np.uint32)
    for row in range(len(bounds) - 1):
        least = out[row]
        last = bounds[row + 1] - 1
        # four shingles at a time, so that the values are loaded and stored once for the four: 6.7 ns a shingle for 112 values
        # against 12.1 one at a time. Beyond the end the last shingle stands in: the least of a set does not change by repeats
        for place in range(bounds[row], bounds[row + 1], 4):
            one = _finalized(hashes[place])
            two = _finalized(hashes[min(place + 1, last)])
            three = _finalized(hashes[min(place + 2, last)])
            four = _finalized(hashes[min(place + 3, last)])
            # shingles outside, permutations inside: neighbouring factors and values, without branches, are what LLVM turns into
            # vector instructions (8 permutations each with AVX2). 32-bit wrap-around is the modulo 2^32, and costs nothing
            for number in range(count):
                factor, summand = factors[number], summands[number]
                first = min(np.uint32(factor * one + summand), np.uint32(factor * two + summand))
                second = min(np.uint32(factor * three + summand), np.uint32(factor * four + summand))
                least[number] = min(least[number], min(first, second))
    return out


@njit(cache=True, nogil=True)
def _band_keys(values: Any, bands: int, rows: int) -> Any:
    count = values.shape[0]
    # a row a band, because each band's keys become an Arrow column
    keys = np.empty((bands, count), np.uint64)
    for row in range(count):
        for band in range(bands):
            # xor and multiply, as FNV-1a does by bytes, and a fold. With 64 bits 0.03 pairs of 10^9 documents share a key of a
            # band by chance, which costs their verification and no more
            key = np.uint64(0xCBF29CE484222325)
            for number in range(band * rows, (band + 1) * rows):
                key = (key ^ np.uint64(values[row, number])) * np.uint64(0xFF51AFD7ED558CCD)
                key ^= key >> np.uint64(32)
            keys[band, row] = key
    return keys
