"""UTF-8 in Arrow buffers: what numba kernels need to read text without leaving it."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

ALPHABETIC, SPACE, UNSPACED, OF_WORDS = 1, 2, 4, 8
"""Classes of a character: a letter (general category L); white space; of a script written without spaces; a letter, digit or
combining mark (L, N, M), so no punctuation."""

UNSPACED_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x20000, 0x3FFFF),  # Han, further extensions
)


@cache
def character_classes() -> npt.NDArray[np.uint8]:
    """The classes of every code point, uint8, shape (0x110000,); made once a process."""
    classes = np.zeros(0x110000, np.uint8)
    for first, last in UNSPACED_RANGES:
        classes[first : last + 1] = UNSPACED
    category, is_space = unicodedata.category, str.isspace
    categories = [category(chr(code))[0] for code in range(0x20000)]
    classes[[code for code, name in enumerate(categories) if name == "L"]] |= ALPHABETIC
    classes[[code for code, name in enumerate(categories) if name in "LNM"]] |= OF_WORDS
    classes[0x20000:0x40000] |= ALPHABETIC | OF_WORDS  # planes of Han only
    classes[[code for code in range(0x3001) if is_space(chr(code))]] |= SPACE
    return classes


def string_buffers(text: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Bytes and offsets of a string array, no copy of the bytes: uint8, and int64 of shape (rows + 1,). Null is empty."""
    if text.null_count:
        text = text.fill_null("")
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1].astype(np.int64)
    if not len(text):
        bounds = np.zeros(1, np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return content, bounds


@njit(cache=True, nogil=True, inline="always")
def decode(data: Any, place: int, end: int) -> tuple[int, int]:
    """The code point at a byte and its length in bytes; for bytes that are no UTF-8, U+FFFD and 1."""
    first = data[place]
    if first < 0x80:
        return int(first), 1
    if first >= 0xF0 and place + 3 < end:
        code = (
            (first & 0x07) << 18
            | (data[place + 1] & 0x3F) << 12
            | (data[place + 2] & 0x3F) << 6
            | data[place + 3] & 0x3F
        )
        return int(code) & 0x1FFFFF if code < 0x110000 else 0xFFFD, 4
    if first >= 0xE0 and place + 2 < end:
        return int((first & 0x0F) << 12 | (data[place + 1] & 0x3F) << 6 | data[place + 2] & 0x3F), 3
    if first >= 0xC0 and place + 1 < end:
        return int((first & 0x1F) << 6 | data[place + 1] & 0x3F), 2
    return 0xFFFD, 1


@njit(cache=True, nogil=True)
def eight_bytes(data: Any, place: int) -> Any:
    """Eight bytes as one little-endian number: LLVM makes one load of it."""
    start = np.uintp(place)  # numba wraps signed indices around
    value = np.uint64(0)
    for number in range(8):
        value |= np.uint64(data[start + np.uintp(number)]) << np.uint64(8 * number)
    return value
