"""How deep the tags of a page nest, without parsing it."""

from __future__ import annotations

import numpy as np

MAX_DEPTH = 4096
"""Depth beyond which a page is not extracted. resiliparse takes time by the square of the depth (measured: 0.09 s at 3,000,
0.94 s at 10,000, 10 s at 30,000); browsers stop nesting at 512."""

_FLAT = b"area base br col embed hr img input link meta param source track wbr p li dd dt td th tr option path use"
"""Elements without content, or that the next of their kind closes; compared by up to three letters."""


def is_too_deep(html: str) -> bool:
    """Whether more than `MAX_DEPTH` elements are open at one point, by its tags alone (those in scripts count, too)."""
    if html.count("<") - html.count("</") <= MAX_DEPTH:
        return False
    page = np.frombuffer(html.encode("utf-8", "replace") + b"\0\0\0\0\0", np.uint8)
    tags = np.flatnonzero(page[:-5] == ord("<"))
    closes = page[tags + 1] == ord("/")
    names = tags + 1 + closes
    letters = np.stack([page[names + number] | 0x20 for number in range(3)], axis=1).astype(np.int64)
    is_letter = (letters >= ord("a")) & (letters <= ord("z"))
    is_letter[:, 1] &= is_letter[:, 0]
    is_letter[:, 2] &= is_letter[:, 1]
    codes = (letters * is_letter) @ np.array([65_536, 256, 1])
    flat = [int.from_bytes(name[:3].ljust(3, b"\0"), "big") for name in _FLAT.split()]
    counts = is_letter[:, 0] & ~np.isin(codes, flat)
    depth = np.cumsum(np.where(counts, np.where(closes, -1, 1), 0))
    lowest = np.minimum(np.minimum.accumulate(depth), 0)
    return bool((depth - lowest).max(initial=0) > MAX_DEPTH)
