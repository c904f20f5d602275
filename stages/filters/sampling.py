"""A bounded sample of each text: pieces spread evenly over it, cut between words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from tokenmill.stages.text.utf8 import string_buffers

PIECES = 8
"""Pieces that a long text is sampled by."""
WORD_REACH = 64
"""Bytes that are searched for white space at which to cut; without any, a piece starts and ends between characters."""


def sample_text(text: pa.Array, size: int) -> pa.Array:
    """Texts of at most `size` UTF-8 bytes each: shorter ones whole, of longer ones `PIECES` pieces with a space between.

    The first piece starts where the text does, and the others at even distances. Null becomes empty.
    """
    data, offsets = string_buffers(text)
    if len(text) == 0 or int(np.diff(offsets).max()) <= size:
        return text
    content, bounds = _sampled(data, offsets, size)
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(content)]
    return pa.StringArray.from_buffers(len(text), buffers[1], buffers[2])


@njit(cache=True, nogil=True)
def _sampled(data: Any, offsets: Any, size: int) -> Any:
    count = len(offsets) - 1
    bounds = np.zeros(count + 1, np.int32)
    total = 0
    for row in range(count):
        total += min(offsets[row + 1] - offsets[row], size)
    content = np.empty(total, np.uint8)
    filled = 0
    for row in range(count):
        first, last = offsets[row], offsets[row + 1]
        length = last - first
        if length <= size:
            content[filled : filled + length] = data[first:last]
            filled += length
        else:
            stride, piece = length // PIECES, (size - PIECES) // PIECES
            for number in range(PIECES):
                begin = _cut_after(data, first + number * stride, last) if number else first
                end = _cut_before(data, begin, first + number * stride + piece)
                if end <= begin:
                    continue
                content[filled : filled + end - begin] = data[begin:end]
                filled += end - begin
                content[filled] = 32
                filled += 1
        bounds[row + 1] = filled
    return content[:filled], bounds


@njit(cache=True, nogil=True)
def _cut_after(data: Any, place: int, end: int) -> int:
    """Where a word starts, or else a character, at or after a place."""
    for ahead in range(place, min(place + WORD_REACH, end)):
        if data[ahead] == 32 or data[ahead] == 10:
            return ahead + 1
    while place < end and data[place] & 0xC0 == 0x80:
        place += 1
    return place


@njit(cache=True, nogil=True)
def _cut_before(data: Any, begin: int, end: int) -> int:
    """Where a word ends, or else a character, at or before `end`."""
    for behind in range(end, max(begin, end - WORD_REACH), -1):
        if data[behind] == 32 or data[behind] == 10:
            return behind
    while end > begin and data[end] & 0xC0 == 0x80:
        end -= 1
    return end
