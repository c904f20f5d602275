"""Gopher's quality rules, and what they measure, in one pass over the bytes of a batch."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit
from pydantic import Field

from tokenmill.stages.quality.rules import Measures, RuleSet, columns
from tokenmill.stages.text.hash_table import FNV_BASIS, FNV_PRIME
from tokenmill.stages.text.swar import (
    HIGH,
    ONES,
    bits_before,
    continuations,
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
(WORDS, WORD_LENGTH, HASHES, ELLIPSES, BULLET_LINES, ELLIPSIS_LINES, ALPHABETIC_WORDS, STOP_WORDS) = range(8)

BULLETS = "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013-*\u00b7\u25cf"
"""Characters that start a list item."""

SLOT_BITS = 10
"""Of the table of stop words: among 1,024 slots one factor in some dozens gives each of 64 words one of its own."""
_HASH, _DOT, _LINE_FEED = b"#.\n"


class Gopher(RuleSet):
    """The quality rules of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1) with its thresholds."""

    min_words: float = Field(50, description="Least words.")
    max_words: float = Field(100_000, description="Most words.")
    min_mean_word_length: float = Field(3, description="Least mean length of words, in characters.")
    max_mean_word_length: float = Field(10, description="Greatest mean length of words, in characters.")
    max_hash_ratio: float = Field(0.1, description='Most "#" a word.')
    max_ellipsis_ratio: float = Field(0.1, description="Most ellipses a word.")
    max_bullet_lines: float = Field(0.9, description="Largest share of lines that begin with a bullet.")
    max_ellipsis_lines: float = Field(0.3, description="Largest share of lines that end with an ellipsis.")
    min_alphabetic_words: float = Field(0.8, description="Least share of words with a letter.")
    min_stop_words: float = Field(2, description="Least number of different stop words that occur.")

    def measure(self, text: pa.Array, stop_words: tuple[str, ...]) -> tuple[pa.Array, Measures]:
        """See `RuleSet`."""
        return text, columns(MEASURES, measure(text, stop_words))


def measure(text: pa.Array, stop_words: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(MEASURES)).

    Words are what white space separates; a character of a script without spaces (Chinese, Japanese, Thai, Khmer, Lao,
    Burmese) is a word. `mean_word_length`: in characters. `hash_ratio`, `ellipsis_ratio`: "#" and ellipses ("...", "…") a
    word. `bullet_lines`, `ellipsis_lines`: share of non-empty lines that start with a bullet, end with an ellipsis.
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
    # drawn, not counted up: short words that share a slot by one factor share it by all that are near
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
    """FNV-1a hashes of words as the kernel makes them."""
    hashes = []
    for word in words:
        value = FNV_BASIS
        for byte in _reduced(word):
            value = (value ^ byte) * FNV_PRIME % 2**64
        hashes.append(value)
    return np.array(hashes, np.uint64)


@njit(cache=True, nogil=True)
def _measure(
    data: Any, offsets: Any, classes: Any, bullets: Any, factor: Any, short: Any, stops: Any, longest: int
) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, len(MEASURES)))
    bounds = np.empty(MOST_BOUNDS, np.int64)
    for row in range(count):
        place, end = offsets[row], offsets[row + 1]
        words = letters = alphabetic = found = lines = bullet_lines = ellipsis_lines = 0
        seen = np.uint64(0)
        begin = close = place  # bounds of the word before
        is_ascii = _is_ascii(data[place:end])
        while place < end:
            place, found = split_words(data, place, end, classes, bounds, found)
            for number in range(found // 2):
                first, last = bounds[2 * number], bounds[2 * number + 1]
                # a line is seen where its first word is: the word before ended the last one
                if not words or _has_line_feed(data, close, first):
                    lines += 1
                    ellipsis_lines += _is_ellipsis(data, begin, close)
                    bullet_lines += _is_bullet(data, first, last, classes, bullets)
                begin, close = first, last
                words += 1
                length = last - first
                block = short_block(data, first, min(length, 8))
                alphabet, counted = _letters_and_digits(block)
                # character by character only what eight bytes do not tell: words beyond ASCII, and long ones that may be a
                # stop word still, once signs are left out
                if block & np.uint64(HIGH) or (length > 8 and counted <= longest):
                    has_letter, length, matches = _any_word(data, first, last, classes, stops)
                    alphabetic += has_letter
                    letters += length
                    seen |= matches
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
            if found % 2:  # the start of a word that continues in the next bytes
                bounds[0] = bounds[found - 1]
            found %= 2
        if not words:
            continue
        first = offsets[row]
        ellipsis_lines += _is_ellipsis(data, begin, close)
        out[row, WORDS] = words
        out[row, WORD_LENGTH] = letters / words
        out[row, HASHES] = count_byte(data, first, end, _HASH) / words
        out[row, ELLIPSES] = _ellipses(data, first, end) / words
        out[row, BULLET_LINES] = bullet_lines / lines
        out[row, ELLIPSIS_LINES] = ellipsis_lines / lines
        out[row, ALPHABETIC_WORDS] = alphabetic / words
        for number in range(len(stops)):
            out[row, STOP_WORDS] += (seen >> np.uint64(number)) & np.uint64(1)
    return out


@njit(cache=True, nogil=True)
def _is_ascii(text: Any) -> bool:
    # no branch within the loop, so that LLVM takes 32 bytes at once
    either = np.uint8(0)
    # to the end even when the answer is known: without a branch LLVM takes many bytes at once
    for byte in text:
        either |= byte
    return bool(either < 0x80)


@njit(cache=True, nogil=True, inline="always")
def _has_line_feed(data: Any, place: int, end: int) -> Any:
    # between two words there is a space, nearly always; the block may reach into the next word, which the mask leaves out
    if end - place < 8:
        inside = (np.uint64(1) << np.uint64(8 * (end - place))) - np.uint64(1)
        return mask_of(up_to_eight(data, place, len(data)), _LINE_FEED) & inside != 0
    return count_byte(data, place, end, _LINE_FEED) > 0


@njit(cache=True, nogil=True)
def _is_bullet(data: Any, first: int, end: int, classes: Any, bullets: Any) -> bool:
    """Whether a word starts with a bullet."""
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
    return end - first >= 3 and (_is_sign_of_dots(data, end - 3) or _are_dots(data, end - 3))


@njit(cache=True, nogil=True, inline="always")
def _are_dots(data: Any, place: int) -> bool:
    """Whether three dots stand at a place."""
    return bool(data[place] == _DOT and data[place + 1] == _DOT and data[place + 2] == _DOT)


@njit(cache=True, nogil=True, inline="always")
def _is_sign_of_dots(data: Any, place: int) -> bool:
    """Whether U+2026, the sign of three dots, stands at a place."""
    return bool(data[place] == 0xE2 and data[place + 1] == 0x80 and data[place + 2] == 0xA6)


@njit(cache=True, nogil=True)
def _continuations(data: Any, place: int, end: int) -> int:
    """Bytes that are not the first of their character."""
    count = 0
    while place < end:
        block = up_to_eight(data, place, end)
        count += continuations(block)
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
    kept = (mask_from(small, 97) & ~mask_from(small, 123)) | (mask_from(block, 48) & ~mask_from(block, 58))
    ahead, behind = np.uint64(8 * count_of(bits_before(kept))), np.uint64(64 - 8 * counted)
    if kept >> ahead == np.uint64(HIGH) >> behind:  # all in one piece, as nearly always
        return (block >> ahead) & (~np.uint64(0) >> behind)
    # signs within the word, as in "don't": byte by byte
    left, shift = np.uint64(0), np.uint64(0)
    for number in range(8):
        if kept >> np.uint64(8 * number + 7) & np.uint64(1):
            left |= (block >> np.uint64(8 * number) & np.uint64(0xFF)) << shift
            shift += np.uint64(8)
    return left


@njit(cache=True, nogil=True)
def _any_word(data: Any, place: int, end: int, classes: Any, stops: Any) -> tuple[bool, int, Any]:
    """Whether a word has a letter, its characters, and the stop words that it is, a bit each."""
    has_letter, length, matches = False, 0, np.uint64(0)
    value = np.uint64(FNV_BASIS)
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
                value = (value ^ byte) * np.uint64(FNV_PRIME)
        place += size
    # all are compared: two stop words that differ in signs alone are one here, and both count
    for number in range(len(stops)):
        matches |= np.uint64(stops[number] == value) << np.uint64(number)
    return has_letter, length, matches


@njit(cache=True, nogil=True)
def _ellipses(data: Any, place: int, end: int) -> int:
    """Runs of three dots or more, and signs of three dots."""
    first, ellipses = place, 0
    while place < end:
        block = up_to_eight(data, place, end)
        dots = mask_of(block, _DOT)
        # none starts where no dot follows another or ends the block, which is nearly everywhere
        if dots & (dots >> np.uint64(8)) or dots >> np.uint64(63) or (block & np.uint64(HIGH) and mask_of(block, 0xE2)):
            for at in range(place, min(place + 8, end - 2)):
                is_run = _are_dots(data, at) and (at == first or data[at - 1] != _DOT)
                ellipses += is_run or _is_sign_of_dots(data, at)
        place += 8
    return ellipses
