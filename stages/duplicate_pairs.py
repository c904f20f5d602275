"""From keys to candidate pairs, from candidate pairs to verified ones, from those to survivors.

Documents are numbers: their partition's base (the documents of all partitions before it) plus their position. Priority
says who survives: a higher one first, equal ones by lower number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Numbers = npt.NDArray[np.int64]

PEERS = 32
"""In a bucket a document is paired with this many of the highest priority: all pairs of a bucket of up to 33 documents,
and linear work beyond, however large the bucket."""


def bucket_rows(keys: npt.NDArray[np.uint64], documents: Numbers, priority: Numbers) -> tuple[Numbers, Numbers]:
    """Rows that share their key with another, bucket by bucket and by priority in each; and where each bucket begins.

    `keys`, `documents`, `priority`: shape (rows,). Returns rows and bounds, of shape (buckets + 1,).
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    shared = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    rows = order[shared]
    rows = rows[np.lexsort((documents[rows], -priority[rows], keys[rows]))]
    starts = (
        np.flatnonzero(np.concatenate([[True], keys[rows][1:] != keys[rows][:-1]])) if len(rows) else np.empty(0, int)
    )
    return rows, np.concatenate([starts, [len(rows)]]).astype(np.int64)


def candidate_pairs(rows: Numbers, bounds: Numbers) -> tuple[Numbers, Numbers]:
    """Pairs (lower priority, higher priority) of the rows in each bucket, at most `PEERS` a row."""
    return _pairs(rows, bounds, PEERS)


@njit(cache=True, nogil=True)
def _pairs(rows: Any, bounds: Any, peers: int) -> Any:
    count = 0
    for bucket in range(len(bounds) - 1):
        for place in range(bounds[bucket + 1] - bounds[bucket]):
            count += min(place, peers)
    losers, winners = np.empty(count, np.int64), np.empty(count, np.int64)
    made = 0
    for bucket in range(len(bounds) - 1):
        first = bounds[bucket]
        for place in range(first, bounds[bucket + 1]):
            for other in range(first, min(place, first + peers)):
                losers[made], winners[made] = rows[place], rows[other]
                made += 1
    return losers, winners


@njit(cache=True, nogil=True)
def overlaps(one_rows: Any, other_rows: Any, one: Any, one_bounds: Any, other: Any, other_bounds: Any) -> Any:
    """Shared shingles of pairs of sorted sets: `one[one_bounds[r]:one_bounds[r + 1]]` is row r's. int64, shape (pairs,)."""
    shared = np.zeros(len(one_rows), np.int64)
    for pair in range(len(one_rows)):
        a, a_end = one_bounds[one_rows[pair]], one_bounds[one_rows[pair] + 1]
        b, b_end = other_bounds[other_rows[pair]], other_bounds[other_rows[pair] + 1]
        count = 0
        while a < a_end and b < b_end:
            x, y = one[a], other[b]
            count += x == y
            a += x <= y
            b += y <= x
        shared[pair] = count
    return shared


@njit(cache=True, nogil=True)
def survivors(losers: Any, winners: Any, documents: int) -> Any:
    """Which pair drops each document: its index, or -1 for a document that stays; int64, shape (documents,).

    `losers`, `winners`: compact numbers below `documents`, ordered by the loser's priority (highest first), then the
    winner's. A document goes only if a winner of it stays, so nothing follows from a chain of likenesses.
    """
    dropped_by = np.full(documents, -1, np.int64)
    for pair in range(len(losers)):
        if dropped_by[losers[pair]] < 0 and dropped_by[winners[pair]] < 0:
            dropped_by[losers[pair]] = pair
    return dropped_by
