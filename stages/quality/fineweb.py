"""What FineWeb's rules measure of a text's lines, in one pass over the bytes of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.text.hash_table import mask_for, slot_of, times_seen
from tokenmill.stages.text.swar import count_byte, count_words, read_line
from tokenmill.stages.text.utf8 import SPACE, TERMINAL, character_classes, decode, string_buffers

LINE_MEASURES = ("punctuated_lines", "short_lines", "duplicate_characters", "line_breaks")
"""Columns of `measure_lines`, see there."""


def measure_lines(text: pa.Array, short_line: int) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(LINE_MEASURES)), as datatrove's FineWebQualityFilter does.

    Lines are what stands between line feeds, those of white space alone left out. `punctuated_lines`: share of lines whose
    last character ends a sentence. `short_lines`: share of lines of at most `short_line` characters. `duplicate_characters`:
    characters in lines that stood before, as a share of all but line feeds; equality is that of 64-bit hashes. `line_breaks`:
    line feeds a word; words are those of `stages.quality.gopher`. A document without lines has zeros.
    """
    data, offsets = string_buffers(text)
    return _measure(data, offsets, character_classes(), short_line)


@njit(cache=True, nogil=True)
def _measure(data: Any, offsets: Any, classes: Any, short_line: int) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, 4))
    breaks = np.zeros(count, np.int64)
    # lines are counted first: one table, large enough for the document with most, serves all
    for row in range(count):
        breaks[row] = count_byte(data, offsets[row], offsets[row + 1], 10)
    table = np.zeros((np.int64(mask_for(breaks.max() + 1 if count else 1)) + 1, 2), np.uint64)
    for row in range(count):
        place, end = offsets[row], offsets[row + 1]
        # from 1 on: the slots of a new table have stamp 0, which must read as empty. A small document uses the table's
        # front alone, which stays in cache
        stamp, mask = np.uint64(row + 1), mask_for(breaks[row] + 1)
        lines = punctuated = short = repeated = characters = 0
        while place < end:
            stop, length, value = read_line(data, place, end)
            # blank lines too: they are no lines to the rules, but duplicates are a share of the whole text
            characters += length
            if not _is_blank(data, place, stop, classes):
                lines += 1
                punctuated += classes[_last_code(data, place, stop)] & TERMINAL != 0
                short += length <= short_line
                if times_seen(slot_of(value, stamp, mask, table), value, stamp, table):
                    repeated += length
            place = stop + 1
        # a line that is not blank has characters and a word: nothing is divided by zero
        if lines:
            out[row, 0] = punctuated / lines
            out[row, 1] = short / lines
            out[row, 2] = repeated / characters
            out[row, 3] = breaks[row] / count_words(data, offsets[row], end, classes)
    return out


@njit(cache=True, nogil=True)
def _is_blank(data: Any, place: int, end: int, classes: Any) -> bool:
    while place < end:
        code, size = decode(data, place, end)
        if not classes[code] & SPACE:
            return False
        place += size
    return True


@njit(cache=True, nogil=True)
def _last_code(data: Any, first: int, end: int) -> int:
    place = end - 1
    # back to the character's first byte, but never into the line before
    while place > first and data[place] & 0xC0 == 0x80:
        place -= 1
    return decode(data, place, end)[0]
