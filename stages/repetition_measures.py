"""How much of a text repeats itself, in one pass over the bytes of a batch: what Gopher's repetition rules compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from stages.utf8 import SPACE, UNSPACED, character_classes, decode, string_buffers

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
REPETITION_MEASURES = (
    "duplicate_lines",
    "duplicate_paragraphs",
    "duplicate_line_characters",
    "duplicate_paragraph_characters",
    *(f"top_{size}_gram" for size in TOP_GRAMS),
    *(f"duplicate_{size}_grams" for size in DUPLICATE_GRAMS),
)
"""Columns of `measure_repetition`, see there."""

ROOMY_ENTRIES = 1 << 20
"""Words below which the table of n-grams may be half empty."""
_PRIME = 0x100000001B3
_BASIS = 0xCBF29CE484222325


def measure_repetition(text: pa.Array) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(REPETITION_MEASURES)), as datatrove's GopherRepetitionFilter does.

    `duplicate_lines`, `duplicate_paragraphs`: share of lines and paragraphs (between empty lines) that stood before.
    `..._characters`: share of the text's characters in those. `top_N_gram`: share of the characters in the most frequent
    sequence of N words, the spaces between them counted; of several as frequent, the first. `duplicate_N_grams`: share of the
    characters in sequences of N words that stood before, none counted twice. Words are what stands between white space; a
    character of a script without spaces is a word. Equality is that of 64-bit hashes. An empty document has zeros.
    """
    data, offsets = string_buffers(text)
    return _measure(data, offsets, character_classes())


@njit(cache=True, nogil=True, inline="always")
def _mixed(value: Any) -> Any:
    """The finalizer of SplitMix64 (Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def _slot_of(key: Any, stamp: Any, mask: Any, table: Any) -> Any:
    """Where a key is, or may be put, in the table of this stamp. `table`: key, and stamp (high half) with count, of a slot."""
    slot = _mixed(key) & mask
    while table[slot, 1] >> np.uint64(32) == stamp and table[slot, 0] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def _times_seen(slot: Any, key: Any, stamp: Any, table: Any) -> Any:
    """Counts a key in its slot, and says how often it was there before."""
    if table[slot, 1] >> np.uint64(32) != stamp:
        table[slot, 0], table[slot, 1] = key, stamp << np.uint64(32)
    table[slot, 1] += np.uint64(1)
    return np.int64(table[slot, 1] & np.uint64(0xFFFFFFFF)) - 1


@njit(cache=True, nogil=True)
def _mask_for(entries: int) -> Any:
    slots = 2
    # half empty for speed, but for pages of megabytes, whose table bounds what a worker takes: a quarter more than entries
    while slots < (2 * entries if entries < ROOMY_ENTRIES else entries + entries // 4):
        slots *= 2
    return np.uint64(slots - 1)


@njit(cache=True, nogil=True)
def _measure(data: Any, offsets: Any, classes: Any) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, 13))
    stamp = np.uint64(0)
    most = 0
    for row in range(count):
        most = max(most, _pieces(data, offsets[row], offsets[row + 1], classes))
    # a polynomial over the words' hashes, so that any n-gram's hash is a difference of two; and letters before each word
    prefix, letters = np.zeros(most + 1, np.uint64), np.zeros(most + 1, np.int32)
    slots = np.int64(_mask_for(most + 1)) + 1
    table, first_places = np.zeros((slots, 2), np.uint64), np.zeros(slots, np.int32)
    for row in range(count):
        first, end = offsets[row], offsets[row + 1]
        words, characters = _words(data, first, end, classes, prefix, letters)
        if not characters:
            continue
        out[row, 0], out[row, 2] = _repeated(data, first, end, 1, characters, stamp + np.uint64(1), table)
        begin, last = _stripped(data, first, end, classes)
        out[row, 1], out[row, 3] = _repeated(data, begin, last, 2, characters, stamp + np.uint64(2), table)
        stamp += np.uint64(2)
        mask = _mask_for(words + 1)
        power = np.uint64(_PRIME)
        for size in range(2, 11):
            power *= np.uint64(_PRIME)
            if size > words:
                break
            stamp += np.uint64(1)
            if size < 5:
                best = chosen = 0
                for word in range(words - size + 1):
                    key = prefix[word + size] - prefix[word] * power
                    slot = _slot_of(key, stamp, mask, table)
                    seen = _times_seen(slot, key, stamp, table) + 1
                    if seen == 1:
                        first_places[slot] = word
                    # the most frequent one, of several the one that came first
                    if seen > best or (seen == best and first_places[slot] < chosen):
                        best, chosen = seen, first_places[slot]
                out[row, 2 + size] = best * (letters[chosen + size] - letters[chosen] + size - 1) / characters
                continue
            word = repeated = 0
            while word < words - size + 1:
                key = prefix[word + size] - prefix[word] * power
                if _times_seen(_slot_of(key, stamp, mask, table), key, stamp, table):
                    repeated += letters[word + size] - letters[word]
                    word += size
                else:
                    word += 1
            out[row, 2 + size] = repeated / characters
            if not repeated:
                break  # what no five words repeat, no six do
    return out


@njit(cache=True, nogil=True)
def _pieces(data: Any, place: int, end: int, classes: Any) -> int:
    """No fewer than a text has words, and than it has lines: what decides how much memory it takes."""
    words = lines = 0
    was_space = True
    while place < end:
        code, size = decode(data, place, end)
        kind = classes[code]
        lines += code == 10
        words += (was_space and not kind & SPACE) or (kind & UNSPACED) != 0
        was_space = (kind & (SPACE | UNSPACED)) != 0
        place += size
    return max(words, lines) + 1


@njit(cache=True, nogil=True)
def _words(data: Any, place: int, end: int, classes: Any, prefix: Any, letters: Any) -> tuple[int, int]:
    """Fills both from their second entry on, and returns how many words and characters there are."""
    words = characters = length = 0
    value = np.uint64(_BASIS)
    while place <= end:
        if place < end:
            code, size = decode(data, place, end)
            characters += 1
        else:
            code, size = 10, 1  # the text's end closes its last word
        kind = classes[code]
        is_alone = kind & UNSPACED != 0
        if length and kind & (SPACE | UNSPACED):
            prefix[words + 1] = prefix[words] * np.uint64(_PRIME) + _mixed(value)
            letters[words + 1] = letters[words] + length
            words, length, value = words + 1, 0, np.uint64(_BASIS)
        if not kind & SPACE:
            for at in range(place, place + size):
                value = (value ^ np.uint64(data[at])) * np.uint64(_PRIME)
            length += 1
        if is_alone:
            prefix[words + 1] = prefix[words] * np.uint64(_PRIME) + _mixed(value)
            letters[words + 1] = letters[words] + length
            words, length, value = words + 1, 0, np.uint64(_BASIS)
        place += size
    return words, characters


@njit(cache=True, nogil=True)
def _repeated(
    data: Any, place: int, end: int, breaks: int, characters: int, stamp: Any, table: Any
) -> tuple[float, float]:
    """Of the pieces between `breaks` or more line feeds the share that stood before, and that of the text's characters."""
    pieces = repeated = letters = 0
    mask = np.uint64(len(table) - 1)
    while place < end:
        while place < end and data[place] == 10:
            place += 1
        if place == end:
            break
        value, length = np.uint64(_BASIS), 0
        while place < end:
            ahead = place
            while ahead < end and ahead - place < breaks and data[ahead] == 10:
                ahead += 1
            if ahead - place == breaks:
                break
            value = (value ^ np.uint64(data[place])) * np.uint64(_PRIME)
            length += data[place] & 0xC0 != 0x80
            place += 1
        # at the end of a text fewer line feeds than `breaks` belong to the piece, as nothing follows them
        pieces += 1
        if _times_seen(_slot_of(value, stamp, mask, table), value, stamp, table):
            repeated += 1
            letters += length
    return (repeated / pieces if pieces else 0.0), letters / characters


@njit(cache=True, nogil=True)
def _stripped(data: Any, begin: int, end: int, classes: Any) -> tuple[int, int]:
    """Where a text begins and ends without the white space around it."""
    first, last, place = end, begin, begin
    while place < end:
        code, size = decode(data, place, end)
        if not classes[code] & SPACE:
            first = min(first, place)
            last = place + size
        place += size
    return first, max(first, last)
