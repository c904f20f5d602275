"""What NeMo Curator's heuristic filters measure of a text's characters, words and lines, over the bytes of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.text.swar import (
    HIGH,
    bits_before,
    count_of,
    find_byte,
    mask_from,
    mask_of,
    mask_of_spaces,
    up_to_eight,
)
from tokenmill.stages.text.utf8 import DIGIT, SPACE, UNSPACED, character_classes, decode, string_buffers

CHARACTER_MEASURES = (
    "non_alphanumeric",
    "symbol_words",
    "numbers",
    "urls",
    "white_space",
    "parentheses",
    "unpunctuated_lines",
    "longest_word",
)
"""Columns of `measure_characters`, see there."""

FIELDS = (
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\n?!,.",
    b"0123456789",
    b"\t\n\r\b ",
    b"()[]{}",
)
"""Bytes that are counted, each set in a field of its own."""
FIELD_BITS = 12
MOST_AT_ONCE = (1 << FIELD_BITS) - 1


def measure_characters(text: pa.Array) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(CHARACTER_MEASURES)), as NeMo Curator's filters score it.

    Shares of characters: `non_alphanumeric` (all but ASCII letters and digits, line feeds and ? ! , .), `numbers` (decimal
    digits of any script), `urls` (from http:// or https:// on while ! or one of $ to _ or a to z follows), `white_space` (tab,
    line feed, carriage return, backspace, space), `parentheses` (round, square, curly, and U+27E8, U+27E9). `symbol_words`:
    share of words that are an ellipsis (..., [...], (...), U+2026, [U+2026], -U+00BB) or half of whose characters begin a run
    of "#". `unpunctuated_lines`: share of lines, those of white space alone left out, that do not end in . ? ! " ' and white
    space. `longest_word`: characters of the longest word. Words are those of `stages.quality.gopher`. A document without
    characters has shares of characters of 1, as there, and zeros.
    """
    data, offsets = string_buffers(text)
    return _measure(data, offsets, character_classes(), _fields())


def _fields() -> npt.NDArray[np.uint64]:
    """For each byte a one in the fields that count it, the last of which counts characters; shape (256,)."""
    fields = np.zeros(256, np.uint64)
    for number, counted in enumerate(FIELDS):
        fields[list(counted)] += np.uint64(1 << FIELD_BITS * number)
    fields[[byte for byte in range(256) if byte & 0xC0 != 0x80]] += np.uint64(1 << FIELD_BITS * len(FIELDS))
    return fields


@njit(cache=True, nogil=True)
def _measure(data: Any, offsets: Any, classes: Any, fields: Any) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, 8))
    for row in range(count):
        first, end = offsets[row], offsets[row + 1]
        if first == end:
            for column in (0, 2, 3, 4, 5):
                out[row, column] = 1
            continue
        plain, digits, spaces, brackets, characters = _counted(data, first, end, fields)
        words, symbols, longest, more_digits, more_brackets = _words(data, first, end, classes)
        out[row, 0] = (characters - plain) / characters
        out[row, 1] = symbols / words if words else 0.0
        out[row, 2] = (digits + more_digits) / characters
        out[row, 3] = _in_urls(data, first, end) / characters
        out[row, 4] = spaces / characters
        out[row, 5] = (brackets + more_brackets) / characters
        out[row, 6] = _unpunctuated(data, first, end, classes)
        out[row, 7] = longest
    return out


@njit(cache=True, nogil=True)
def _counted(data: Any, place: int, end: int, fields: Any) -> tuple[int, int, int, int, int]:
    one = two = three = four = five = 0
    while place < end:
        # five counters share a number, so that a byte takes one addition; a field overflows after `MOST_AT_ONCE` bytes
        stop = min(place + MOST_AT_ONCE, end)
        total = np.uint64(0)
        for byte in data[place:stop]:
            total += fields[byte]
        one += _field(total, 0)
        two += _field(total, 1)
        three += _field(total, 2)
        four += _field(total, 3)
        five += _field(total, 4)
        place = stop
    return one, two, three, four, five


@njit(cache=True, nogil=True, inline="always")
def _field(total: Any, number: int) -> Any:
    return np.int64(total >> np.uint64(number * FIELD_BITS) & np.uint64(MOST_AT_ONCE))


@njit(cache=True, nogil=True)
def _words(data: Any, place: int, end: int, classes: Any) -> tuple[int, int, int, int, int]:
    """Words, those that are symbols, characters of the longest, and digits and parentheses that are not ASCII."""
    words = symbols = longest = length = digits = brackets = 0
    while place < end:
        block = up_to_eight(data, place, end)
        # the last bytes as well: the zeros that fill up their block would count for a word
        if block & np.uint64(HIGH) or place + 8 > end:
            stop = min(place + 8, end)
            while place < stop:
                code, size = decode(data, place, end)
                kind = classes[code]
                # `_counted` has counted those of ASCII
                if code >= 0x80:
                    digits += kind & DIGIT != 0
                    brackets += code == 0x27E8 or code == 0x27E9
                if kind & (SPACE | UNSPACED):
                    is_word = kind & UNSPACED != 0
                    words += is_word
                    longest = max(longest, is_word)
                    length = 0
                else:
                    if not length:
                        words += 1
                        symbols += _is_symbol(data, place, end, classes)
                    length += 1
                    longest = max(longest, length)
                place += size
            continue
        spaces = mask_of_spaces(block)
        # a word begins after a space; at a block's first byte only where none is open from the block before
        begins = ~spaces & (spaces << np.uint64(8) | (np.uint64(0) if length else np.uint64(0x80))) & np.uint64(HIGH)
        words += count_of(begins >> np.uint64(7))
        begins &= (mask_from(block, 35) & ~mask_from(block, 47)) | mask_of(block, 91)  # among others # ( - . [
        while begins:
            symbols += _is_symbol(data, place + count_of(bits_before(begins)), end, classes)
            begins &= begins - np.uint64(1)
        if spaces:
            # the word that is open from the block before ends at the first space
            longest = max(longest, length + count_of(bits_before(spaces)))
            # the bytes up to the last of the spaces; words between two spaces of a block are looked at where all are short
            before = spaces | spaces >> np.uint64(8)
            before |= before >> np.uint64(16)
            before |= before >> np.uint64(32)
            length = 8 - count_of(before >> np.uint64(7))
            # between two spaces of a block stand six bytes at most
            longest = max(longest, length, _between(spaces) if longest < 6 else 0)
        else:
            length += 8
            longest = max(longest, length)
        place += 8
    return words, symbols, longest, digits, brackets


@njit(cache=True, nogil=True)
def _between(spaces: Any) -> int:
    """Bytes of the longest word between two spaces of a block."""
    longest = last = 0
    while spaces:
        place = count_of(bits_before(spaces))
        longest = max(longest, place - last)
        last = place + 1
        spaces &= spaces - np.uint64(1)
    return longest


@njit(cache=True, nogil=True)
def _is_symbol(data: Any, place: int, end: int, classes: Any) -> bool:
    """Whether the word that begins at a place is an ellipsis, or begins and ends with "#" and has one at every other place,
    which is the only way to have more runs of them than other characters."""
    begin, sign = place, 0
    characters = 0
    alternates = True
    first = second = third = other = 0
    while place < end:
        code, size = decode(data, place, end)
        if classes[code] & (SPACE | UNSPACED):
            break
        alternates &= (code == 35) == (characters % 2 == 0)
        place += size
        characters += 1
        # no ellipsis is longer than [...]: a long word is not read to its end
        if characters > 5 and not alternates:
            return False
    if alternates:
        return characters % 2 == 1
    first = data[begin]
    if characters == 1:
        return decode(data, begin, end)[0] == 0x2026
    # where the first character is not ASCII this is U+FFFD, which no ellipsis has in second place
    second, sign = decode(data, begin + 1, end)
    if characters == 2:
        return first == 45 and second == 0xBB
    third = data[begin + 1 + sign]
    is_enclosed = (first == 91 and data[place - 1] == 93) or (first == 40 and data[place - 1] == 41)
    if characters == 3:
        return (first == 46 and second == 46 and third == 46) or (first == 91 and is_enclosed and second == 0x2026)
    other = data[begin + 3] if characters == 5 else 0
    return is_enclosed and second == 46 and third == 46 and other == 46


@njit(cache=True, nogil=True)
def _in_urls(data: Any, place: int, end: int) -> int:
    """Characters in URLs."""
    total, done = 0, place
    while place < end:
        # found by their colon, of which text has few; what must stand before it is compared afterwards
        colons = mask_of(up_to_eight(data, place, end), 58)
        while colons:
            colon = place + count_of(bits_before(colons))
            colons &= colons - np.uint64(1)
            begin = colon - 4 - (data[colon - 1] == 115)
            # before `done` is a URL that is counted already, or another row's text
            if begin < done or colon + 3 >= end or data[colon + 1] != 47 or data[colon + 2] != 47:
                continue
            if data[begin] != 104 or data[begin + 1] != 116 or data[begin + 2] != 116 or data[begin + 3] != 112:
                continue
            stop = colon + 3
            while stop < end and (data[stop] == 33 or 36 <= data[stop] <= 95 or 97 <= data[stop] <= 122):
                stop += 1
            # ://, and then one more character at least, as NeMo Curator's pattern wants it
            if stop > colon + 3:
                total += stop - begin
                done = stop
        place += 8
    return total


@njit(cache=True, nogil=True)
def _unpunctuated(data: Any, place: int, end: int, classes: Any) -> float:
    lines = without = 0
    while place < end:
        stop = find_byte(data, place, end, 10)
        last = stop
        code = 32
        # from the line's end back over white space, so that a line is not decoded for its last character alone
        while last > place and classes[code] & SPACE:
            last -= 1
            while last > place and data[last] & 0xC0 == 0x80:
                last -= 1
            code = decode(data, last, end)[0]
        if not classes[code] & SPACE:
            lines += 1
            without += not (code == 46 or code == 63 or code == 33 or code == 34 or code == 39)
        place = stop + 1
    return without / lines if lines else 0.0
