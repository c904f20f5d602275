"""Lines and words of a text, eight bytes at a time in one register (SWAR, "SIMD within a register": Fisher and Dietz 1998).

A block is eight bytes as a little-endian number, so that its lowest byte is the text's first. A mask has the high bit of a byte
set where the block's byte in that place is of some kind, and no other bits. That tests eight bytes without a branch; on
text the processor guesses branches by byte wrong about once a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tokenmill.stages.text.hash_table import FNV_BASIS, splitmix64
from tokenmill.stages.text.utf8 import SPACE, UNSPACED, decode, eight_bytes, last_character

ONES, HIGH = 0x0101010101010101, 0x8080808080808080
_LOW = 0x7F7F7F7F7F7F7F7F
_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 by the golden ratio, odd: the multiplier of Fibonacci hashing (Knuth, volume 3, 6.4)."""


@njit(cache=True, nogil=True, inline="always")
def up_to_eight(data: Any, place: int, end: int) -> Any:
    """The bytes from a place on as a little-endian number, zeros from `end` on."""
    if place + 8 <= end:
        return eight_bytes(data, place)
    # one by one at the end alone: eight bytes may not be read beyond the buffer
    value = np.uint64(0)
    for number in range(end - place):
        value |= np.uint64(data[place + number]) << np.uint64(8 * number)
    return value


@njit(cache=True, nogil=True, inline="always")
def mask_of(block: Any, byte: int) -> Any:
    """Which bytes are this one."""
    # a byte of `other` is zero where it is; adding 0x7f carries into the high bit of all others, and never into the next byte
    other = block ^ np.uint64(byte * ONES)
    # zero in the bytes that are this one; adding to seven bits of a byte carries into its upper bit but never into the
    # next byte, so that each is told exactly, unlike in `find_byte`
    return ~(((other & np.uint64(_LOW)) + np.uint64(_LOW)) | other | np.uint64(_LOW))


@njit(cache=True, nogil=True, inline="always")
def mask_from(block: Any, byte: int) -> Any:
    """Which bytes are `byte` or above, of a block that is ASCII."""
    # the high bit, set before, is what a subtraction borrows from where the byte is smaller: no borrow reaches the next byte
    return ((block | np.uint64(HIGH)) - np.uint64(byte * ONES)) & np.uint64(HIGH)


@njit(cache=True, nogil=True, inline="always")
def mask_of_spaces(block: Any) -> Any:
    """Which bytes are white space, of a block that is ASCII: 9 to 13, and 28 to 32."""
    # as `str.isspace` has it, with the separators 28 to 31
    return (mask_from(block, 9) & ~mask_from(block, 14)) | (mask_from(block, 28) & ~mask_from(block, 33))


@njit(cache=True, nogil=True, inline="always")
def bits_before(mask: Any) -> Any:
    """All bits of the bytes before the first of a mask; all bits for an empty one."""
    # the lowest set bit alone, moved to its byte's lowest bit; one less sets all bits below
    return ((mask & (~mask + np.uint64(1))) >> np.uint64(7)) - np.uint64(1)


@njit(cache=True, nogil=True, inline="always")
def count_of(bits: Any) -> Any:
    """How many bytes have their lowest bit set."""
    # the product's highest byte is the sum of all eight
    return np.int64(((bits & np.uint64(ONES)) * np.uint64(ONES)) >> np.uint64(56))


@njit(cache=True, nogil=True, inline="always")
def continuations(block: Any) -> Any:
    """How many bytes continue a character of UTF-8: those of the form 10xxxxxx."""
    return count_of((block >> np.uint64(7)) & ~(block >> np.uint64(6)))


@njit(cache=True, nogil=True)
def find_byte(data: Any, place: int, end: int, byte: int) -> int:
    """Where a byte occurs next, or `end`."""
    wanted = np.uint64(ONES) * np.uint64(byte)
    while place + 8 <= end:
        other = eight_bytes(data, place) ^ wanted
        # shorter than `mask_of`: it may take bytes after the first for others than they are, but only the first counts
        if (other - np.uint64(ONES)) & ~other & np.uint64(HIGH):
            break
        place += 8
    while place < end and data[place] != byte:
        place += 1
    return place


@njit(cache=True, nogil=True)
def read_line(data: Any, place: int, end: int) -> tuple[int, int, Any]:
    """Where the line at a place ends (its line feed, or `end`), its characters, and a hash of its bytes."""
    value = np.uint64(FNV_BASIS)
    start, characters = place, 0
    while place < end:
        block = up_to_eight(data, place, end)
        feeds = mask_of(block, 10)
        inside = bits_before(feeds)
        size = count_of(inside) if feeds else min(8, end - place)
        # an empty rest changes nothing: a line that ends where a block does has one hash before a line feed and at a text's end
        if size:
            block &= inside
            characters += size - continuations(block)
            value = (value ^ block) * np.uint64(_GOLDEN)
            value ^= value >> np.uint64(32)
            place += size
        if feeds:
            break
    return place, characters, splitmix64(value ^ np.uint64(place - start))


@njit(cache=True, nogil=True, inline="always")
def short_block(data: Any, place: int, size: int) -> Any:
    """The next 1 to 8 bytes as a number."""
    # read up to the buffer's end, not the word's: nearly always one load, and what is too much is masked
    return up_to_eight(data, place, len(data)) & (~np.uint64(0) >> np.uint64(64 - 8 * size))


@njit(cache=True, nogil=True, inline="always")
def hash_of(data: Any, place: int, end: int) -> tuple[Any, int]:
    """A hash of the bytes of a word, and its characters."""
    characters = size = end - place
    # the length tells a word that ends with zeros from one whose last block is filled up with them
    value = np.uint64(size)
    while size > 8:  # most words are shorter
        block = eight_bytes(data, place)
        value = (value ^ block) * np.uint64(_GOLDEN)
        value ^= value >> np.uint64(32)
        characters -= continuations(block)
        place += 8
        size -= 8
    # one byte is left at least, as the loop above ends at 8 and not at 0: a shift by 64 has no defined result
    block = short_block(data, place, size)
    if block & np.uint64(HIGH):
        characters -= continuations(block)
    return splitmix64((block ^ value * np.uint64(_GOLDEN)) + value), characters


@njit(cache=True, nogil=True)
def count_words(data: Any, place: int, end: int, classes: Any) -> int:
    """Words between white space; a character of a script without spaces is one."""
    words = 0
    was_space = True
    while place < end:
        block = up_to_eight(data, place, end)
        # beyond ASCII character by character: white space and scripts without spaces are found in a table by code point
        if block & np.uint64(HIGH):
            stop = min(place + 8, end)
            while place < stop:
                code, size = decode(data, place, end)
                kind = classes[code]
                # a character of a script without spaces begins a word and ends it, so that the next one begins another
                words += (was_space and not kind & SPACE) or (kind & UNSPACED) != 0
                was_space = (kind & (SPACE | UNSPACED)) != 0
                place += size
            continue
        spaces = mask_of_spaces(block)
        # a word starts at a byte that is no space after one that is; before the first byte that is known from the last block
        starts = ~spaces & (spaces << np.uint64(8) | (np.uint64(0x80) if was_space else np.uint64(0)))
        if place + 8 > end:
            starts &= (np.uint64(1) << np.uint64(8 * (end - place))) - np.uint64(1)
        words += count_of((starts & np.uint64(HIGH)) >> np.uint64(7))
        was_space = spaces >> np.uint64(63) != 0
        place += 8
    return words


@njit(cache=True, nogil=True)
def count_byte(data: Any, place: int, end: int, byte: int) -> int:
    """How often a byte occurs."""
    # a plain loop without a branch, of which LLVM takes many bytes at once
    count = 0
    for other in data[place:end]:
        count += other == byte
    return count


@njit(cache=True, nogil=True)
def stripped(data: Any, first: int, end: int, classes: Any) -> tuple[int, int]:
    """Where a text starts and ends without the white space around it."""
    while first < end:
        code, size = decode(data, first, end)
        if not classes[code] & SPACE:
            break
        first += size
    while end > first:
        last = last_character(data, first, end)
        if not classes[decode(data, last, end)[0]] & SPACE:
            break
        end = last
    return first, end
