"""Documents as sets of shingles: the word n-grams of their normalized text, each a 32-bit hash.

Normalized means, character by character: its NFKC form where that is one character (so full-width and half-width forms are
as the usual ones), of that the lower case where it is one character; and everything that is no letter, digit or combining
mark (categories L, N, M) as a space. Words are what spaces separate; in scripts written without them (Chinese,
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

from tokenmill.stages.text.swar import ONES, bits_before, count_of
from tokenmill.stages.text.utf8 import UNSPACED, character_classes, decode, eight_bytes, string_buffers

SEPARATOR = 0
"""What a character that is part of no word is normalized to."""

ALONE = 1 << 31
"""Set in the form of a character that is a word by itself."""

LOW_SEED, LOW_FACTOR = 0xCBF29CE484222325, 0xFF51AFD7ED558CCD
HIGH_SEED, HIGH_FACTOR = 0x9AE16A3B2F90404F, 0xC4CEB9FE1A85EC53
"""Odd constants of the two 64-bit hashes of a word; the factors are those of MurmurHash3's finalizer (Appleby)."""

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

    Returns 32-bit hashes one document after the other (repeats included), where each document's start, int64, shape
    (documents + 1,), and the low and high halves of 128-bit digests, uint64, shape (2, documents). `size`: words in a shingle.
    """
    return _hashed(text, size, np.uint32)


def word_hashes(text: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """A 64-bit hash of each word of the normalized text of each document: uint64, one document after the other, and where each
    document's start, int64, shape (documents + 1,)."""
    hashes, bounds, _ = _hashed(text, 1, np.uint64)
    return hashes, bounds


def _hashed(text: pa.Array, size: int, dtype: Any) -> Any:
    data, offsets = string_buffers(text)
    # a word and what separates it from the next take two bytes at least
    hashes = np.empty(int(offsets[-1] - offsets[0]) // 2 + len(offsets), dtype)
    return _shingles(data, offsets, normal_forms(), size, hashes)


def shingle_sets(text: pa.Array, size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The set of shingles of each document: sorted, each once; and where each document's start."""
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


@njit(cache=True, nogil=True)
def mix(value: Any) -> Any:
    """The finalizer of MurmurHash3 (Appleby), 64 bits."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(LOW_FACTOR)
    value ^= value >> np.uint64(33)
    value *= np.uint64(HIGH_FACTOR)
    return value ^ value >> np.uint64(33)


@njit(cache=True, nogil=True)
def _ascii_word(chunk: Any) -> Any:
    """The bytes of eight before the first that is no ASCII letter or digit, in lower case, and a mask of them: 0xff each.

    The eight at once (Lamport 1975, "Multiple byte processing with full-word instructions"): adding 0x80 - k to a byte below
    0x80 sets its upper bit where it is k or more.
    """
    every = np.uint64(ONES)
    low = chunk & (every * np.uint64(0x7F))
    # this bit makes capitals small, and of nothing else a letter: @ and [ become ` and {
    folded = low | (every * np.uint64(0x20))
    letters = (folded + every * np.uint64(0x80 - 0x61)) & ~(folded + every * np.uint64(0x80 - 0x7B))
    digits = (low + every * np.uint64(0x80 - 0x30)) & ~(low + every * np.uint64(0x80 - 0x3A))
    others = ~((letters | digits) & ~chunk) & (every * np.uint64(0x80))
    mask = bits_before(others)
    lower = chunk | ((letters & (every * np.uint64(0x80))) >> np.uint64(2))
    return lower & mask, mask


@njit(cache=True, nogil=True)
def _shingles(data: Any, offsets: Any, forms: Any, size: int, hashes: Any) -> Any:
    """Fills in `hashes`, of which as many bits are kept as they have."""
    count = len(offsets) - 1
    bounds = np.zeros(count + 1, np.int64)
    digests = np.zeros((2, count), np.uint64)
    window = np.zeros(size, np.uint64)
    # the rolling hash is the sum of the words' hashes times powers of BASE, so that the word which leaves the window is taken
    # away by one multiplication, whatever the window's size
    leaving = np.uint64(1)
    for _ in range(size):
        leaving *= np.uint64(BASE)
    made = 0
    for row in range(count):
        words = slot = 0
        digest_low, digest_high, rolling = np.uint64(0), np.uint64(0), np.uint64(0)
        window[:] = np.uint64(0)
        place, end = offsets[row], offsets[row + 1]
        while place < end:
            # a word is hashed by up to eight bytes: an ASCII character is one of them, any other three
            low, high, packed, bits = np.uint64(LOW_SEED), np.uint64(HIGH_SEED), np.uint64(0), 0
            is_open = True
            # nearly all words of English are in one step: eight bytes at once, up to what ends the word
            while is_open and place + 8 <= end:
                letters, mask = _ascii_word(eight_bytes(data, place))
                taken = int(count_of(mask))
                if taken > 0:
                    if bits > 0:
                        low, high = (low ^ packed) * np.uint64(LOW_FACTOR), (high + packed) * np.uint64(HIGH_FACTOR)
                        low, high = low ^ low >> np.uint64(32), high ^ high >> np.uint64(29)
                    packed, bits = letters, 8 * taken
                    place += taken
                if taken < 8:
                    if data[place] >= 0x80:  # no end of the word, perhaps: the loop below continues with it
                        break
                    is_open = False
                    place += 1
            while is_open and place < end:
                code, step = decode(data, place, end)
                form = forms[code]
                if form & np.uint32(ALONE):
                    if bits > 0:  # ends the word before, and is read again as one itself
                        break
                    is_open = False
                place += step
                if form == SEPARATOR:
                    break
                width = 8 if form < 0x80 else 24
                if bits + width > 64:
                    low, high = (low ^ packed) * np.uint64(LOW_FACTOR), (high + packed) * np.uint64(HIGH_FACTOR)
                    low, high = low ^ low >> np.uint64(32), high ^ high >> np.uint64(29)
                    packed, bits = np.uint64(0), 0
                # the upper bit of the third byte is set, so that a character's three bytes are never those of three
                # ASCII ones
                value = np.uint64(form) if width == 8 else np.uint64(0x800000) | np.uint64(form & np.uint32(0x1FFFFF))
                packed |= value << np.uint64(bits)
                bits += width
            if bits == 0:  # separators in a row
                continue
            low, high = (low ^ packed) * np.uint64(LOW_FACTOR), (high + packed) * np.uint64(HIGH_FACTOR)
            word = low ^ low >> np.uint64(32)
            # of both hashes, 128 bits: documents of one digest are taken for exact duplicates
            digest_low = (digest_low ^ word) * np.uint64(LOW_FACTOR)
            digest_low ^= digest_low >> np.uint64(32)
            digest_high = (digest_high + (high ^ high >> np.uint64(29))) * np.uint64(HIGH_FACTOR)
            digest_high ^= digest_high >> np.uint64(29)
            rolling = rolling * np.uint64(BASE) + word - window[slot] * leaving
            window[slot] = word
            slot = slot + 1 if slot + 1 < size else 0
            words += 1
            if words >= size:
                # lower bits of a polynomial modulo 2^64 come from lower bits alone: mixed before it is cut to 32 bits
                hashes[made] = mix(rolling)
                made += 1
        # fewer words than a window: one shingle of them all, whose number keeps it from being one of a full window
        if 0 < words < size:
            # the polynomial does not tell how many words it is of: the count keeps it apart from a whole window's
            hashes[made] = mix(rolling ^ np.uint64(words))
            made += 1
        bounds[row + 1] = made
        digests[0, row], digests[1, row] = digest_low, digest_high
    return hashes[:made], bounds, digests
