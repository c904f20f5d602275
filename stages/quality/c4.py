"""C4's rules: which lines of a text are kept, the text that they make, and what of it drops the document."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit
from pydantic import Field

from tokenmill.stages.quality.c4_phrases import (
    JAVA,
    JAVA_HINT,
    LOREM,
    LOREM_HINT,
    POLICY_HINT,
    POLICY_PHRASES,
    contains_any,
    has_citation,
    hints,
    may_cite,
    without_citations,
)
from tokenmill.stages.quality.rules import Measures, RuleSet, columns
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

LINES, LONG_WORD, PUNCTUATION, FEW_WORDS, JAVASCRIPT, POLICIES, CITATIONS, LOREM_LINES, BRACKET_LINES, SENTENCES = (
    range(10)
)
"""The same by number."""
KEPT_LINE = 0
"""In the place of the rule that removes a line, for one that none does."""

_LINE_FEED, _CARRIAGE_RETURN, _EXCLAMATION, _QUOTE, _APOSTROPHE, _DOT, _QUESTION = b"\n\r!\"'.?"
_CLOSE_SQUARE, _OPEN_CURLY = b"]{"


class LineRules(NamedTuple):
    """What lines must meet. `max_word_length`: in characters. `min_words`: 0 for any. `javascript`, `policy`: whether lines
    that mention it are removed. `citations`: whether citations are taken out of lines."""

    max_word_length: int
    terminal_punctuation: bool
    min_words: int
    javascript: bool
    policy: bool
    citations: bool


class C4(RuleSet):
    """C4's rules (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2), with what its code adds, as
    datatrove's C4QualityFilter has them. Those of lines edit the text, which the sets named after this one then measure.
    Made for English: for other scripts than Latin switch `line_terminal_punctuation` off, as FineWeb did for all."""

    max_lorem_ipsum_lines: float = Field(0, description='Most lines with "lorem ipsum".')
    max_curly_bracket_lines: float = Field(0, description='Most lines with "{".')
    min_sentences: float = Field(5, description="Least sentences in the lines that are kept.")
    line_max_word_length: int = Field(1000, ge=1, description="Lines with a longer word are removed.")
    line_terminal_punctuation: bool = Field(True, description="Lines that do not end in . ? ! or a quote are removed.")
    line_min_words: int = Field(3, ge=0, description="Lines of fewer words are removed.")
    line_javascript: bool = Field(True, description='Lines with "javascript" are removed.')
    line_policy: bool = Field(True, description="Lines about cookies, privacy policies and terms of use are removed.")
    citations: bool = Field(True, description="Citations as Wikipedia has them are taken out of lines: [12], [edit].")

    def measure(self, text: pa.Array, stop_words: tuple[str, ...]) -> tuple[pa.Array, Measures]:
        """See `RuleSet`."""
        rules = LineRules(
            max_word_length=self.line_max_word_length,
            terminal_punctuation=self.line_terminal_punctuation,
            min_words=self.line_min_words,
            javascript=self.line_javascript,
            policy=self.line_policy,
            citations=self.citations,
        )
        edited, counts = edit_lines(text, rules)
        return edited, columns(EDIT_MEASURES, counts)


def edit_lines(text: pa.Array, rules: LineRules) -> tuple[pa.Array, npt.NDArray[np.float64]]:
    """The lines of each text that are kept, joined by line feeds and stripped, and what was counted, float64, shape (documents,
    len(EDIT_MEASURES)); as datatrove's C4QualityFilter does.

    Lines are those of `str.splitlines` without the white space around them; empty ones are left out and not counted. A line
    is removed by the first of these: a word of more than `max_word_length` characters; its end is none of . ? ! " ' or is an
    ellipsis (`terminal_punctuation`); fewer than `min_words` words; "javascript" (`javascript`) or a phrase of `POLICY`
    (`policy`) in it, ASCII letters in any case. `citations`: [12], [], [edit] and [citation needed] are taken out, before the
    line's end is looked at and after its words are counted. Words are those of `stages.quality.gopher`.

    `lines`: of all. `removed_...`: those that each rule removed, and citations taken out of those that are kept.
    `lorem_ipsum_lines`, `curly_bracket_lines`: lines that meet the rules before them, with "lorem ipsum" or "{" in them.
    `sentences`: of the lines that are kept, see `stages.quality.sentences`.
    """
    data, offsets = string_buffers(text)
    kept, bounds, counts = _edit(data, offsets, character_classes(), rules)
    edited = pa.StringArray.from_buffers(len(text), pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(kept))
    return edited, counts


@njit(cache=True, nogil=True)
def _edit(data: Any, offsets: Any, classes: Any, rules: LineRules) -> Any:
    max_word_length, terminal_punctuation, min_words, javascript, policy, citations = rules
    count = len(offsets) - 1
    out = np.zeros((count, len(EDIT_MEASURES)))
    kept = np.empty(offsets[count] - offsets[0], np.uint8)
    bounds = np.zeros(count + 1, np.int64)
    at = 0
    for row in range(count):
        place, end = offsets[row], offsets[row + 1]
        begin = at
        is_first = True
        # phrases are rare: one fast look at a whole text spares most of them any look at its lines
        wanted = np.uint16(LOREM_HINT | JAVA_HINT * javascript | POLICY_HINT * policy)
        hinted = hints(data[place:end]) & wanted
        is_cited = citations and may_cite(data, place, end)
        while place < end:
            stop, after = _line_end(data, place, end)
            first, last = stripped(data, place, stop, classes)
            place = after
            if first == last:
                continue
            out[row, LINES] += 1
            line = at + (not is_first)
            # no word is longer than its line
            if last - first > max_word_length and _longest_word(data, first, last, classes) > max_word_length:
                out[row, LONG_WORD] += 1
                continue
            # to take a citation out changes the end of a line only where the citation ends it
            may_change = is_cited and data[last - 1] == _CLOSE_SQUARE
            if terminal_punctuation and not may_change and not _is_ended(data, first, last):
                out[row, PUNCTUATION] += 1
                continue
            is_few = count_words(data, first, last, classes) < min_words  # with its citations, as in the filter
            if is_cited and has_citation(data, first, last, classes):
                # written to its place at once: where the line is dropped, `at` does not move and the next overwrites it
                ahead, taken = without_citations(data, first, last, classes, kept, line)
                rule = _rule_of(kept, line, ahead, terminal_punctuation, is_few, hinted, out[row])
            else:
                ahead, taken = line + last - first, 0
                rule = _rule_of(data, first, last, terminal_punctuation, is_few, hinted, out[row])
                if rule == KEPT_LINE:
                    kept[line:ahead] = data[first:last]
            if rule != KEPT_LINE:  # what was copied is written over by the next line
                out[row, rule] += 1
                continue
            out[row, CITATIONS] += taken
            out[row, SENTENCES] += count_sentences(kept, line, ahead, classes)
            if not is_first:
                kept[at] = _LINE_FEED
            is_first = False
            at = ahead
        # a line without its citation may start or end with white space, so the text is stripped again
        lead, at = stripped(kept, begin, at, classes)
        if lead > begin:
            # in ascending order, as both ranges may overlap and the target is the lower one
            for number in range(at - lead):
                kept[begin + number] = kept[lead + number]
            at = begin + at - lead
        bounds[row + 1] = at
    return kept[:at], bounds, out


@njit(cache=True, nogil=True)
def _rule_of(data: Any, first: int, end: int, needs_end: bool, is_few: bool, hinted: Any, counts: Any) -> int:
    """The rule that removes a line, or `KEPT_LINE`; counts what drops documents on the way, in the order of C4's code."""
    if needs_end and not _is_ended(data, first, end):
        return PUNCTUATION
    if is_few:
        return FEW_WORDS
    if hinted:
        hinted &= hints(data[first:end])
    if hinted & np.uint16(LOREM_HINT):
        counts[LOREM_LINES] += contains_any(data, first, end, LOREM)
    if hinted & np.uint16(JAVA_HINT) and contains_any(data, first, end, JAVA):
        return JAVASCRIPT
    counts[BRACKET_LINES] += count_byte(data, first, end, _OPEN_CURLY) > 0
    if hinted & np.uint16(POLICY_HINT) and contains_any(data, first, end, POLICY_PHRASES):
        return POLICIES
    return KEPT_LINE


@njit(cache=True, nogil=True)
def _line_end(data: Any, place: int, end: int) -> tuple[int, int]:
    """Where a line ends and the next starts, as `str.splitlines` has it."""
    while place < end:
        block = up_to_eight(data, place, end)
        # line feed to carriage return, and the separators 0x1C to 0x1E; of others than ASCII the first bytes of U+0085 (C2 85)
        # and of U+2028 and U+2029 (E2 80 A8, A9), which are looked at one by one
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
            is_pair = byte == _CARRIAGE_RETURN and place + 1 < end and data[place + 1] == _LINE_FEED
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
    if last == _DOT:
        return not (end - first >= 3 and data[end - 2] == _DOT and data[end - 3] == _DOT)
    return last in (_QUESTION, _EXCLAMATION, _QUOTE, _APOSTROPHE)
