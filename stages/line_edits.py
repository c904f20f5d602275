"""C4's line rules: which lines of a text stay, and the text that is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from stages.utf8 import DIGIT, OF_WORDS, SPACE, TERMINAL, UNSPACED, character_classes, decode, string_buffers
from stages.wide_scan import (
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

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
"""What lines about policies say, as in C4's own code."""

LONG_WORD, PUNCTUATION, FEW_WORDS, JAVASCRIPT, POLICIES = 1, 2, 3, 4, 5
"""Why a line goes: the place in `EDIT_MEASURES`; 0 where it stays."""


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
    """The lines of each text that stay, joined by line feeds and stripped, and what was counted, float64, shape (documents,
    len(EDIT_MEASURES)); as datatrove's C4QualityFilter does.

    Lines are those of `str.splitlines` without the white space around them; empty ones are left out and not counted. A line
    goes by the first of these: a word of more than `max_word_length` characters; its end is none of . ? ! " ' or is an
    ellipsis (`terminal_punctuation`); fewer than `min_words` words; "javascript" (`javascript`) or a phrase of `POLICY`
    (`policy`) in it, ASCII letters in any case. `citations`: [12], [], [edit] and [citation needed] are taken out, before the
    line's end is looked at and after its words are counted. Words are those of `stages.text_measures`.

    `lines`: of all. `removed_...`: those that went by each rule, and citations taken out of those that stay.
    `lorem_ipsum_lines`, `curly_bracket_lines`: lines that meet the rules before them, with "lorem ipsum" or "{" in them.
    `sentences`: of the lines that stay. A sentence ends at one of . ? ! before white space, the line's end or a closing quote
    or bracket, or at the last of the signs of other scripts; letters or digits that follow the last end are one more, and a
    line is one at least.
    """
    data, offsets = string_buffers(text)
    kept, bounds, counts = _edit(
        data,
        offsets,
        character_classes(),
        np.frombuffer(b"\0".join(phrase.encode() for phrase in POLICY) + b"\0", np.uint8),
        max_word_length,
        terminal_punctuation,
        min_words,
        javascript,
        policy,
        citations,
    )
    edited = pa.StringArray.from_buffers(len(text), pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(kept))
    return edited, counts


JAVA = np.frombuffer(b"javascript\0", np.uint8)
LOREM = np.frombuffer(b"lorem ipsum\0", np.uint8)
EDIT = np.frombuffer(b"[edit]\0[citation needed]\0", np.uint8)

M_IP, JAVA_, OOKI, MS_O, Y_PO = (
    int.from_bytes(part, "little") for part in (b"m ip", b"java", b"ooki", b"ms o", b"y po")
)
LOREM_HINT, JAVA_HINT, POLICY_HINT = 1, 2, 4


@njit(cache=True, nogil=True)
def _edit(
    data: Any,
    offsets: Any,
    classes: Any,
    policies: Any,
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
        seen = _hints(data[place:end])
        asked = seen & np.uint32(LOREM_HINT | JAVA_HINT * javascript | POLICY_HINT * policy)
        has_citation = citations and _may_cite(data[place:end])
        while place < end:
            stop, after = _line_end(data, place, end)
            first, last = stripped(data, place, stop, classes)
            place = after
            if first == last:
                continue
            out[row, 0] += 1
            line = at + (not is_first)
            if last - first > max_word_length and _longest_word(data, first, last, classes) > max_word_length:
                out[row, LONG_WORD] += 1
                continue
            # a citation that is taken out changes the end of a line only where it stands there
            may_change = has_citation and data[last - 1] == 93
            if terminal_punctuation and not may_change and not _is_ended(data, first, last):
                out[row, PUNCTUATION] += 1
                continue
            is_few = count_words(data, first, last, classes) < min_words  # citations counted
            if has_citation and _has_citation(data, first, last, classes):
                ahead, taken = _without_citations(data, first, last, classes, kept, line)
                why = _reason(kept, line, ahead, terminal_punctuation, is_few, asked, policies, out[row])
            else:
                ahead, taken = line + last - first, 0
                why = _reason(data, first, last, terminal_punctuation, is_few, asked, policies, out[row])
                if not why:
                    kept[line:ahead] = data[first:last]
            if why:
                out[row, why] += 1
                continue
            out[row, 6] += taken
            out[row, 9] += _sentences(kept, line, ahead, classes)
            if not is_first:
                kept[at] = 10
            is_first = False
            at = ahead
        lead, at = stripped(kept, begin, at, classes)
        if lead > begin:
            for number in range(at - lead):
                kept[begin + number] = kept[lead + number]
            at = begin + at - lead
        bounds[row + 1] = at
    return kept[:at], bounds, out


@njit(cache=True, nogil=True)
def _reason(
    data: Any, first: int, end: int, needs_end: bool, is_few: bool, asked: Any, policies: Any, counts: Any
) -> int:
    """Why a line goes; counts what drops documents on the way."""
    if needs_end and not _is_ended(data, first, end):
        return PUNCTUATION
    if is_few:
        return FEW_WORDS
    if asked:
        asked &= _hints(data[first:end])
    if asked & np.uint32(LOREM_HINT):
        counts[7] += _says(data, first, end, LOREM)
    if asked & np.uint32(JAVA_HINT) and _says(data, first, end, JAVA):
        return JAVASCRIPT
    counts[8] += count_byte(data, first, end, 123) > 0
    if asked & np.uint32(POLICY_HINT) and _says(data, first, end, policies):
        return POLICIES
    return 0


@njit(cache=True, nogil=True)
def _hints(text: Any) -> Any:
    """Which phrases a text may hold, told from four letters of each; without a branch, so that LLVM takes many at a time."""
    found = np.uint32(0)
    ahead = len(text) - 3
    if ahead <= 0:
        return found
    one, two, three, four = text[:ahead], text[1 : ahead + 1], text[2 : ahead + 2], text[3:]
    for at in range(ahead):
        letters = np.uint32(one[at]) | np.uint32(two[at]) << np.uint32(8)
        letters |= np.uint32(three[at]) << np.uint32(16) | np.uint32(four[at]) << np.uint32(24)
        letters |= np.uint32(0x20202020)  # capitals as small letters
        found |= np.uint32(letters == M_IP) * np.uint32(LOREM_HINT)
        found |= np.uint32(letters == JAVA_) * np.uint32(JAVA_HINT)
        is_policy = np.uint32(letters == OOKI) | np.uint32(letters == MS_O) | np.uint32(letters == Y_PO)
        found |= is_policy * np.uint32(POLICY_HINT)
    return found


@njit(cache=True, nogil=True)
def _may_cite(text: Any) -> bool:
    """Whether a bracket may begin a citation, told from what follows it: its end, a digit, e or c, or no ASCII."""
    found = np.uint8(0)
    one, two = text[:-1], text[1:]
    for at in range(len(one)):
        other = two[at]
        follows = (other == 93) | (other == 101) | (other == 99) | ((other >= 48) & (other <= 57)) | (other >= 0x80)
        found |= np.uint8((one[at] == 91) & follows)
    return found != 0


@njit(cache=True, nogil=True)
def _line_end(data: Any, place: int, end: int) -> tuple[int, int]:
    """Where a line ends and the next begins, as `str.splitlines` has it."""
    while place < end:
        block = up_to_eight(data, place, end)
        breaks = (mask_from(block, 10) & ~mask_from(block, 14)) | (mask_from(block, 28) & ~mask_from(block, 31))
        breaks &= ~block
        if block & np.uint64(HIGH):
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
        place += 1
    return end, end


@njit(cache=True, nogil=True)
def _longest_word(data: Any, place: int, end: int, classes: Any) -> int:
    longest = length = 0
    while place < end:
        code, size = decode(data, place, end)
        length = 0 if classes[code] & (SPACE | UNSPACED) else length + 1
        longest = max(longest, length)
        place += size
    return longest


@njit(cache=True, nogil=True)
def _has_citation(data: Any, place: int, end: int, classes: Any) -> bool:
    while place < end:
        brackets = mask_of(up_to_eight(data, place, end), 91)
        if not brackets:
            place += 8
            continue
        place += count_of(bits_before(brackets))
        if _citation(data, place, end, classes):
            return True
        place += 1
    return False


@njit(cache=True, nogil=True)
def _without_citations(data: Any, place: int, end: int, classes: Any, kept: Any, at: int) -> tuple[int, int]:
    """Copies a line without its citations, and returns where the copy ends and how many there were."""
    taken = 0
    while place < end:
        size = _citation(data, place, end, classes) if data[place] == 91 else 0
        if size:
            taken += 1
        else:
            kept[at] = data[place]
            at, size = at + 1, 1
        place += size
    return at, taken


@njit(cache=True, nogil=True)
def _citation(data: Any, first: int, end: int, classes: Any) -> int:
    """Bytes of the citation at a bracket, 0 where there is none."""
    place = first + 1
    while place < end:
        code, size = decode(data, place, end)
        if not classes[code] & DIGIT:
            break
        place += size
    if place < end and data[place] == 93:
        return place + 1 - first
    begin = 0
    for number in range(len(EDIT)):
        if EDIT[number]:
            continue
        size = number - begin
        is_same = first + size <= end
        for step in range(size if is_same else 0):
            is_same &= data[first + step] == EDIT[begin + step]
        if is_same:
            return size
        begin = number + 1
    return 0


@njit(cache=True, nogil=True)
def _is_ended(data: Any, first: int, end: int) -> bool:
    if first == end:
        return False
    last = data[end - 1]
    if last == 46:
        return not (end - first >= 3 and data[end - 2] == 46 and data[end - 3] == 46)
    return last == 63 or last == 33 or last == 34 or last == 39


@njit(cache=True, nogil=True)
def _says(data: Any, first: int, end: int, phrases: Any) -> bool:
    """Whether one of several phrases, each with a zero after it, occurs; ASCII letters in any case."""
    begin = 0
    for number in range(len(phrases)):
        if phrases[number]:
            continue
        for place in range(first, end - (number - begin) + 1):
            step = 0
            while begin + step < number:
                byte = data[place + step]
                if byte + np.uint8(32 * (65 <= byte <= 90)) != phrases[begin + step]:
                    break
                step += 1
            if begin + step == number:
                return True
        begin = number + 1
    return False


@njit(cache=True, nogil=True)
def _sentences(data: Any, place: int, end: int, classes: Any) -> int:
    sentences, rest = 0, place
    while place < end:
        block = up_to_eight(data, place, end)
        if not block & np.uint64(HIGH):
            marks = mask_of(block, 33) | mask_of(block, 46) | mask_of(block, 63)
            if not marks:
                place += 8
                continue
            place += count_of(bits_before(marks))
        code, size = decode(data, place, end)
        place += size
        if not classes[code] & TERMINAL:
            continue
        follower = decode(data, place, end)[0] if place < end else 10
        is_closed = classes[follower] & SPACE != 0 or _closes(follower)
        if is_closed if code < 0x80 else classes[follower] & TERMINAL == 0:
            sentences, rest = sentences + 1, place
    while rest < end:
        code, size = decode(data, rest, end)
        if classes[code] & OF_WORDS:
            return sentences + 1
        rest += size
    return max(sentences, 1)


@njit(cache=True, nogil=True)
def _closes(code: int) -> bool:
    """Closing quotes and brackets: \" ' ) ] } and their curly and angular relatives."""
    return code in (34, 39, 41, 93, 125, 0x2019, 0x201D, 0xBB)
