"""Sentences, counted by the signs that end them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tokenmill.stages.text.swar import HIGH, bits_before, count_of, mask_of, up_to_eight
from tokenmill.stages.text.utf8 import OF_WORDS, SPACE, TERMINAL, decode

_LINE_FEED, _EXCLAMATION, _DOT, _QUESTION = b"\n!.?"


@njit(cache=True, nogil=True)
def count_sentences(data: Any, place: int, end: int, classes: Any) -> int:
    """Sentences of a line. One ends at . ? or ! before white space, the line's end or a closing quote or bracket, or at the
    last of the signs of other scripts; letters or digits that follow the last end are one more, and a line is one at least."""
    # `rest`: where the last sentence ended
    sentences, rest = 0, place
    while place < end:
        # in ASCII the next of . ? ! is eight bytes away at a time; other scripts are read character by character
        block = up_to_eight(data, place, end)
        # in ASCII the three marks are all that may end a sentence: without one the block is skipped
        if not block & np.uint64(HIGH):
            marks = mask_of(block, _EXCLAMATION) | mask_of(block, _DOT) | mask_of(block, _QUESTION)
            if not marks:
                place += 8
                continue
            place += count_of(bits_before(marks))
        code, size = decode(data, place, end)
        place += size
        if not classes[code] & TERMINAL:
            continue
        follower = decode(data, place, end)[0] if place < end else _LINE_FEED
        is_closed = classes[follower] & SPACE != 0 or _closes(follower)
        # "3.14" and "example.com" end none; scripts without spaces have none after their marks, of which the last in a
        # row ends the sentence
        if is_closed if code < 0x80 else classes[follower] & TERMINAL == 0:
            sentences, rest = sentences + 1, place
    # quotes and brackets after the last end are no sentence of their own, letters are
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
