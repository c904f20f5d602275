"""Where the words of a text start and end, a few thousand bytes at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tokenmill.stages.text.swar import HIGH, mask_of_spaces, up_to_eight
from tokenmill.stages.text.utf8 import SPACE, UNSPACED, decode

CHUNK_BYTES = 4096
"""Bytes that are split at once: their bounds stay in the nearest cache while the caller reads the words."""
MOST_BOUNDS = 2 * CHUNK_BYTES + 16
"""Two for each byte, since any may be a word, and some that the branch-free loop writes ahead."""


@njit(cache=True, nogil=True)
def split_words(data: Any, place: int, end: int, classes: Any, bounds: Any, found: Any) -> tuple[int, int]:
    """Fills in where words start and end, by turns, in the next bytes of a text, and returns where it stopped and how many
    bounds there are; a last word that continues beyond these bytes has only a start so far.

    `bounds`: int64, shape (MOST_BOUNDS,). `found`: bounds that are there already: 1, the start of a word that continues, or 0.
    Words are what white space separates; a character of a script without spaces is one.
    """
    # beginnings and ends take turns, so that an odd `found` says that a word is open: no other state crosses the ends
    # of blocks and chunks
    stop = min(place + CHUNK_BYTES, end)
    while place < stop:
        block = up_to_eight(data, place, end)
        # whole blocks only: the zeros that fill up the text's last one are no white space and would make a word
        if place + 8 <= stop and not block & np.uint64(HIGH):
            # a bound is where a byte within a word and one outside meet; an odd number of bounds so far means a word is open
            inside = ~mask_of_spaces(block) & np.uint64(HIGH)
            # a bound is where a byte and the one before it differ in whether they are of a word
            turns = inside ^ (inside << np.uint64(8) | np.uint64(found & 1) << np.uint64(7))
            # every place is written, and counts only where a bound is: a branch would be guessed wrong once a word
            for number in range(8):
                bounds[found] = place + number
                found += np.int64((turns >> np.uint64(8 * number + 7)) & np.uint64(1))
            place += 8
            continue
        # eight bytes by characters, then blocks are tried again: a single quotation mark may be all that is not ASCII
        part = min(place + 8, stop)
        while place < part:
            code, size = decode(data, place, end)
            kind = classes[code]
            # an open word ends at white space and before a character that is a word itself; a new one starts at all others
            if (found & 1 == 1) == (kind & (SPACE | UNSPACED) != 0):
                bounds[found] = place
                found += 1
            if kind & UNSPACED:
                bounds[found] = place
                bounds[found + 1] = place + size
                found += 2
            place += size
    if place == end and found % 2:
        bounds[found] = end
        found += 1
    return place, found
