"""Documents as sets of shingles: the word n-grams of their normalized text, each a 32-bit hash.

Normalized means, character by character: its NFKC form where that is one character (so full-width and half-width forms are
as the usual ones), of that the lower case where it is one character; and everything that is no letter, digit or combining
mark (categories L, N, M) as a space. Words are what stands between spaces; in scripts written without them (Chinese,
Japanese, Thai, Khmer, Lao, Burmese) each character is a word. A document with fewer words than n has one shingle of them
all; one without words has none, and matches nothing.
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

ALONE = 1 << 31
"""Set in the form of a character that is a word by itself."""

FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""FNV-1a's 64-bit constants (Fowler, Noll, Vo), here over code points."""

BASE = 0x9E3779B97F4A7C15
"""Of the rolling hash (Karp and Rabin 1987) of the words in a window, modulo 2^64; odd."""


@cache
def normal_forms() -> npt.NDArray[np.uint32]:
    """What each code point is normalized to, uint32, shape (0x110000,): `SEPARATOR`, or a code point and perhaps `ALONE`."""
    forms = np.zeros(0x110000, np.uint32)
    category, normalize = unicodedata.category, unicodedata.normalize
    for code in range(0x20000):
        character = chr(code)
        if category(character)[0] in "LNM":
            normal = normalize("NFKC", character)
            normal = normal if len(normal) == 1 else character
            lower = normal.lower()
            forms[code] = ord(lower) if len(lower) == 1 else ord(normal)
    forms[0x20000:0x40000] = np.arange(0x20000, 0x40000)  # planes of Han only
    is_alone = ((character_classes()[forms] & UNSPACED) != 0) & (forms != SEPARATOR)
    forms[is_alone] |= np.uint32(ALONE)
    return forms


def shingles(text: pa.Array, size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The shingles of each document, and a digest of its normalized text.

    Returns 32-bit hashes one document after the other (repeats included), where each document's begin, int64, shape
    (documents + 1,), and the low and high halves of 128-bit digests, uint64, shape (2, documents). `size`: words in a shingle.
    """
    data, offsets = string_buffers(text)
    return _shingles(data, offsets, normal_forms(), size)


def shingle_sets(text: pa.Array, size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The set of shingles of each document: sorted, each once; and where each document's begin."""
    hashes, bounds, _ = shingles(text, size)
    counts = np.diff(bounds)
    # the document in the upper half: one sort for all of them
    ordered = np.repeat(np.arange(len(counts), dtype=np.uint64), counts) << np.uint64(32) | hashes
    ordered.sort()
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    ordered = ordered[first]
    starts = np.searchsorted(ordered, np.arange(len(bounds), dtype=np.uint64) << np.uint64(32))
    return ordered.astype(np.uint32), starts


@njit(cache=True, nogil=True, inline="always")
def _mix(value: Any) -> Any:
    """The finalizer of MurmurHash3 (Appleby), 64 bits."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ value >> np.uint64(33)


@njit(cache=True, nogil=True)
def _shingles(data: Any, offsets: Any, forms: Any, size: int) -> Any:
    count = len(offsets) - 1
    total = offsets[count] - offsets[0]
    hashes = np.empty(total // 2 + count + 1, np.uint32)  # a word and what parts it take two bytes at least
    bounds = np.zeros(count + 1, np.int64)
    digests = np.zeros((2, count), np.uint64)
    window = np.zeros(size, np.uint64)
    leaves = np.uint64(1)  # what the word that leaves the window was multiplied by
    for _ in range(size):
        leaves *= np.uint64(BASE)
    made = 0
    for row in range(count):
        words = slot = 0
        digest_low, digest_high, rolling = np.uint64(0), np.uint64(0), np.uint64(0)
        window[:] = np.uint64(0)
        place, end = offsets[row], offsets[row + 1]
        while place < end:
            low, high, length = np.uint64(FNV_OFFSET), np.uint64(0), 0
            while place < end:  # one word, and what ends it unless that is a word by itself
                if data[place] < 0x80:
                    form, step = forms[data[place]], 1
                else:
                    code, step = decode(data, place, end)
                    form = forms[code]
                if form & np.uint32(ALONE):
                    if length == 0:
                        low, high, length = (low ^ np.uint64(form)) * np.uint64(FNV_PRIME), np.uint64(form), 1
                        place += step
                    break
                place += step
                if form == SEPARATOR:
                    break
                low = (low ^ np.uint64(form)) * np.uint64(FNV_PRIME)
                high = high * np.uint64(BASE) + np.uint64(form)
                length += 1
            if length == 0:
                continue
            word = low ^ low >> np.uint64(29)
            digest_low = (digest_low ^ word) * np.uint64(0xFF51AFD7ED558CCD)
            digest_low ^= digest_low >> np.uint64(32)
            digest_high = (digest_high + high) * np.uint64(0xC4CEB9FE1A85EC53)
            digest_high ^= digest_high >> np.uint64(29)
            rolling = rolling * np.uint64(BASE) + word - window[slot] * leaves
            window[slot] = word
            slot = slot + 1 if slot + 1 < size else 0
            words += 1
            if words >= size:
                hashes[made] = np.uint32(_mix(rolling) & np.uint64(0xFFFFFFFF))
                made += 1
        if 0 < words < size:
            hashes[made] = np.uint32(_mix(rolling ^ np.uint64(words)) & np.uint64(0xFFFFFFFF))
            made += 1
        bounds[row + 1] = made
        digests[0, row], digests[1, row] = digest_low, digest_high
    return hashes[:made], bounds, digests
