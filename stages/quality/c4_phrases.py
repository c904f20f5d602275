"""Phrases and citations that C4's rules look for in lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tokenmill.stages.text.swar import bits_before, count_of, mask_of, up_to_eight
from tokenmill.stages.text.utf8 import DIGIT, decode

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
"""Phrases of lines about policies, as in C4's own code."""

JAVA = np.frombuffer(b"javascript\0", np.uint8)
LOREM = np.frombuffer(b"lorem ipsum\0", np.uint8)
POLICY_PHRASES = np.frombuffer(b"".join(phrase.encode() + b"\0" for phrase in POLICY), np.uint8)
EDIT = np.frombuffer(b"[edit]\0[citation needed]\0", np.uint8)

_A, _C, _E, _I, _J, _K, _M, _O, _P, _S, _V, _Y, _SPACE, _OPEN_SQUARE, _CLOSE_SQUARE = b"aceijkmopsvy []"
LOREM_HINT, JAVA_HINT, POLICY_HINT = 1, 2, 4
"""Bits of `hints`."""


@njit(cache=True, nogil=True)
def hints(text: Any) -> Any:
    """Which phrases a text may contain, by four letters of each; a byte at a time and without a branch, so that LLVM takes
    many at once."""
    lorem, java, policy = np.uint8(0), np.uint8(0), np.uint8(0)
    ahead = len(text) - 3
    if ahead <= 0:
        return np.uint16(0)
    one, two, three, four = text[:ahead], text[1 : ahead + 1], text[2 : ahead + 2], text[3:]
    for at in range(ahead):
        # capitals as small letters; some signs become others as well, which costs a look at the line and no error
        a, b = np.uint8(one[at] | np.uint8(32)), np.uint8(two[at] | np.uint8(32))
        c, d = np.uint8(three[at] | np.uint8(32)), np.uint8(four[at] | np.uint8(32))
        lorem |= np.uint8((a == _M) & (b == _SPACE) & (c == _I) & (d == _P))
        java |= np.uint8((a == _J) & (b == _A) & (c == _V) & (d == _A))
        # four of the six phrases about policies have "ooki" in them; the others have "ms o" and "y po"
        is_cookie = (a == _O) & (b == _O) & (c == _K) & (d == _I)
        is_terms = (a == _M) & (b == _S) & (c == _SPACE) & (d == _O)
        is_privacy = (a == _Y) & (b == _SPACE) & (c == _P) & (d == _O)
        policy |= np.uint8(is_cookie | is_terms | is_privacy)
    return np.uint16(lorem | java << 1 | policy << 2)  # in 32 bits, LLVM would take fewer at once


@njit(cache=True, nogil=True)
def may_cite(data: Any, place: int, end: int) -> bool:
    """Whether a bracket may start a citation, by what follows it: its end, a digit, e or c, or a byte beyond ASCII."""
    while place < end:
        brackets = mask_of(up_to_eight(data, place, end), _OPEN_SQUARE)
        while brackets:
            at = place + count_of(bits_before(brackets)) + 1
            brackets &= brackets - np.uint64(1)
            if at < end:
                other = data[at]
                if other in (_CLOSE_SQUARE, _C, _E) or 48 <= other <= 57 or other >= 0x80:
                    return True
        place += 8
    return False


@njit(cache=True, nogil=True)
def has_citation(data: Any, place: int, end: int, classes: Any) -> bool:
    """Whether a line has [12], [], [edit] or [citation needed] in it."""
    while place < end:
        brackets = mask_of(up_to_eight(data, place, end), _OPEN_SQUARE)
        if not brackets:
            place += 8
            continue
        place += count_of(bits_before(brackets))
        if _citation(data, place, end, classes):
            return True
        place += 1
    return False


@njit(cache=True, nogil=True)
def without_citations(data: Any, place: int, end: int, classes: Any, kept: Any, at: int) -> tuple[int, int]:
    """Copies a line without its citations, and returns where the copy ends and how many there were."""
    taken = 0
    while place < end:
        size = _citation(data, place, end, classes) if data[place] == _OPEN_SQUARE else 0
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
    # digits of any script, as the filter's \d has them; none is [], a citation as well
    place = first + 1
    # [] is a citation as well: there may be no digit at all
    while place < end:
        code, size = decode(data, place, end)
        if not classes[code] & DIGIT:
            break
        place += size
    if place < end and data[place] == _CLOSE_SQUARE:
        return place + 1 - first
    begin = 0
    for number in range(len(EDIT)):
        if EDIT[number]:
            continue
        size = number - begin
        # no comparison beyond the line's end
        is_same = first + size <= end
        for step in range(size if is_same else 0):
            is_same &= data[first + step] == EDIT[begin + step]
        if is_same:
            return size
        begin = number + 1
    return 0


@njit(cache=True, nogil=True)
def contains_any(data: Any, first: int, end: int, phrases: Any) -> bool:
    """Whether one of several phrases, each with a zero after it, occurs; ASCII letters in any case."""
    # the plain search will do: it runs only where `hints` saw four letters of a phrase
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
