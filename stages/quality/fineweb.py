"""FineWeb's rules, and what they measure of a text's lines, in one pass over the bytes of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit
from pydantic import Field

from tokenmill.stages.quality.rules import Measures, RuleSet, columns
from tokenmill.stages.text.hash_table import mask_for, slot_of, times_seen
from tokenmill.stages.text.swar import count_byte, count_words, read_line
from tokenmill.stages.text.utf8 import SPACE, TERMINAL, character_classes, decode, last_character, string_buffers

LINE_MEASURES = ("punctuated_lines", "short_lines", "duplicate_characters", "line_breaks")
"""Columns of `measure_lines`, see there."""
(PUNCTUATED, SHORT, DUPLICATE, BREAKS) = range(4)
_LINE_FEED = 10


class FineWeb(RuleSet):
    """FineWeb's own rules (Penedo et al. 2024, "The FineWeb Datasets", section 3.6) with the thresholds of the code that
    made it, datatrove's FineWebQualityFilter; for duplicated characters the paper says 0.1."""

    min_punctuated_lines: float = Field(0.12, description="Least share of lines that end a sentence.")
    max_short_lines: float = Field(0.67, description="Largest share of short lines.")
    max_duplicate_characters: float = Field(
        0.01, description="Largest share of characters in lines that occurred before."
    )
    max_line_breaks: float = Field(0.3, description="Most line breaks a word.")
    short_line: int = Field(30, ge=0, description="Most characters of a short line.")

    def measure(self, text: pa.Array, stop_words: tuple[str, ...]) -> tuple[pa.Array, Measures]:
        """See `RuleSet`."""
        return text, columns(LINE_MEASURES, measure_lines(text, self.short_line))


def measure_lines(text: pa.Array, short_line: int) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(LINE_MEASURES)), as datatrove's FineWebQualityFilter does.

    Lines are what line feeds separate, those of white space alone left out. `punctuated_lines`: share of lines whose
    last character ends a sentence. `short_lines`: share of lines of at most `short_line` characters. `duplicate_characters`:
    characters in lines that occurred before, as a share of all but line feeds; equality is that of 64-bit hashes.
    `line_breaks`: line feeds a word; words are those of `stages.quality.gopher`. A document without lines has zeros.
    """
    data, offsets = string_buffers(text)
    return _measure(data, offsets, character_classes(), short_line)


@njit(cache=True, nogil=True)
def _measure(data: Any, offsets: Any, classes: Any, short_line: int) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, len(LINE_MEASURES)))
    breaks = np.zeros(count, np.int64)
    # lines are counted first: one table, large enough for the document with most, serves all
    for row in range(count):
        breaks[row] = count_byte(data, offsets[row], offsets[row + 1], _LINE_FEED)
    # one table for all documents, as large as the one with most lines needs; each uses the part that its own lines need, which
    # stays in the cache
    table = np.zeros((np.int64(mask_for(breaks.max() + 1 if count else 1)) + 1, 2), np.uint64)
    for row in range(count):
        place, end = offsets[row], offsets[row + 1]
        generation, mask = np.uint64(row + 1), mask_for(breaks[row] + 1)
        lines = punctuated = short = repeated = characters = 0
        while place < end:
            stop, length, value = read_line(data, place, end)
            # blank lines too: they are no lines to the rules, but duplicates are a share of the whole text
            characters += length
            if not _is_blank(data, place, stop, classes):
                lines += 1
                punctuated += classes[decode(data, last_character(data, place, stop), stop)[0]] & TERMINAL != 0
                short += length <= short_line
                if times_seen(slot_of(value, generation, mask, table), value, generation, table):
                    repeated += length
            place = stop + 1
        # a line that is not blank has characters and a word: nothing is divided by zero
        if lines:
            out[row, PUNCTUATED] = punctuated / lines
            out[row, SHORT] = short / lines
            out[row, DUPLICATE] = repeated / characters
            out[row, BREAKS] = breaks[row] / count_words(data, offsets[row], end, classes)
    return out


@njit(cache=True, nogil=True)
def _is_blank(data: Any, place: int, end: int, classes: Any) -> bool:
    while place < end:
        code, size = decode(data, place, end)
        if not classes[code] & SPACE:
            return False
        place += size
    return True
