"""What the quality rules measure, in one pass over the bytes of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from stages.utf8 import ALPHABETIC, OF_WORDS, SPACE, UNSPACED, character_classes, decode, string_buffers

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
    return _measure(data, offsets, character_classes(), codes, word_hashes(stop_words))


def word_hashes(words: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """FNV-1a hashes (Fowler, Noll, Vo) of words as the kernel makes them."""
    classes = character_classes()
    hashes = []
    for word in words:
        value = 0xCBF29CE484222325
        for byte in "".join(character for character in word if classes[ord(character)] & OF_WORDS).encode():
            value = (value ^ byte) * 0x100000001B3 % 2**64
        hashes.append(value)
    return np.array(hashes, np.uint64)


@njit(cache=True, nogil=True)
def _measure(data: Any, offsets: Any, classes: Any, bullets: Any, stops: Any) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, 8))
    for row in range(count):
        words = letters_in_words = hashes = ellipses = alphabetic = 0
        lines = bullet_lines = ellipsis_lines = 0
        seen = np.uint64(0)
        in_word = is_alone = has_letter = False
        word_hash = np.uint64(0xCBF29CE484222325)
        line_begun = False
        dots = 0
        ends_in_ellipsis = False
        place, end = offsets[row], offsets[row + 1]
        while place <= end:
            if place < end:
                code, size = decode(data, place, end)
            else:
                code, size = 10, 1  # the text's end closes word and line
            kind = classes[code]
            if in_word and (is_alone or kind & (SPACE | UNSPACED)):
                words += 1
                alphabetic += has_letter
                for number in range(len(stops)):
                    if stops[number] == word_hash:
                        seen |= np.uint64(1) << np.uint64(number)
                in_word = has_letter = False
                word_hash = np.uint64(0xCBF29CE484222325)
            if kind & SPACE:
                dots = 0
                if code == 10:
                    if line_begun:
                        lines += 1
                        ellipsis_lines += ends_in_ellipsis
                    line_begun = ends_in_ellipsis = False
                place += size
                continue
            if not line_begun:
                line_begun = True
                for number in range(len(bullets)):
                    if bullets[number] == code:
                        bullet_lines += 1
            letters_in_words += 1
            if code == 46:
                dots += 1
                ends_in_ellipsis = dots >= 3
                ellipses += dots == 3
            else:
                dots = 0
                ends_in_ellipsis = code == 0x2026
                ellipses += code == 0x2026
                hashes += code == 35
            in_word = True
            is_alone = (kind & UNSPACED) != 0
            if kind & ALPHABETIC:
                has_letter = True
            if kind & OF_WORDS:
                for at in range(place, place + size):
                    byte = np.uint64(data[at])
                    if 65 <= byte <= 90:
                        byte += np.uint64(32)
                    word_hash = (word_hash ^ byte) * np.uint64(0x100000001B3)
            place += size
        out[row, 0] = words
        if words:
            out[row, 1] = letters_in_words / words
            out[row, 2] = hashes / words
            out[row, 3] = ellipses / words
            out[row, 6] = alphabetic / words
        if lines:
            out[row, 4] = bullet_lines / lines
            out[row, 5] = ellipsis_lines / lines
        found = 0
        for number in range(len(stops)):
            found += int(seen >> np.uint64(number) & np.uint64(1))
        out[row, 7] = found
    return out
