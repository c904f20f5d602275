"""Which texts share word n-grams with documents: an index of the texts' n-grams, and one pass over the documents' words.

Words are those of deduplication (`text.shingles`), each a 64-bit hash; an n-gram's key is a rolling hash of them (Karp and
Rabin 1987), 64 bits too and nothing else compared. So of w words of documents and e n-grams of texts w * e / 2^64 meet by
chance: with 10^10 words and 10^6 n-grams the chance that any does is 0.0005, and six times that with short texts of five
lengths beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.text.shingles import BASE, mix, word_hashes

MOST_TEXTS = 10
"""An n-gram of more texts than these is not a sign of any of them: instructions, headings. GPT-3 (Brown et al. 2020, appendix
C) left out those of more than 10 training documents, and so does NeMo Curator; this counts the texts that are looked for, so
that the fate of a document depends on no other document."""

NOTHING = -1


@dataclass(frozen=True)
class NgramIndex:
    """`lengths`: int64, the words of n-grams, the longest first, and `powers`, uint64, of `BASE` to them. `keys`, `texts`:
    uint64 and int32, a hash table at most half full, and the first text that has the n-gram or `NOTHING`. `filter`: a bit for
    every 16th of the keys' range by their upper bits, so that most words cost one look into the processor's cache."""

    lengths: npt.NDArray[np.int64]
    powers: npt.NDArray[np.uint64]
    keys: npt.NDArray[np.uint64]
    texts: npt.NDArray[np.int32]
    filter: npt.NDArray[np.uint32]

    @staticmethod
    def of(text: pa.Array, size: int, least: int) -> tuple[NgramIndex, npt.NDArray[np.bool_]]:
        """The index of some texts, and which of them have an n-gram in it or the same words as an earlier one that has.

        `size`: words of an n-gram; a text of fewer words is one n-gram if it has `least`, else none.
        """
        words, bounds = word_hashes(text)
        keys, owners, lengths, whole = _ngrams(words, bounds, size, least)
        # a passage that several questions are about is in the set once for each: equal texts count as one, the first
        _, first, same = np.unique(whole, return_index=True, return_inverse=True)
        represented = first[same]
        there = represented[owners] == owners
        keys, owners, lengths = keys[there], owners[there], lengths[there]
        # each n-gram once a text, then each n-gram once, of the first text that has it
        order = np.lexsort((owners, keys))
        keys, owners, lengths = keys[order], owners[order], lengths[order]
        once = np.ones(len(keys), np.bool_)
        once[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
        keys, owners, lengths = keys[once], owners[once], lengths[once]
        keys, begins, counts = np.unique(keys, return_index=True, return_counts=True)
        is_rare = counts <= MOST_TEXTS
        used = np.zeros(len(text), np.bool_)
        used[owners[np.repeat(is_rare, counts)]] = True
        kept, begins = keys[is_rare], begins[is_rare]
        there_are = np.unique(lengths[begins])[::-1].astype(np.int64)
        powers = np.array([pow(BASE, int(length), 1 << 64) for length in there_are], np.uint64)
        table = _table(kept, owners[begins].astype(np.int32))
        return NgramIndex(there_are, powers, *table), used[represented]

    def overlaps(self, text: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Of each document at how many words an n-gram of the index ends, int32; the text that most of these point to, the
        first of several, int32, `NOTHING` where there is none; and its words, int64."""
        words, bounds = word_hashes(text)
        counts, texts = _overlaps(
            words, bounds, self.lengths, self.powers, self.keys, self.texts, self.filter, np.uint64(_shift(self.filter))
        )
        return counts, texts, np.diff(bounds)


def _shift(bits: npt.NDArray[np.uint32]) -> int:
    """By how many bits a key is shifted down to the number of its bit in the filter."""
    return 64 - (32 * len(bits)).bit_length() + 1


@njit(cache=True, nogil=True)
def _key(rolling: Any, length: int) -> Any:
    """What an n-gram is looked up by; never 0, which stands for an empty place."""
    key = mix(rolling ^ np.uint64(length))
    return key if key != 0 else np.uint64(1)


@njit(cache=True, nogil=True)
def _ngrams(words: Any, bounds: Any, size: int, least: int) -> Any:
    """All n-grams of texts, one text after the other: keys, the number of the text, words; and a key of each whole text."""
    count = len(bounds) - 1
    # an n-gram ends at one word, so there are no more of them than words
    keys, owners = np.empty(len(words), np.uint64), np.empty(len(words), np.int64)
    lengths, whole = np.empty(len(words), np.int64), np.zeros(count, np.uint64)
    leaves = np.uint64(1)  # BASE^size, what the word that leaves the window was multiplied by
    for _ in range(size):
        leaves *= np.uint64(BASE)
    made = 0
    for row in range(count):
        begin, end = bounds[row], bounds[row + 1]
        length = size if end - begin >= size else end - begin
        rolling, everything = np.uint64(0), np.uint64(0)
        for place in range(begin, end):
            everything = everything * np.uint64(BASE) + words[place]
            rolling = rolling * np.uint64(BASE) + words[place]
            if place - begin >= size:
                rolling -= words[place - size] * leaves
            if place - begin + 1 >= length and length >= min(least, size):
                keys[made], owners[made], lengths[made] = _key(rolling, length), row, length
                made += 1
        whole[row] = _key(everything, end - begin)
    return keys[:made], owners[:made], lengths[:made], whole


@njit(cache=True, nogil=True)
def _table(keys: Any, owners: Any) -> Any:
    """See `NgramIndex`: `keys`, `texts` and `filter`."""
    # half empty, so that a search that finds nothing, as nearly all do, ends after one or two places (Knuth, volume 3, 6.4)
    size, bits = 16, 5
    while size < 2 * len(keys):
        size *= 2
    while 1 << bits < 16 * len(keys):
        bits += 1
    held, texts = np.zeros(size, np.uint64), np.full(size, NOTHING, np.int32)
    flags = np.zeros((1 << bits) // 32, np.uint32)
    for number in range(len(keys)):
        # the table takes the key's lower bits, the filter its upper ones: of a hash they are independent
        place = np.int64(keys[number] & np.uint64(size - 1))
        while held[place] != 0:
            place = (place + 1) & (size - 1)
        held[place], texts[place] = keys[number], owners[number]
        flag = keys[number] >> np.uint64(64 - bits)
        flags[flag >> np.uint64(5)] |= np.uint32(1) << np.uint32(flag & np.uint64(31))
    return held, texts, flags


@njit(cache=True, nogil=True)
def _overlaps(words: Any, bounds: Any, lengths: Any, powers: Any, keys: Any, texts: Any, flags: Any, shift: Any) -> Any:
    """Of each document the words at which an n-gram ends, and the text that most of these are of; see `NgramIndex.overlaps`."""
    count, mask = len(bounds) - 1, len(keys) - 1
    counts, most = np.zeros(count, np.int32), np.full(count, NOTHING, np.int32)
    # a rolling hash for each length: a word costs a multiplication and a subtraction a length, however long the n-grams are
    rolling = np.zeros(len(lengths), np.uint64)
    hits = np.empty(64, np.int32)
    for row in range(count):
        rolling[:] = np.uint64(0)
        begin, made = bounds[row], 0
        for place in range(begin, bounds[row + 1]):
            is_hit = False
            for number in range(len(lengths)):
                length = lengths[number]
                rolling[number] = rolling[number] * np.uint64(BASE) + words[place]
                if place - begin >= length:
                    rolling[number] -= words[place - length] * powers[number]
                # one hit a word, by the longest n-gram that ends there, since words are counted; the hashes of the other
                # lengths must roll on all the same
                if is_hit or place - begin + 1 < length:
                    continue
                key = _key(rolling[number], length)
                # at most one bit of 16 is set, and a million n-grams are 2 MB of bits: 15 words of 16 are done here, from the
                # cache, and do not wait for a place of the table, which lies in memory
                flag = key >> shift
                if not flags[flag >> np.uint64(5)] >> np.uint32(flag & np.uint64(31)) & np.uint32(1):
                    continue
                slot = np.int64(key & np.uint64(mask))
                while keys[slot] != 0 and keys[slot] != key:
                    slot = (slot + 1) & mask
                if keys[slot] == key:
                    if made == len(hits):
                        hits = np.concatenate((hits, np.empty(len(hits), np.int32)))
                    hits[made] = texts[slot]
                    made += 1
                    is_hit = True
        counts[row] = made
        if made:
            most[row] = _most_frequent(np.sort(hits[:made]))
    return counts, most


@njit(cache=True, nogil=True)
def _most_frequent(ordered: Any) -> int:
    """The number that stands most often in an ascending array, the least of several."""
    best, often, run = ordered[0], 0, 0
    for place in range(len(ordered)):
        run = run + 1 if place and ordered[place] == ordered[place - 1] else 1
        if run > often:
            best, often = ordered[place], run
    return best
