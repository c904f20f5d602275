"""What the quality rules measure, in one pass over the bytes of a batch."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.text.swar import (
    HIGH,
    ONES,
    bits_before,
    count_byte,
    count_of,
    mask_from,
    mask_of,
    short_block,
    up_to_eight,
)
from tokenmill.stages.text.utf8 import ALPHABETIC, OF_WORDS, character_classes, decode, string_buffers
from tokenmill.stages.text.words import MOST_BOUNDS, split_words

MEASURES = (
    "words",
    "mean_word_length",
    "hash_ratio",
    "ellipsis_ratio",
    "bullet_lines",
    "ellipsis_lines",
    "alphabetic_words",
    "stop_words",
)
"""Columns of `measure`, see there."""

BULLETS = "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013-*\u00b7\u25cf"
"""Characters that begin a list item."""

SLOT_BITS = 10
"""Of a table in which 64 words have a slot each: one factor in some dozens gives them different ones."""
_BASIS, _PRIME = 0xCBF29CE484222325, 0x100000001B3


def measure(text: pa.Array, stop_words: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(MEASURES)).

    Words are what stands between white space; a character of a script without spaces (Chinese, Japanese, Thai, Khmer, Lao,
    Burmese) is a word. `mean_word_length`: in characters. `hash_ratio`, `ellipsis_ratio`: "#" and ellipses ("...", "…") a
    word. `bullet_lines`, `ellipsis_lines`: share of non-empty lines that begin with a bullet, end with an ellipsis.
    `alphabetic_words`: share of words with at least one letter. `stop_words`: how many of the given words (at most 64, lower
    case) occur as a word, what is no letter, digit or mark left out, ASCII letters in any case. A document without words has
    ratios of 0.
    """
    data, offsets = string_buffers(text)
    codes = np.array([ord(bullet) for bullet in BULLETS], np.int64)
    reduced = tuple(_reduced(word) for word in stop_words)
    longest = max(map(len, reduced), default=0)
    return _measure(data, offsets, character_classes(), codes, *_short_words(reduced), word_hashes(stop_words), longest)


def _reduced(word: str) -> bytes:
    """A stop word's letters, digits and marks, which are all that is compared."""
    classes = character_classes()
    return "".join(character for character in word if classes[ord(character)] & OF_WORDS).encode()


@cache
def _short_words(words: tuple[bytes, ...]) -> tuple[np.uint64, npt.NDArray[np.uint64]]:
    """A table in which each of the words that fit in eight bytes has a slot alone: what a word, as a number, is multiplied
    with to have its slot in the highest bits, and by slot the word and the bits of its places in the list, shape (slots, 2).
    """
    places: dict[int, int] = {}
    for number, word in enumerate(words):
        if len(word) <= 8:
            key = int.from_bytes(word, "little")
            places[key] = places.get(key, 0) | 1 << number
    # not one factor after the other: short words that share a slot by one share it by all that are near
    draw = Random(0)
    while True:
        factor = draw.getrandbits(64) | 1
        slots = {key: factor * key % 2**64 >> 64 - SLOT_BITS for key in places}
        if len(set(slots.values())) == len(places):
            break
    table = np.zeros((1 << SLOT_BITS, 2), np.uint64)
    for key, slot in slots.items():
        table[slot] = key, places[key]
    return np.uint64(factor), table


def word_hashes(words: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """FNV-1a hashes (Fowler, Noll, Vo) of words as the kernel makes them."""
    hashes = []
    for word in words:
        value = _BASIS
        for byte in _reduced(word):
            value = (value ^ byte) * _PRIME % 2**64
        hashes.append(value)
    return np.array(hashes, np.uint64)


@njit(cache=True, nogil=True)
def _measure(
    data: Any, offsets: Any, classes: Any, bullets: Any, factor: Any, short: Any, stops: Any, longest: int
) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, 8))
    bounds = np.empty(MOST_BOUNDS, np.int64)
    for row in range(count):
        place, end = offsets[row], offsets[row + 1]
        words = letters = alphabetic = found = lines = bullet_lines = ellipsis_lines = 0
        seen = np.uint64(0)
        begin = close = place  # of the word before
        is_ascii = _is_ascii(data[place:end])
        while place < end:
            place, found = split_words(data, place, end, classes, bounds, found)
            for number in range(found // 2):
                first, last = bounds[2 * number], bounds[2 * number + 1]
                # lines are told by their words, so that those of white space alone do not count; the word before ended
                # one
                if not words or _has_line_feed(data, close, first):
                    lines += 1
                    ellipsis_lines += _is_ellipsis(data, begin, close)
                    bullet_lines += _is_bullet(data, first, last, classes, bullets)
                begin, close = first, last
                words += 1
                length = last - first
                block = short_block(data, first, min(length, 8))
                alphabet, counted = _letters_and_digits(block)
                # not ASCII, or longer than a block but perhaps a stop word with signs: with more letters and digits
                # than the longest it cannot be one
                if block & np.uint64(HIGH) or (length > 8 and counted <= longest):
                    has_letter, length, said = _any_word(data, first, last, classes, stops)
                    alphabetic += has_letter
                    letters += length
                    seen |= said
                    continue
                if length > 8:
                    # the first letter may stand beyond the block
                    if not alphabet:
                        alphabet = np.uint64(_any_word(data, first, last, classes, stops)[0])
                    if not is_ascii:
                        # from the ninth byte on: the block before it is ASCII
                        length -= _continuations(data, first + 8, last)
                else:
                    # signs are closed up only where a stop word may be left; a word that keeps them is in no slot
                    if counted < length and counted <= longest:
                        block = _without_signs(block, counted)
                    block |= (mask_from(block, 65) & ~mask_from(block, 91)) >> np.uint64(2)  # capitals as small letters
                    # signs alone leave 0, as an empty slot holds, which has no bits
                    slot = (block * factor) >> np.uint64(64 - SLOT_BITS)
                    seen |= short[slot, 1] if short[slot, 0] == block else np.uint64(0)
                alphabetic += alphabet != 0
                letters += length
            # a word that the chunk cuts is carried over by its beginning
            if found % 2:
                bounds[0] = bounds[found - 1]
            found %= 2
        if not words:
            continue
        first = offsets[row]
        ellipsis_lines += _is_ellipsis(data, begin, close)
        out[row, 0] = words
        out[row, 1] = letters / words
        out[row, 2] = count_byte(data, first, end, 35) / words
        out[row, 3] = _ellipses(data, first, end) / words
        out[row, 4] = bullet_lines / lines
        out[row, 5] = ellipsis_lines / lines
        out[row, 6] = alphabetic / words
        for number in range(len(stops)):
            out[row, 7] += (seen >> np.uint64(number)) & np.uint64(1)
    return out


@njit(cache=True, nogil=True)
def _is_ascii(text: Any) -> bool:
    either = np.uint8(0)
    # to the end even when the answer is known: without a branch LLVM takes many bytes at once
    for byte in text:
        either |= byte
    return bool(either < 0x80)


@njit(cache=True, nogil=True, inline="always")
def _has_line_feed(data: Any, place: int, end: int) -> Any:
    # the gap between two words is short as a rule: one load. Not 8, as a shift by 64 has no defined result
    if end - place < 8:
        inside = (np.uint64(1) << np.uint64(8 * (end - place))) - np.uint64(1)
        return mask_of(up_to_eight(data, place, len(data)), 10) & inside != 0
    return count_byte(data, place, end, 10) > 0


@njit(cache=True, nogil=True)
def _is_bullet(data: Any, first: int, end: int, classes: Any, bullets: Any) -> bool:
    """Whether a word begins with a bullet."""
    code = decode(data, first, end)[0]
    # no bullet is a letter or digit, as most words begin with
    if not classes[code] & OF_WORDS:
        for bullet in bullets:
            if bullet == code:
                return True
    return False


@njit(cache=True, nogil=True)
def _is_ellipsis(data: Any, first: int, end: int) -> bool:
    """Whether a word ends with an ellipsis."""
    if end - first < 3:
        return False
    one, two, three = data[end - 3], data[end - 2], data[end - 1]
    return (one == 46 and two == 46 and three == 46) or (one == 0xE2 and two == 0x80 and three == 0xA6)


@njit(cache=True, nogil=True)
def _continuations(data: Any, place: int, end: int) -> int:
    """Bytes that are not the first of their character."""
    count = 0
    while place < end:
        block = up_to_eight(data, place, end)
        # upper bits 10; the zeros that fill up the last block are none
        count += count_of((block >> np.uint64(7)) & ~(block >> np.uint64(6)))
        place += 8
    return count


@njit(cache=True, nogil=True, inline="always")
def _letters_and_digits(block: Any) -> tuple[Any, Any]:
    """Which bytes of an ASCII block are letters, and how many are letters or digits."""
    small = block | np.uint64(0x20 * ONES)
    letters = mask_from(small, 97) & ~mask_from(small, 123)
    return letters, count_of((letters | (mask_from(block, 48) & ~mask_from(block, 58))) >> np.uint64(7))


@njit(cache=True, nogil=True)
def _without_signs(block: Any, counted: Any) -> Any:
    """The letters and digits of an ASCII block, of which there are `counted`, closed up."""
    if not counted:
        return np.uint64(0)
    small = block | np.uint64(0x20 * ONES)
    alike = (mask_from(small, 97) & ~mask_from(small, 123)) | (mask_from(block, 48) & ~mask_from(block, 58))
    # signs before and after the letters are shifted out; only those between them need the loop
    ahead, behind = np.uint64(8 * count_of(bits_before(alike))), np.uint64(64 - 8 * counted)
    if alike >> ahead == np.uint64(HIGH) >> behind:  # all in one piece, as nearly always
        return (block >> ahead) & (~np.uint64(0) >> behind)
    left, shift = np.uint64(0), np.uint64(0)
    for number in range(8):
        if alike >> np.uint64(8 * number + 7) & np.uint64(1):
            left |= (block >> np.uint64(8 * number) & np.uint64(0xFF)) << shift
            shift += np.uint64(8)
    return left


@njit(cache=True, nogil=True)
def _any_word(data: Any, place: int, end: int, classes: Any, stops: Any) -> tuple[bool, int, Any]:
    """Whether a word has a letter, its characters, and the stop words that it is, a bit each."""
    has_letter, length, said = False, 0, np.uint64(0)
    value = np.uint64(_BASIS)
    while place < end:
        code, size = decode(data, place, end)
        kind = classes[code]
        has_letter |= kind & ALPHABETIC != 0
        length += 1
        if kind & OF_WORDS:
            for at in range(place, place + size):
                byte = np.uint64(data[at])
                # as `_reduced` leaves them: the hash must be the one of `word_hashes`
                if 65 <= byte <= 90:
                    byte += np.uint64(32)
                value = (value ^ byte) * np.uint64(_PRIME)
        place += size
    # all are compared: two stop words that differ in signs alone are one here, and both count
    for number in range(len(stops)):
        said |= np.uint64(stops[number] == value) << np.uint64(number)
    return has_letter, length, said


@njit(cache=True, nogil=True)
def _ellipses(data: Any, place: int, end: int) -> int:
    """Runs of three dots or more, and signs of three dots."""
    first, ellipses = place, 0
    while place < end:
        block = up_to_eight(data, place, end)
        dots = mask_of(block, 46)
        # none begins where no dot follows another or ends the block, which is nearly everywhere
        if dots & (dots >> np.uint64(8)) or dots >> np.uint64(63) or (block & np.uint64(HIGH) and mask_of(block, 0xE2)):
            for at in range(place, min(place + 8, end - 2)):
                one, two, three = data[at], data[at + 1], data[at + 2]
                # the dot that begins a run counts, so that six are one ellipsis; before `first` is another row's text
                is_run = one == 46 and two == 46 and three == 46 and (at == first or data[at - 1] != 46)
                ellipses += is_run or (one == 0xE2 and two == 0x80 and three == 0xA6)
        place += 8
    return ellipses
