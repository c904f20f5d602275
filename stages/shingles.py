"""Documents as sets of shingles: the word n-grams of their normalized text, each a 32-bit hash.

Normalized means: lower case (each character's own Unicode lower case), full-width forms (U+FF01 to U+FF5E) as ASCII, and
everything that is no letter, digit or combining mark (categories L, N, M) as a space. Words are what stands between spaces;
in scripts written without them (Chinese, Japanese, Thai, Khmer, Lao, Burmese) each character is a word. A document with
fewer words than n has one shingle of them all; one without words has none, and matches nothing.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from stages.utf8 import UNSPACED, character_classes, decode, string_buffers

SEPARATOR = 0
"""What a character that is part of no word is normalized to."""

FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""FNV-1a's 64-bit constants (Fowler, Noll, Vo), here over code points."""

BASE = 0x9E3779B97F4A7C15
"""Of the rolling hash (Karp and Rabin 1987) of the words in a window, modulo 2^64; odd."""


@cache
def normal_forms() -> npt.NDArray[np.uint32]:
    """What each code point is normalized to, uint32, shape (0x110000,); `SEPARATOR` where it is part of no word."""
    forms = np.zeros(0x110000, np.uint32)
    category = unicodedata.category
    for code in range(0x20000):
        if category(chr(code))[0] in "LNM":
            lower = chr(code).lower()
            forms[code] = ord(lower) if len(lower) == 1 else code
    forms[0x20000:0x40000] = np.arange(0x20000, 0x40000)
    wide = np.arange(0xFF01, 0xFF5F)
    forms[wide] = forms[wide - 0xFEE0]
    return forms


def shingles(text: pa.Array, size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The shingles of each document, and a digest of its normalized text.

    Returns 32-bit hashes one document after the other (repeats included), where each document's begin, int64, shape
    (documents + 1,), and 128-bit digests, uint64, shape (documents, 2). `size`: words in a shingle.
    """
    data, offsets = string_buffers(text)
    is_unspaced = (character_classes() & UNSPACED) != 0
    return _shingles(data, offsets, normal_forms(), is_unspaced, size)


def shingle_sets(text: pa.Array, size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The set of shingles of each document: sorted, each once; and where each document's begin."""
    hashes, bounds, _ = shingles(text, size)
    return _as_sets(hashes, bounds)


@njit(cache=True, nogil=True, inline="always")
def _mix(value: Any) -> Any:
    """The finalizer of MurmurHash3 (Appleby), 64 bits."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ value >> np.uint64(33)


@njit(cache=True, nogil=True)
def _shingles(data: Any, offsets: Any, forms: Any, is_unspaced: Any, size: int) -> Any:
    count = len(offsets) - 1
    total = offsets[count] - offsets[0]
    hashes = np.empty(total // 2 + count + 1, np.uint32)  # a word and what parts it take two bytes at least
    bounds = np.zeros(count + 1, np.int64)
    digests = np.zeros((count, 2), np.uint64)
    window = np.zeros(size, np.uint64)
    leaves = np.uint64(1)  # what the word that leaves the window was multiplied by
    for _ in range(size):
        leaves *= np.uint64(BASE)
    made = 0
    for row in range(count):
        words = 0
        low, high = np.uint64(FNV_OFFSET), np.uint64(0)
        digest_low, digest_high = np.uint64(0), np.uint64(0)
        rolling = np.uint64(0)
        window[:] = np.uint64(0)
        in_word = False
        place, end = offsets[row], offsets[row + 1]
        closes = False
        while place <= end or closes:
            if closes:  # a character that is a word by itself ends where it begins
                form, unspaced, step = np.uint32(0), False, 0
            elif place < end:
                code, step = decode(data, place, end)
                form, unspaced = forms[code], is_unspaced[code]
            else:
                form, unspaced, step = np.uint32(0), False, 1
            closes = False
            if in_word and (form == 0 or unspaced):
                word = low ^ low >> np.uint64(29)
                digest_low = (digest_low ^ word) * np.uint64(0xFF51AFD7ED558CCD)
                digest_low ^= digest_low >> np.uint64(32)
                digest_high = (digest_high + high) * np.uint64(0xC4CEB9FE1A85EC53)
                digest_high ^= digest_high >> np.uint64(29)
                rolling = rolling * np.uint64(BASE) + word - window[words % size] * leaves
                window[words % size] = word
                words += 1
                if words >= size:
                    hashes[made] = np.uint32(_mix(rolling) & np.uint64(0xFFFFFFFF))
                    made += 1
                in_word = False
            if form != 0:
                if not in_word:
                    low, high, in_word = np.uint64(FNV_OFFSET), np.uint64(0), True
                low = (low ^ np.uint64(form)) * np.uint64(FNV_PRIME)
                high = high * np.uint64(BASE) + np.uint64(form)
                closes = unspaced
            place += step
        if 0 < words < size:
            hashes[made] = np.uint32(_mix(rolling ^ np.uint64(words)) & np.uint64(0xFFFFFFFF))
            made += 1
        bounds[row + 1] = made
        digests[row, 0], digests[row, 1] = digest_low, digest_high
    return hashes[:made], bounds, digests


@njit(cache=True, nogil=True)
def _as_sets(hashes: Any, bounds: Any) -> Any:
    out = np.empty(len(hashes), np.uint32)
    starts = np.zeros(len(bounds), np.int64)
    made = 0
    for row in range(len(bounds) - 1):
        ordered = np.sort(hashes[bounds[row] : bounds[row + 1]])
        for number in range(len(ordered)):
            if number == 0 or ordered[number] != ordered[number - 1]:
                out[made] = ordered[number]
                made += 1
        starts[row + 1] = made
    return out[:made], starts
