"""The rules of NeMo Curator's heuristic filters, and what they measure of a text's characters, words and lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit
from pydantic import Field

from tokenmill.stages.quality.rules import Measures, RuleSet, columns
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
from tokenmill.stages.text.utf8 import DIGIT, SPACE, UNSPACED, character_classes, decode, last_character, string_buffers

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
(NON_ALPHANUMERIC, SYMBOL_WORDS, NUMBERS, URLS, WHITE_SPACE, PARENTHESES, UNPUNCTUATED_LINES, LONGEST_WORD) = range(8)

FIELDS = (
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\n?!,.",
    b"0123456789",
    b"\t\n\r\b ",
    b"()[]{}",
)
"""Bytes that are counted, each set in a field of its own of one 64-bit number: a load and an addition a byte count them all."""
FIELD_BITS = 12
MOST_AT_ONCE = (1 << FIELD_BITS) - 1
"""Bytes that can be added up before a field may overflow."""
(
    _LINE_FEED,
    _SPACE,
    _EXCLAMATION,
    _QUOTE,
    _HASH,
    _APOSTROPHE,
    _OPEN,
    _CLOSE,
    _HYPHEN,
    _DOT,
    _SLASH,
    _COLON,
    _QUESTION,
) = b"\n !\"#'()-./:?"
_OPEN_SQUARE, _CLOSE_SQUARE, _DOLLAR, _UNDERSCORE, _A, _H, _P, _S, _T, _Z = b"[]$_ahpstz"
_ELLIPSIS, _GUILLEMET = 0x2026, 0xBB
"""U+2026, the sign of three dots, and U+00BB, the angular quotation mark."""


class NeMo(RuleSet):
    """The ratios of NeMo Curator's heuristic filters that Gopher's rules do not have already, with its thresholds (its
    documentation, "Heuristic Filtering", and config/heuristic_filter_en.yaml). Made for English."""

    max_non_alphanumeric: float = Field(
        0.25, description="NonAlphaNumericFilter: largest share of characters other than a-z, 0-9, line feeds and ?!,."
    )
    max_symbol_words: float = Field(
        0.1, description='SymbolsToWordsFilter: largest share of words that are an ellipsis or of "#".'
    )
    max_numbers: float = Field(0.15, description="NumbersFilter: largest share of characters that are digits.")
    max_urls: float = Field(0.2, description="UrlsFilter: largest share of characters in URLs.")
    max_white_space: float = Field(0.25, description="WhiteSpaceFilter: largest share of white space.")
    max_parentheses: float = Field(0.1, description="ParenthesesFilter: largest share of parentheses and brackets.")
    max_unpunctuated_lines: float = Field(
        0.85, description="PunctuationFilter: largest share of lines that do not end in . ? ! or a quote."
    )
    max_longest_word: float = Field(1000, description="LongWordFilter: most characters of a word.")

    def measure(self, text: pa.Array, stop_words: tuple[str, ...]) -> tuple[pa.Array, Measures]:
        """See `RuleSet`."""
        return text, columns(CHARACTER_MEASURES, measure_characters(text))


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
    out = np.zeros((count, len(CHARACTER_MEASURES)))
    for row in range(count):
        first, end = offsets[row], offsets[row + 1]
        if first == end:
            for column in (NON_ALPHANUMERIC, NUMBERS, URLS, WHITE_SPACE, PARENTHESES):
                out[row, column] = 1
            continue
        plain, digits, spaces, brackets, characters = _counted(data, first, end, fields)
        words, symbols, longest, more_digits, more_brackets = _words(data, first, end, classes)
        out[row, NON_ALPHANUMERIC] = (characters - plain) / characters
        out[row, SYMBOL_WORDS] = symbols / words if words else 0.0
        out[row, NUMBERS] = (digits + more_digits) / characters
        out[row, URLS] = _in_urls(data, first, end) / characters
        out[row, WHITE_SPACE] = spaces / characters
        out[row, PARENTHESES] = (brackets + more_brackets) / characters
        out[row, UNPUNCTUATED_LINES] = _unpunctuated(data, first, end, classes)
        out[row, LONGEST_WORD] = longest
    return out


@njit(cache=True, nogil=True)
def _counted(data: Any, place: int, end: int, fields: Any) -> tuple[int, int, int, int, int]:
    """How many bytes are in each of `FIELDS`, and characters."""
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
                    brackets += code == 0x27E8 or code == 0x27E9  # mathematical angle brackets
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
        starts = ~spaces & (spaces << np.uint64(8) | (np.uint64(0) if length else np.uint64(0x80))) & np.uint64(HIGH)
        words += count_of(starts >> np.uint64(7))
        # of the words only those are looked at that start with # ( - . or [, as symbols do (and with some signs between these)
        starts &= (mask_from(block, _HASH) & ~mask_from(block, _SLASH)) | mask_of(block, _OPEN_SQUARE)
        while starts:
            symbols += _is_symbol(data, place + count_of(bits_before(starts)), end, classes)
            starts &= starts - np.uint64(1)
        if spaces:
            # the word that is open from the block before ends at the first space
            longest = max(longest, length + count_of(bits_before(spaces)))
            # each space's bit is spread to all bytes before it, so that those without are of the word that continues; a word
            # between two spaces of a block has six bytes at most, and is looked at only while none was longer
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
    """Whether the word that starts at a place is an ellipsis, or starts and ends with "#" and has one at every other place,
    which is the only way to have more runs of them than other characters."""
    begin, sign = place, 0
    characters = 0
    alternates = True
    first = second = third = other = 0
    while place < end:
        code, size = decode(data, place, end)
        if classes[code] & (SPACE | UNSPACED):
            break
        alternates &= (code == _HASH) == (characters % 2 == 0)
        place += size
        characters += 1
        # no ellipsis is longer than [...]: a long word is not read to its end
        if characters > 5 and not alternates:
            return False
    if alternates:
        return characters % 2 == 1
    first = data[begin]
    if characters == 1:
        return decode(data, begin, end)[0] == _ELLIPSIS
    second, sign = decode(data, begin + 1, end)
    if characters == 2:
        return first == _HYPHEN and second == _GUILLEMET
    third = data[begin + 1 + sign]
    last = data[place - 1]
    is_enclosed = (first == _OPEN_SQUARE and last == _CLOSE_SQUARE) or (first == _OPEN and last == _CLOSE)
    if characters == 3:
        are_dots = first == _DOT and second == _DOT and third == _DOT
        return are_dots or (first == _OPEN_SQUARE and is_enclosed and second == _ELLIPSIS)
    other = data[begin + 3] if characters == 5 else 0
    return is_enclosed and second == _DOT and third == _DOT and other == _DOT


@njit(cache=True, nogil=True)
def _in_urls(data: Any, place: int, end: int) -> int:
    """Characters in URLs."""
    # colons are rarer than the letter h: each is looked for, and then what is around it
    total, done = 0, place
    while place < end:
        colons = mask_of(up_to_eight(data, place, end), _COLON)
        while colons:
            colon = place + count_of(bits_before(colons))
            colons &= colons - np.uint64(1)
            begin = colon - 4 - (data[colon - 1] == _S)
            if begin < done or colon + 3 >= end or data[colon + 1] != _SLASH or data[colon + 2] != _SLASH:
                continue
            if data[begin] != _H or data[begin + 1] != _T or data[begin + 2] != _T or data[begin + 3] != _P:
                continue
            # the range from $ to _ is the filter's own: it takes in capitals, digits and most signs, but not #
            stop = colon + 3
            while stop < end and (
                data[stop] == _EXCLAMATION or _DOLLAR <= data[stop] <= _UNDERSCORE or _A <= data[stop] <= _Z
            ):
                stop += 1
            # ://, and then one more character at least, as NeMo Curator's pattern wants it
            if stop > colon + 3:
                total += stop - begin
                done = stop
        place += 8
    return total


@njit(cache=True, nogil=True)
def _unpunctuated(data: Any, place: int, end: int, classes: Any) -> float:
    """The share of lines that do not end in . ? ! " ' and white space."""
    lines = without = 0
    while place < end:
        stop = find_byte(data, place, end, _LINE_FEED)
        last = stop
        code = int(_SPACE)
        while last > place and classes[code] & SPACE:
            last = last_character(data, place, last)
            code = decode(data, last, end)[0]
        if not classes[code] & SPACE:
            lines += 1
            without += code not in (_DOT, _QUESTION, _EXCLAMATION, _QUOTE, _APOSTROPHE)
        place = stop + 1
    return without / lines if lines else 0.0
