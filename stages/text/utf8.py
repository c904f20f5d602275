"""UTF-8 in Arrow buffers: what numba kernels need to read text without leaving it."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

ALPHABETIC, SPACE, UNSPACED, OF_WORDS, TERMINAL, DIGIT = 1, 2, 4, 8, 16, 32
"""Classes of a character, a bit each: a letter (general category L); white space; of a script written without spaces; a letter,
digit or combining mark (L, N, M), so not punctuation; punctuation that ends a sentence; a decimal digit (Nd)."""

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

TERMINAL_RANGES = (
    *((0x21, 0x21), (0x2E, 0x2E), (0x3F, 0x3F), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4), (0x700, 0x702)),
    *((0x7F9, 0x7F9), (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x964, 0x965), (0x104A, 0x104B)),
    *((0x1362, 0x1362), (0x1367, 0x1368), (0x166E, 0x166E), (0x1735, 0x1736), (0x17D4, 0x17D6), (0x17D9, 0x17DA)),
    *((0x1803, 0x1803), (0x1809, 0x1809), (0x1944, 0x1945), (0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B), (0x1B5E, 0x1B5F)),
    *((0x1B7D, 0x1B7E), (0x1C3B, 0x1C3C), (0x1C7E, 0x1C7F), (0x203C, 0x203D), (0x2047, 0x2049), (0x2E2E, 0x2E2E)),
    *((0x2E3C, 0x2E3C), (0x2E53, 0x2E54), (0x3002, 0x3002), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F), (0xA6F3, 0xA6F3)),
    *((0xA6F7, 0xA6F7), (0xA876, 0xA877), (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9), (0xAA5D, 0xAA5F)),
    *((0xAAF0, 0xAAF1), (0xABEB, 0xABEB), (0xFE52, 0xFE52), (0xFE56, 0xFE57), (0xFF01, 0xFF01), (0xFF0E, 0xFF0E)),
    *((0xFF1F, 0xFF1F), (0xFF61, 0xFF61), (0x10A56, 0x10A57), (0x10F55, 0x10F59), (0x10F86, 0x10F89)),
    *((0x11047, 0x11048), (0x110BE, 0x110C1), (0x11141, 0x11143), (0x111C5, 0x111C6), (0x111CD, 0x111CD)),
    *((0x111DE, 0x111DF), (0x11238, 0x11239), (0x1123B, 0x1123C), (0x112A9, 0x112A9), (0x1144B, 0x1144C)),
    *((0x115C2, 0x115C3), (0x115C9, 0x115D7), (0x11641, 0x11642), (0x1173C, 0x1173E), (0x11944, 0x11944)),
    *((0x11946, 0x11946), (0x11A42, 0x11A43), (0x11A9B, 0x11A9C), (0x11C41, 0x11C42), (0x11EF7, 0x11EF8)),
    *((0x11F43, 0x11F44), (0x16A6E, 0x16A6F), (0x16AF5, 0x16AF5), (0x16B37, 0x16B38), (0x16B44, 0x16B44)),
    *((0x16E98, 0x16E98), (0x1BC9F, 0x1BC9F), (0x1DA88, 0x1DA88)),
)
"""Unicode 15's property Sentence_Terminal with three signs of Khmer: the ends of lines that FineWeb counts."""


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
    # U+3000 is the last white space of Unicode
    classes[[code for code in range(0x3001) if is_space(chr(code))]] |= SPACE
    classes[[code for code in range(0x20000) if category(chr(code)) == "Nd"]] |= DIGIT
    for first, last in TERMINAL_RANGES:
        classes[first : last + 1] |= TERMINAL
    return classes


def string_buffers(text: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Bytes and offsets of a string array, no copy of the bytes: uint8, and int64 of shape (rows + 1,). Null is empty."""
    if text.null_count:
        text = text.fill_null("")
    _, offsets, data = text.buffers()
    # a slice shares the buffers of its whole array: its offsets, left as they are, need no copy of the bytes
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1].astype(np.int64)
    if not len(text):
        bounds = np.zeros(1, np.int64)
    # kernels need an array also where all rows are empty and Arrow has no buffer
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return content, bounds


@njit(cache=True, nogil=True, inline="always")
def decode(data: Any, place: int, end: int) -> tuple[int, int]:
    """The code point at a byte and its length in bytes; for a byte that cannot start a character, U+FFFD and 1."""
    # the first byte says how many follow (RFC 3629); those are not checked, since texts in Arrow strings are valid UTF-8, but
    # no byte beyond the end is read and no code point beyond the table of classes is given
    first = data[place]
    # ASCII first, then from the longest on, so that one comparison tells each length. Nothing is read beyond `end`,
    # where the next row begins; bytes that continue a character are not checked, since Arrow's strings are valid
    if first < 0x80:
        return int(first), 1
    if first >= 0xF0 and place + 3 < end:
        code = (
            (first & 0x07) << 18
            | (data[place + 1] & 0x3F) << 12
            | (data[place + 2] & 0x3F) << 6
            | data[place + 3] & 0x3F
        )
        # numba checks no bounds: a code point beyond Unicode would read past the table of classes
        return int(code) & 0x1FFFFF if code < 0x110000 else 0xFFFD, 4
    if first >= 0xE0 and place + 2 < end:
        return int((first & 0x0F) << 12 | (data[place + 1] & 0x3F) << 6 | data[place + 2] & 0x3F), 3
    if first >= 0xC0 and place + 1 < end:
        return int((first & 0x1F) << 6 | data[place + 1] & 0x3F), 2
    # one byte at least, so that every loop over characters ends
    return 0xFFFD, 1


@njit(cache=True, nogil=True, inline="always")
def last_character(data: Any, first: int, end: int) -> int:
    """Where the last character of a text that is not empty starts."""
    place = end - 1
    while place > first and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


@njit(cache=True, nogil=True)
def eight_bytes(data: Any, place: int) -> Any:
    """Eight bytes as one little-endian number: LLVM makes one load of it."""
    # unsigned, since numba tests of every signed index whether it counts from the end
    start = np.uintp(place)
    value = np.uint64(0)
    for number in range(8):
        value |= np.uint64(data[start + np.uintp(number)]) << np.uint64(8 * number)
    return value
