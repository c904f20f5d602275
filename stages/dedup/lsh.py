"""Locality-sensitive hashing: from the keys of one band to candidate pairs.

Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4: documents that share a band's key share a bucket, and a bucket
proposes pairs. Documents are numbers (those of all partitions before plus the position) and have a rank: of two duplicates
the one of lower rank is kept (the winner), the other is dropped (the loser).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.stages.dedup.group_by_key import Numbers, grouped, sorted_groups

PEERS = 64
"""In a bucket a document is paired with this many of the lowest rank: all pairs of a bucket of up to 65 documents, and work
that grows with the documents, not with their square, in a larger one."""

NUMBER_BITS = 36
"""A corpus has at most 2^36 documents (68 billion)."""

MOST_PRIORITY = 2 ** (63 - NUMBER_BITS) - 1
"""Priorities of this (134 million) or more count as equal: texts of 134 MB, minutes from 1970 to 2225."""


def ranks_of(numbers: Numbers, priorities: Numbers) -> Numbers:
    """Ranks, all different: highest priority (0 or more) first, then lowest number, which is in the rank, see `numbers_of`."""
    # priority and number in one integer: a pair is 16 bytes, comparing documents is comparing integers, and no task has to
    # look up the priority of a document of another partition
    return (MOST_PRIORITY - np.minimum(priorities, MOST_PRIORITY)) << NUMBER_BITS | numbers


def numbers_of(ranks: Numbers) -> Numbers:
    """The documents' numbers out of their ranks."""
    return ranks & (2**NUMBER_BITS - 1)


def rows_of_shared_keys(keys: npt.NDArray[np.uint64]) -> Numbers:
    """Rows whose key is also that of another row, ascending."""
    order, ordered = grouped(keys)
    # most keys of a band are unique: finding the others first leaves little for the slower sorts by digest and rank
    same = ordered[1:] == ordered[:-1]
    shared = np.zeros(len(keys), np.bool_)
    shared[order[:-1][same]] = True
    shared[order[1:][same]] = True
    return np.flatnonzero(shared)


def same_texts(
    keys: npt.NDArray[np.uint64], digests: npt.NDArray[np.uint64], ranks: Numbers
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Rows grouped by key and ordered by digest and rank, and which of these begin a group of the same key and digest."""
    order, keys = sorted_groups(keys, digests, ranks)
    digests = digests[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (keys[1:] != keys[:-1]) | (digests[1:] != digests[:-1])
    return order, begins


def exact_pairs(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64], ranks: Numbers) -> tuple[Numbers, Numbers]:
    """Ranks of each document whose 128-bit digest one of lower rank has, and of the one of lowest rank that has it."""
    order, begins = same_texts(low, high, ranks)
    best = order[begins][np.cumsum(begins) - 1]
    return ranks[order[~begins]], ranks[best[~begins]]


def near_pairs(
    keys: npt.NDArray[np.uint64], digests: npt.NDArray[np.uint64], ranks: Numbers
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Candidate pairs of one band: ranks of losers, ranks of winners, ranks of all documents in pairs, sizes of buckets.

    Documents of the same digest count as one, that of lowest rank (its fate is that of all of them), so that a page copied a
    thousandfold costs nothing. Buckets of one are left out.
    """
    order, begins = same_texts(keys, digests, ranks)
    rows = order[begins]
    # digests split the buckets; group by key again, now with each text once
    by_rank, ordered = sorted_groups(keys[rows], ranks[rows], ranks[rows])
    rows = rows[by_rank]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(rows) else rows
    sizes = np.diff(starts, append=len(rows))
    rows = rows[np.repeat(sizes > 1, sizes)]
    sizes = sizes[sizes > 1]
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    losers, winners = _pairs(ranks[rows], bounds, PEERS)
    return losers, winners, ranks[rows], sizes


def distinct(losers: Numbers, winners: Numbers) -> tuple[Numbers, Numbers]:
    """Each pair once, ascending."""
    order = np.lexsort((winners, losers))
    losers, winners = losers[order], winners[order]
    first = np.ones(len(losers), np.bool_)
    first[1:] = (losers[1:] != losers[:-1]) | (winners[1:] != winners[:-1])
    return losers[first], winners[first]


@njit(cache=True, nogil=True)
def _pairs(ranks: Any, bounds: Any, peers: int) -> Any:
    """Pairs (loser, winner) of each bucket's documents, ascending by rank in it, with the first `peers` of the bucket."""
    # counted before they are made, so that one array holds them all, without growing and copying
    count = 0
    for bucket in range(len(bounds) - 1):
        for place in range(bounds[bucket + 1] - bounds[bucket]):
            count += min(place, peers)
    losers, winners = np.empty(count, np.int64), np.empty(count, np.int64)
    made = 0
    for bucket in range(len(bounds) - 1):
        first = bounds[bucket]
        # the peers of lowest rank, because those are the likeliest to be kept: a pair of two dropped documents says nothing
        for place in range(first, bounds[bucket + 1]):
            for other in range(first, min(place, first + peers)):
                losers[made], winners[made] = ranks[place], ranks[other]
                made += 1
    return losers, winners
