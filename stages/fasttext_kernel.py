"""The inner loop of fastText classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

REMEMBERED_WORDS = 1 << 16
"""Words whose summed vectors are remembered (by hash, the last one of a slot)."""


@njit(cache=True, nogil=True)
def _hash(data: Any, begin: int, end: int) -> int:
    """See `stages.fasttext_model.word_hash`."""
    value = np.uint32(2166136261)
    for place in range(begin, end):
        value = np.uint32((value ^ np.uint32(np.int8(data[place]))) * np.uint32(16777619))
    return int(value)


@njit(cache=True, nogil=True, inline="always")
def _is_space(byte: int) -> bool:
    return byte <= 32 and (byte == 32 or 9 <= byte <= 13 or byte == 0)


@njit(cache=True, nogil=True)
def _find(data: Any, begin: int, end: int, table: Any, word_bytes: Any, word_bounds: Any) -> int:
    mask = len(table) - 1
    place = _hash(data, begin, end) & mask
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
def predict_rows(
    data: Any,
    offsets: Any,
    vectors: Any,
    output: Any,
    tree: Any,
    table: Any,
    word_bytes: Any,
    word_bounds: Any,
    kept: Any,
    is_kept: Any,
    bucket: Any,
    shortest: int,
    longest: int,
    end_of_line: int,
    keys: Any,
    sums: Any,
    amounts: Any,
) -> Any:
    """See `FastTextClassifier.predict`."""
    count, dimension = len(offsets) - 1, vectors.shape[1]
    labels, scores = np.full(count, -1, np.int32), np.zeros(count)
    bracketed = np.empty(64, np.uint8)
    hidden = np.zeros(dimension)
    nodes = np.zeros(max(len(tree), output.shape[0]))
    for row in range(count):
        hidden[:] = 0
        added = words = 0
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
                sums[slot] = 0
                amount = 0
                found = _find(data, begin, place, table, word_bytes, word_bounds)
                if found >= 0:
                    sums[slot] += vectors[found]
                    amount = 1
                if longest > 0 and found != end_of_line:
                    length = place - begin + 2
                    if length > len(bracketed):
                        bracketed = np.empty(2 * length, np.uint8)
                    bracketed[0], bracketed[length - 1] = 60, 62
                    bracketed[1 : length - 1] = data[begin:place]
                    amount += _add_ngrams(
                        bracketed, length, kept, is_kept, bucket, shortest, longest, vectors, sums[slot]
                    )
                amounts[slot] = amount
            added += amounts[slot]
            for number in range(dimension):
                hidden[number] += sums[slot, number]
        if not words:
            continue
        if end_of_line >= 0:
            added += 1
            for number in range(dimension):
                hidden[number] += vectors[end_of_line, number]
        if not added:
            continue
        hidden /= added
        if len(tree):
            leaves = (len(tree) + 1) // 2
            nodes[len(tree) - 1] = 0.0
            for parent in range(len(tree) - 1, leaves - 1, -1):
                value = 0.0
                for number in range(dimension):
                    value += output[parent - leaves, number] * hidden[number]
                value = 1.0 / (1.0 + np.exp(-value))
                nodes[tree[parent, 0]] = nodes[parent] + np.log(1.0 - value + 1e-5)
                nodes[tree[parent, 1]] = nodes[parent] + np.log(value + 1e-5)
            best = 0
            for leaf in range(leaves):
                if nodes[leaf] > nodes[best]:
                    best = leaf
            labels[row], scores[row] = best, min(np.exp(nodes[best]), 1.0)
        else:
            best, largest = 0, -np.inf
            for label in range(output.shape[0]):
                nodes[label] = 0.0
                for number in range(dimension):
                    nodes[label] += output[label, number] * hidden[number]
                if nodes[label] > largest:
                    best, largest = label, nodes[label]
            total = 0.0
            for label in range(output.shape[0]):
                total += np.exp(nodes[label] - largest)
            labels[row], scores[row] = best, 1.0 / total
    return labels, scores
