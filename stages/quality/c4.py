"""C4's line rules: which lines of a text are kept, and the text that is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.quality.c4_phrases import (
    JAVA,
    JAVA_HINT,
    LOREM,
    LOREM_HINT,
    POLICY_HINT,
    POLICY_PHRASES,
    has_citation,
    hints,
    may_cite,
    says,
    without_citations,
)
from tokenmill.stages.quality.sentences import count_sentences
from tokenmill.stages.text.swar import (
    HIGH,
    bits_before,
    count_byte,
    count_of,
    count_words,
    mask_from,
    mask_of,
    stripped,
    up_to_eight,
)
from tokenmill.stages.text.utf8 import SPACE, UNSPACED, character_classes, decode, string_buffers

EDIT_MEASURES = (
    "lines",
    "removed_line_max_word_length",
    "removed_line_terminal_punctuation",
    "removed_line_min_words",
    "removed_line_javascript",
    "removed_line_policy",
    "removed_citations",
    "lorem_ipsum_lines",
    "curly_bracket_lines",
    "sentences",
)
"""Columns of `edit_lines`, see there."""

LONG_WORD, PUNCTUATION, FEW_WORDS, JAVASCRIPT, POLICIES = 1, 2, 3, 4, 5
"""Why a line is dropped: the place in `EDIT_MEASURES`; 0 where it is kept."""


def edit_lines(
    text: pa.Array,
    *,
    max_word_length: int,
    terminal_punctuation: bool,
    min_words: int,
    javascript: bool,
    policy: bool,
    citations: bool,
) -> tuple[pa.Array, npt.NDArray[np.float64]]:
    """The lines of each text that are kept, joined by line feeds and stripped, and what was counted, float64, shape (documents,
    len(EDIT_MEASURES)); as datatrove's C4QualityFilter does.

    Lines are those of `str.splitlines` without the white space around them; empty ones are left out and not counted. A line
    is dropped by the first of these: a word of more than `max_word_length` characters; its end is none of . ? ! " ' or is an
    ellipsis (`terminal_punctuation`); fewer than `min_words` words; "javascript" (`javascript`) or a phrase of `POLICY`
    (`policy`) in it, ASCII letters in any case. `citations`: [12], [], [edit] and [citation needed] are taken out, before the
    line's end is looked at and after its words are counted. Words are those of `stages.quality.gopher`.

    `lines`: of all. `removed_...`: those dropped by each rule, and citations taken out of those kept.
    `lorem_ipsum_lines`, `curly_bracket_lines`: lines that meet the rules before them, with "lorem ipsum" or "{" in them.
    `sentences`: of the lines that are kept, see `stages.quality.sentences`.
    """
    data, offsets = string_buffers(text)
    kept, bounds, counts = _edit(
        data,
        offsets,
        character_classes(),
        max_word_length,
        terminal_punctuation,
        min_words,
        javascript,
        policy,
        citations,
    )
    edited = pa.StringArray.from_buffers(len(text), pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(kept))
    return edited, counts


@njit(cache=True, nogil=True)
def _edit(
    data: Any,
    offsets: Any,
    classes: Any,
    max_word_length: int,
    terminal_punctuation: bool,
    min_words: int,
    javascript: bool,
    policy: bool,
    citations: bool,
) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, 10))
    kept = np.empty(offsets[count] - offsets[0], np.uint8)
    bounds = np.zeros(count + 1, np.int64)
    at = 0
    for row in range(count):
        place, end = offsets[row], offsets[row + 1]
        begin = at
        is_first = True
        # one pass over the document spares its lines the search for phrases that it cannot have
        seen = hints(data[place:end])
        asked = seen & np.uint16(LOREM_HINT | JAVA_HINT * javascript | POLICY_HINT * policy)
        is_cited = citations and may_cite(data, place, end)
        while place < end:
            stop, after = _line_end(data, place, end)
            first, last = stripped(data, place, stop, classes)
            place = after
            if first == last:
                continue
            out[row, 0] += 1
            # one byte is left for the line feed before it, which is written only when the line is kept
            line = at + (not is_first)
            # a line of fewer bytes has no longer word: it need not be decoded
            if last - first > max_word_length and _longest_word(data, first, last, classes) > max_word_length:
                out[row, LONG_WORD] += 1
                continue
            # a citation that is taken out changes the end of a line only where it stands there
            may_change = is_cited and data[last - 1] == 93
            # asked here as well where the answer cannot change, before words are counted for nothing
            if terminal_punctuation and not may_change and not _is_ended(data, first, last):
                out[row, PUNCTUATION] += 1
                continue
            is_few = count_words(data, first, last, classes) < min_words  # citations counted
            if is_cited and has_citation(data, first, last, classes):
                # written to its place at once: where the line is dropped, `at` does not move and the next overwrites it
                ahead, taken = without_citations(data, first, last, classes, kept, line)
                why = _reason(kept, line, ahead, terminal_punctuation, is_few, asked, out[row])
            else:
                ahead, taken = line + last - first, 0
                why = _reason(data, first, last, terminal_punctuation, is_few, asked, out[row])
                if not why:
                    kept[line:ahead] = data[first:last]
            if why:
                out[row, why] += 1
                continue
            out[row, 6] += taken
            out[row, 9] += count_sentences(kept, line, ahead, classes)
            if not is_first:
                kept[at] = 10
            is_first = False
            at = ahead
        # a citation that is taken out may leave white space where the text begins or ends
        lead, at = stripped(kept, begin, at, classes)
        if lead > begin:
            # in ascending order, as both ranges may overlap and the target is the lower one
            for number in range(at - lead):
                kept[begin + number] = kept[lead + number]
            at = begin + at - lead
        bounds[row + 1] = at
    return kept[:at], bounds, out


@njit(cache=True, nogil=True)
def _reason(data: Any, first: int, end: int, needs_end: bool, is_few: bool, asked: Any, counts: Any) -> int:
    """Why a line is dropped, 0 where it is kept; counts what drops documents on the way."""
    # in datatrove's order, as a line counts for the first rule that it breaks; lorem ipsum and { drop the document, so
    # that they are counted only in lines that no rule before them drops
    if needs_end and not _is_ended(data, first, end):
        return PUNCTUATION
    if is_few:
        return FEW_WORDS
    if asked:
        asked &= hints(data[first:end])
    if asked & np.uint16(LOREM_HINT):
        counts[7] += says(data, first, end, LOREM)
    if asked & np.uint16(JAVA_HINT) and says(data, first, end, JAVA):
        return JAVASCRIPT
    counts[8] += count_byte(data, first, end, 123) > 0
    if asked & np.uint16(POLICY_HINT) and says(data, first, end, POLICY_PHRASES):
        return POLICIES
    return 0


@njit(cache=True, nogil=True)
def _line_end(data: Any, place: int, end: int) -> tuple[int, int]:
    """Where a line ends and the next begins, as `str.splitlines` has it."""
    while place < end:
        block = up_to_eight(data, place, end)
        # line feed to form feed, and the separators 28 to 30; zeros that fill up the last block are none
        breaks = (mask_from(block, 10) & ~mask_from(block, 14)) | (mask_from(block, 28) & ~mask_from(block, 31))
        # `mask_from` holds for ASCII alone: other bytes are taken out
        breaks &= ~block
        if block & np.uint64(HIGH):
            # first bytes of U+0085, U+2028 and U+2029, but of other characters too: looked at below
            breaks |= mask_of(block, 0xC2) | mask_of(block, 0xE2)
        if not breaks:
            place += 8
            continue
        place += count_of(bits_before(breaks))
        byte = data[place]
        if byte < 0x80:
            is_pair = byte == 13 and place + 1 < end and data[place + 1] == 10
            return place, place + 1 + is_pair
        if byte == 0xC2 and data[place + 1] == 0x85:
            return place, place + 2
        if byte == 0xE2 and data[place + 1] == 0x80 and data[place + 2] & 0xFE == 0xA8:
            return place, place + 3
        # another character of the same first byte
        place += 1
    return end, end


@njit(cache=True, nogil=True)
def _longest_word(data: Any, place: int, end: int, classes: Any) -> int:
    longest = length = 0
    while place < end:
        code, size = decode(data, place, end)
        # a character of a script without spaces is a word alone: it ends the one before and begins none
        length = 0 if classes[code] & (SPACE | UNSPACED) else length + 1
        longest = max(longest, length)
        place += size
    return longest


@njit(cache=True, nogil=True)
def _is_ended(data: Any, first: int, end: int) -> bool:
    if first == end:
        return False
    last = data[end - 1]
    if last == 46:
        # an ellipsis is no end by C4's rule, although its last byte is a full stop
        return not (end - first >= 3 and data[end - 2] == 46 and data[end - 3] == 46)
    return last == 63 or last == 33 or last == 34 or last == 39
