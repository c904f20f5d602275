"""The inner loops of fastText classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

REMEMBERED_WORDS = 1 << 16
"""Words whose summed vectors are remembered (by hash, the last one of a slot)."""

GATHERED_ROWS = 4096
"""Rows of vectors that are added at once."""

NGRAM_FACTOR = 116_049_371
"""Of fastText's hash of words in a row, 64 bits."""


@njit(cache=True, nogil=True)
def word_hash(data: Any, begin: int, end: int) -> Any:
    """fastText's 32-bit FNV-1a of `data[begin:end]`, uint32; its bytes are signed, so those from 0x80 up set all upper bits."""
    value = np.uint32(2166136261)
    for place in range(begin, end):
        value = np.uint32((value ^ np.uint32(np.int8(data[place]))) * np.uint32(16777619))
    return value


@njit(cache=True, nogil=True, inline="always")
def _is_space(byte: int) -> bool:
    return byte <= 32 and (byte == 32 or 9 <= byte <= 13 or byte == 0)


@njit(cache=True, nogil=True)
def find_word(data: Any, begin: int, end: int, hashed: Any, table: Any, word_bytes: Any, word_bounds: Any) -> int:
    """The number of the word `data[begin:end]`, whose `word_hash` is `hashed`; -1 where the dictionary has it not."""
    mask = len(table) - 1
    place = np.int64(hashed) & mask
    while table[place] >= 0:
        word = table[place]
        start = word_bounds[word]
        if word_bounds[word + 1] - start == end - begin:
            same = True
            for offset in range(end - begin):
                if word_bytes[start + offset] != data[begin + offset]:
                    same = False
                    break
            if same:
                return word
        place = (place + 1) & mask
    return -1


@njit(cache=True, nogil=True)
def _add_ngrams(
    word: Any, length: int, kept: Any, is_kept: Any, bucket: Any, shortest: int, longest: int, vectors: Any, total: Any
) -> int:
    """Adds the vectors of the character n-grams of `word[:length]` (with its brackets) and returns how many there were."""
    added = 0
    for begin in range(length):
        if word[begin] & 0xC0 == 0x80:
            continue
        value = np.uint32(2166136261)
        place = begin
        for size in range(1, longest + 1):
            if place >= length:
                break
            value = np.uint32((value ^ np.uint32(np.int8(word[place]))) * np.uint32(16777619))
            place += 1
            while place < length and word[place] & 0xC0 == 0x80:
                value = np.uint32((value ^ np.uint32(np.int8(word[place]))) * np.uint32(16777619))
                place += 1
            if size >= shortest and not (size == 1 and (begin == 0 or place == length)):
                ngram = value % bucket  # of 32 bits both: a division of 64 bits takes three times as long
                # a bit each first: that table stays in the processor's cache, where the rows' does not
                if is_kept[ngram >> np.uint32(5)] >> (ngram & np.uint32(31)) & np.uint32(1):
                    row = kept[ngram]
                    added += 1
                    for number in range(len(total)):
                        total[number] += vectors[row, number]
    return added


@njit(cache=True, nogil=True)
def hash_table(word_bytes: Any, word_bounds: Any) -> Any:
    """Numbers of words by `word_hash`, int32, -1 where none is: open addressing in a power of two, at most half full."""
    count, size = len(word_bounds) - 1, 16
    while size < 2 * count:
        size *= 2
    table = np.full(size, -1, np.int32)
    for number in range(count):
        place = np.int64(word_hash(word_bytes, word_bounds[number], word_bounds[number + 1])) & (size - 1)
        while table[place] >= 0:
            place = (place + 1) & (size - 1)
        table[place] = number
    return table


@njit(cache=True, nogil=True)
def text_vectors(
    data: Any,
    offsets: Any,
    vectors: Any,
    table: Any,
    word_bytes: Any,
    word_bounds: Any,
    kept: Any,
    is_kept: Any,
    bucket: Any,
    shortest: int,
    longest: int,
    word_ngrams: int,
    end_of_line: int,
    keys: Any,
    sums: Any,
    amounts: Any,
    numbers: Any,
    hashes: Any,
) -> Any:
    """The mean vector of what fastText sees of each text, float64, shape (texts, dimension), and whether it saw a word that
    it knows something of; see `FastTextClassifier`."""
    count, dimension = len(offsets) - 1, vectors.shape[1]
    means, is_seen = np.zeros((count, dimension)), np.zeros(count, np.bool_)
    bracketed = np.empty(64, np.uint8)
    runs = np.zeros(word_ngrams, np.uint64)  # the hashes of the last words: of one word, of two in a row, ...
    hash_of_end = word_hash(np.array([60, 47, 115, 62], np.uint8), 0, 4)
    # rows are gathered first and added after: of many loads that miss the cache the processor then has several under way
    rows = np.empty(GATHERED_ROWS + word_ngrams, np.int32)
    for row in range(count):
        mean = means[row]
        added = words = gathered = 0
        place, end = offsets[row], offsets[row + 1]
        while place < end:
            while place < end and _is_space(data[place]):
                place += 1
            begin = place
            key = np.uint64(0xCBF29CE484222325)
            while place < end and not _is_space(data[place]):
                key = (key ^ np.uint64(data[place])) * np.uint64(0x100000001B3)
                place += 1
            if place == begin:
                continue
            words += 1
            key ^= np.uint64(place - begin) << np.uint64(56)
            slot = np.int64((key ^ key >> np.uint64(32)) & np.uint64(REMEMBERED_WORDS - 1))
            if keys[slot] != key:
                keys[slot] = key
                hashes[slot] = word_hash(data, begin, place)
                found = find_word(data, begin, place, hashes[slot], table, word_bytes, word_bounds)
                numbers[slot] = found
                if longest > 0:
                    sums[slot] = 0
                    amounts[slot] = 0
                    if found >= 0:
                        sums[slot] += vectors[found]
                        amounts[slot] = 1
                    if found != end_of_line:
                        length = place - begin + 2
                        if length > len(bracketed):
                            bracketed = np.empty(2 * length, np.uint8)
                        bracketed[0], bracketed[length - 1] = 60, 62
                        bracketed[1 : length - 1] = data[begin:place]
                        amounts[slot] += _add_ngrams(
                            bracketed, length, kept, is_kept, bucket, shortest, longest, vectors, sums[slot]
                        )
            if longest > 0:
                added += amounts[slot]
                for number in range(dimension):
                    mean[number] += sums[slot, number]
            elif numbers[slot] >= 0:
                rows[gathered] = numbers[slot]
                gathered += 1
            if word_ngrams > 1:
                gathered = _gather_runs(hashes[slot], words, runs, kept, bucket, rows, gathered)
            if gathered >= GATHERED_ROWS:
                added += _add_rows(rows[:gathered], vectors, mean)
                gathered = 0
        if not words:
            continue
        if end_of_line >= 0:
            rows[gathered] = end_of_line
            gathered += 1
        if word_ngrams > 1:
            gathered = _gather_runs(hash_of_end, words + 1, runs, kept, bucket, rows, gathered)
        added += _add_rows(rows[:gathered], vectors, mean)
        if added:
            mean /= added
            is_seen[row] = True
    return means, is_seen


@njit(cache=True, nogil=True)
def _gather_runs(hashed: Any, words: int, runs: Any, kept: Any, bucket: Any, rows: Any, gathered: int) -> int:
    """Appends the rows of the runs of words that end with this one, the text's `words`-th, and returns how many there are."""
    last = np.uint64(np.int64(np.int32(hashed)))  # the library's are signed
    for size in range(min(len(runs), words), 1, -1):
        runs[size - 1] = runs[size - 2] * np.uint64(NGRAM_FACTOR) + last
        row = kept[runs[size - 1] % np.uint64(bucket)]
        if row >= 0:
            rows[gathered] = row
            gathered += 1
    runs[0] = last
    return gathered


@njit(cache=True, nogil=True)
def _add_rows(rows: Any, vectors: Any, total: Any) -> int:
    for row in rows:
        for number in range(len(total)):
            total[number] += vectors[row, number]
    return len(rows)


@njit(cache=True, nogil=True)
def label_chances(mean: Any, output: Any, tree: Any) -> Any:
    """The probability of each label for one text's mean vector, float64, at most 1; by softmax, or down a Huffman tree
    (hierarchical softmax). As in fastText, which adds 1e-5 before each logarithm, they add up to a little more than 1."""
    dimension = len(mean)
    if len(tree):
        leaves = (len(tree) + 1) // 2
        nodes = np.zeros(len(tree))
        for parent in range(len(tree) - 1, leaves - 1, -1):
            value = 0.0
            for number in range(dimension):
                value += output[parent - leaves, number] * mean[number]
            value = 1.0 / (1.0 + np.exp(-value))
            nodes[tree[parent, 0]] = nodes[parent] + np.log(1.0 - value + 1e-5)
            nodes[tree[parent, 1]] = nodes[parent] + np.log(value + 1e-5)
        return np.minimum(np.exp(nodes[:leaves]), 1.0)
    chances = np.zeros(output.shape[0])
    for label in range(output.shape[0]):
        for number in range(dimension):
            chances[label] += output[label, number] * mean[number]
    chances = np.exp(chances - chances.max())
    return np.minimum(chances / chances.sum() + 1e-5, 1.0)


@njit(cache=True, nogil=True)
def most_probable(means: Any, is_seen: Any, output: Any, tree: Any) -> Any:
    """The number of the most probable label of each text, int32, -1 where none was seen; and its probability."""
    labels, scores = np.full(len(means), -1, np.int32), np.zeros(len(means))
    for row in range(len(means)):
        if is_seen[row]:
            chances = label_chances(means[row], output, tree)
            labels[row] = chances.argmax()
            scores[row] = chances[labels[row]]
    return labels, scores


@njit(cache=True, nogil=True)
def probability_of(label: int, means: Any, is_seen: Any, output: Any, tree: Any) -> Any:
    """The probability of one label for each text, float64; NaN where none was seen."""
    scores = np.full(len(means), np.nan)
    for row in range(len(means)):
        if is_seen[row]:
            scores[row] = label_chances(means[row], output, tree)[label]
    return scores


@njit(cache=True, nogil=True)
def read_entries(content: Any, place: int, count: int) -> Any:
    """The dictionary of a model file: `count` entries from a byte on, each a word that a NUL ends, its int64 count and its type
    in a byte.

    Returns where each word begins and ends, int64, shape (count, 2), the counts, and the byte after them all, which is beyond
    the content's end where that is cut short.
    """
    bounds, counts = np.zeros((count, 2), np.int64), np.zeros(count, np.int64)
    for number in range(count):
        bounds[number, 0] = place
        while place < len(content) and content[place] != 0:
            place += 1
        bounds[number, 1] = place
        place += 10
        if place > len(content):
            break
        for byte in range(8):
            counts[number] |= np.int64(content[place - 9 + byte]) << (8 * byte)
    return bounds, counts, place
