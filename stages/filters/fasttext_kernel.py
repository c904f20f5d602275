"""The inner loops of fastText classification."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.stages.text.hash_table import FNV_BASIS as FNV_BASIS_64
from tokenmill.stages.text.hash_table import FNV_PRIME as FNV_PRIME_64

REMEMBERED_WORDS = 1 << 16
"""Words whose summed vectors are remembered (by hash, the last one of a slot)."""

GATHERED_ROWS = 4096
"""Rows of vectors that are added at once."""

NGRAM_FACTOR = 116_049_371
"""Of fastText's hash of words in a row, 64 bits."""

FNV_BASIS, FNV_PRIME = 2_166_136_261, 16_777_619
"""Of FNV-1a with 32 bits (Fowler, Noll, Vo), fastText's hash of words and of character n-grams."""

_OPEN, _CLOSE = b"<>"
"""What fastText puts around a word, so that n-grams at its ends are others than those within."""


class Dictionary(NamedTuple):
    """The words that a model knows. `text`: uint8, one after the other. `starts`: int64, (words + 1,), where each starts in it.
    `table`: int32, their numbers by `word_hash`, see `hash_table`."""

    text: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    table: npt.NDArray[np.int32]


class Ngrams(NamedTuple):
    """The n-grams that have a vector, by bucket of their hash. `rows`: int32, (buckets,), the row of the vectors, or -1.
    `is_kept`: which have one, as bits, 32 a number. `bucket`: uint32, how many buckets there are. `shortest`, `longest`:
    characters of an n-gram of characters, 0 for none. `words`: most words in a row."""

    rows: npt.NDArray[np.int32]
    is_kept: npt.NDArray[np.uint32]
    bucket: np.uint32
    shortest: int
    longest: int
    words: int


class InputLayer(NamedTuple):
    """What gives a text its vector. `vectors`: float32, shape (words + n-grams, dimension). `end_of_line`: the number of the
    word `</s>`, or -1."""

    vectors: npt.NDArray[np.float32]
    dictionary: Dictionary
    ngrams: Ngrams
    end_of_line: int


class WordMemory(NamedTuple):
    """What words seen lately are, each in the slot of its key. It makes answers faster and never other: what is remembered of a
    word is the same whenever it is made. `keys`: uint64, a hash of the word. `numbers`: int32, its number, -1 where the
    dictionary has it not. `hashes`: uint32, its `word_hash`. In models with character n-grams also `sums`: float32, (slots,
    dimension), the sum of its vectors, and `amounts`: int32, how many those are."""

    keys: npt.NDArray[np.uint64]
    numbers: npt.NDArray[np.int32]
    hashes: npt.NDArray[np.uint32]
    sums: npt.NDArray[np.float32]
    amounts: npt.NDArray[np.int32]

    @staticmethod
    def empty(dimension: int) -> WordMemory:
        """Nothing remembered."""
        return WordMemory(
            np.zeros(REMEMBERED_WORDS, np.uint64),
            np.zeros(REMEMBERED_WORDS, np.int32),
            np.zeros(REMEMBERED_WORDS, np.uint32),
            np.zeros((REMEMBERED_WORDS, dimension), np.float32),
            np.zeros(REMEMBERED_WORDS, np.int32),
        )


@njit(cache=True, nogil=True, inline="always")
def _hash_byte(value: Any, byte: Any) -> Any:
    """One step of FNV-1a as fastText takes it: its bytes are signed, so that those from 0x80 up set all upper bits."""
    return np.uint32((value ^ np.uint32(np.int8(byte))) * np.uint32(FNV_PRIME))


@njit(cache=True, nogil=True)
def word_hash(data: Any, begin: int, end: int) -> Any:
    """fastText's hash of the word `data[begin:end]`, uint32."""
    value = np.uint32(FNV_BASIS)
    for place in range(begin, end):
        value = _hash_byte(value, data[place])
    return value


@njit(cache=True, nogil=True, inline="always")
def _is_space(byte: int) -> bool:
    return byte <= 32 and (byte == 32 or 9 <= byte <= 13 or byte == 0)


@njit(cache=True, nogil=True)
def find_word(data: Any, begin: int, end: int, hashed: Any, dictionary: Dictionary) -> int:
    """The number of the word `data[begin:end]`, whose `word_hash` is `hashed`; -1 where the dictionary has it not."""
    text, starts, table = dictionary
    mask = len(table) - 1
    place = np.int64(hashed) & mask
    while table[place] >= 0:
        word = table[place]
        start = starts[word]
        if starts[word + 1] - start == end - begin:
            same = True
            for offset in range(end - begin):
                if text[start + offset] != data[begin + offset]:
                    same = False
                    break
            if same:
                return word
        place = (place + 1) & mask
    return -1


@njit(cache=True, nogil=True)
def _add_ngrams(word: Any, length: int, vectors: Any, ngrams: Ngrams, total: Any) -> int:
    """Adds the vectors of the character n-grams of `word[:length]` (with its brackets) and returns how many there were."""
    added = 0
    rows, is_kept, bucket, shortest, longest, _ = ngrams
    for begin in range(length):
        if word[begin] & 0xC0 == 0x80:  # within a character
            continue
        # each n-gram's hash is one step on from that of the n-gram before, which starts at the same character
        value = np.uint32(FNV_BASIS)
        place = begin
        for size in range(1, longest + 1):
            if place >= length:
                break
            value = _hash_byte(value, word[place])
            place += 1
            while place < length and word[place] & 0xC0 == 0x80:
                value = _hash_byte(value, word[place])
                place += 1
            # a bracket alone is no n-gram
            if size >= shortest and not (size == 1 and (begin == 0 or place == length)):
                ngram = value % bucket  # of 32 bits both: a division of 64 bits takes three times as long
                # a bit each first: that table stays in the processor's cache, where the rows' does not
                if is_kept[ngram >> np.uint32(5)] >> (ngram & np.uint32(31)) & np.uint32(1):
                    row = rows[ngram]
                    added += 1
                    for number in range(len(total)):
                        total[number] += vectors[row, number]
    return added


@njit(cache=True, nogil=True)
def hash_table(text: Any, starts: Any) -> Any:
    """Numbers of words by `word_hash`, int32, -1 where none is: open addressing in a power of two, at most half full."""
    count, size = len(starts) - 1, 16
    while size < 2 * count:
        size *= 2
    table = np.full(size, -1, np.int32)
    for number in range(count):
        place = np.int64(word_hash(text, starts[number], starts[number + 1])) & (size - 1)
        while table[place] >= 0:
            place = (place + 1) & (size - 1)
        table[place] = number
    return table


# in line, since numba counts a reference for each array that is handed over: a word not remembered took a quarter longer
@njit(cache=True, nogil=True, inline="always")
def _remember(
    data: Any, begin: int, end: int, slot: int, layer: InputLayer, memory: WordMemory, bracketed: Any
) -> None:
    """Puts what the word `data[begin:end]` is into a slot. `bracketed`: uint8, room for it with its brackets."""
    vectors, dictionary, ngrams, end_of_line = layer
    _, numbers, hashes, sums, amounts = memory
    hashes[slot] = word_hash(data, begin, end)
    found = find_word(data, begin, end, hashes[slot], dictionary)
    numbers[slot] = found
    if ngrams.longest > 0:
        sums[slot] = 0
        amounts[slot] = 0
        if found >= 0:
            sums[slot] += vectors[found]
            amounts[slot] = 1
        if found != end_of_line:  # which has no n-grams
            length = end - begin + 2
            bracketed[0], bracketed[length - 1] = _OPEN, _CLOSE
            bracketed[1 : length - 1] = data[begin:end]
            amounts[slot] += _add_ngrams(bracketed, length, vectors, ngrams, sums[slot])


@njit(cache=True, nogil=True)
def text_vectors(data: Any, offsets: Any, layer: InputLayer, memory: WordMemory) -> Any:
    """The mean vector of what fastText sees of each text, float64, shape (texts, dimension), and whether it saw a word that
    it knows something of; see `FastTextClassifier`."""
    # taken out of the tuples once: at each use, numba would count a reference more
    vectors, _, ngrams, end_of_line = layer
    ngram_rows, _, bucket, _, longest, word_ngrams = ngrams
    keys, numbers, hashes, sums, amounts = memory
    count, dimension = len(offsets) - 1, vectors.shape[1]
    means, is_seen = np.zeros((count, dimension)), np.zeros(count, np.bool_)
    longest_text = 0
    for row in range(count):
        longest_text = max(longest_text, offsets[row + 1] - offsets[row])
    bracketed = np.empty(longest_text + 2, np.uint8)  # a text may be one word
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
            # a key of 64 bits: a remembered word is recognized by it alone, for which fastText's 32 bits are too few
            key = np.uint64(FNV_BASIS_64)
            while place < end and not _is_space(data[place]):
                key = (key ^ np.uint64(data[place])) * np.uint64(FNV_PRIME_64)
                place += 1
            if place == begin:
                continue
            words += 1
            key ^= np.uint64(place - begin) << np.uint64(56)
            slot = np.int64((key ^ key >> np.uint64(32)) & np.uint64(REMEMBERED_WORDS - 1))
            if keys[slot] != key:
                keys[slot] = key
                _remember(data, begin, place, slot, layer, memory, bracketed)
            if longest > 0:
                added += amounts[slot]
                for number in range(dimension):
                    mean[number] += sums[slot, number]
            elif numbers[slot] >= 0:
                rows[gathered] = numbers[slot]
                gathered += 1
            if word_ngrams > 1:
                gathered = _gather_runs(hashes[slot], words, runs, ngram_rows, bucket, rows, gathered)
            if gathered >= GATHERED_ROWS:
                added += _add_rows(rows[:gathered], vectors, mean)
                gathered = 0
        if not words:
            continue
        # the line's end is a word to fastText, also of the last runs
        if end_of_line >= 0:
            rows[gathered] = end_of_line
            gathered += 1
        if word_ngrams > 1:
            gathered = _gather_runs(hash_of_end, words + 1, runs, ngram_rows, bucket, rows, gathered)
        added += _add_rows(rows[:gathered], vectors, mean)
        if added:
            mean /= added
            is_seen[row] = True
    return means, is_seen


@njit(cache=True, nogil=True)
def _gather_runs(hashed: Any, words: int, runs: Any, ngram_rows: Any, bucket: Any, rows: Any, gathered: int) -> int:
    """Appends the rows of the runs of words that end with this one, the text's `words`-th, and returns how many there are."""
    last = np.uint64(np.int64(np.int32(hashed)))  # the library's are signed
    # from the longest down, as each is made from the next shorter one of the word before
    for size in range(min(len(runs), words), 1, -1):
        runs[size - 1] = runs[size - 2] * np.uint64(NGRAM_FACTOR) + last
        row = ngram_rows[runs[size - 1] % np.uint64(bucket)]
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
        # the Huffman tree's root is its last node, and children come before their parents: logarithms add up on the way down
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
    chances = np.exp(chances - chances.max())  # so that none overflows
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

    Returns where each word starts and ends, int64, shape (count, 2), the counts, and the byte after them all, which is beyond
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
