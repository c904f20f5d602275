"""Gopher's repetition rules, and what they measure: how much of a text repeats itself.

Lines, paragraphs and n-grams are compared by 64-bit hashes. The hash of an n-gram is that of a window over a polynomial of the
words' hashes (Karp and Rabin 1987), so that each takes one multiplication whatever n is; and since a longer sequence can only
repeat where its parts do, each size looks up no more than what the size before found more than once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit
from pydantic import Field

from tokenmill.stages.quality.rules import Measures, RuleSet, columns
from tokenmill.stages.text.hash_table import FNV_PRIME, ROOMY_ENTRIES, mask_for, slot_of, splitmix64, times_seen
from tokenmill.stages.text.swar import count_byte, count_words, hash_of, read_line, stripped
from tokenmill.stages.text.utf8 import character_classes, string_buffers
from tokenmill.stages.text.words import MOST_BOUNDS, split_words

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
REPETITION_MEASURES = (
    "duplicate_lines",
    "duplicate_paragraphs",
    "duplicate_line_characters",
    "duplicate_paragraph_characters",
    *(f"top_{size}_gram" for size in TOP_GRAMS),
    *(f"duplicate_{size}_grams" for size in DUPLICATE_GRAMS),
)
"""Columns of `measure_repetition`, see there."""
(DUPLICATE_LINES, DUPLICATE_PARAGRAPHS, LINE_CHARACTERS, PARAGRAPH_CHARACTERS) = range(4)
BEFORE_GRAMS = 4 - TOP_GRAMS[0]
"""The column of n words is this much after n."""

_LINE_FEED, _SPACE = b"\n "


class GopherRepetition(RuleSet):
    """The repetition rules of Gopher (Rae et al. 2021, appendix A.1.1, table A1) with its thresholds, shares of 0 to 1."""

    max_duplicate_lines: float = Field(0.3, description="Largest share of lines that occurred before.")
    max_duplicate_paragraphs: float = Field(0.3, description="Largest share of paragraphs that occurred before.")
    max_duplicate_line_characters: float = Field(0.2, description="Largest share of characters in such lines.")
    max_duplicate_paragraph_characters: float = Field(
        0.2, description="Largest share of characters in such paragraphs."
    )
    max_top_2_gram: float = Field(0.2, description="Largest share of characters in the most frequent two words.")
    max_top_3_gram: float = Field(0.18, description="The same of three words.")
    max_top_4_gram: float = Field(0.16, description="The same of four words.")
    max_duplicate_5_grams: float = Field(
        0.15, description="Largest share of characters in five words that occurred before."
    )
    max_duplicate_6_grams: float = Field(0.14, description="The same of six words.")
    max_duplicate_7_grams: float = Field(0.13, description="The same of seven words.")
    max_duplicate_8_grams: float = Field(0.12, description="The same of eight words.")
    max_duplicate_9_grams: float = Field(0.11, description="The same of nine words.")
    max_duplicate_10_grams: float = Field(0.1, description="The same of ten words.")

    def measure(self, text: pa.Array, stop_words: tuple[str, ...]) -> tuple[pa.Array, Measures]:
        """See `RuleSet`."""
        return text, columns(REPETITION_MEASURES, measure_repetition(text))


def measure_repetition(text: pa.Array) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(REPETITION_MEASURES)), as datatrove's GopherRepetitionFilter does.

    `duplicate_lines`, `duplicate_paragraphs`: share of lines and paragraphs (between empty lines) that occurred before.
    `..._characters`: share of the text's characters in those. `top_N_gram`: share of the characters in the most frequent
    sequence of N words, the spaces between them counted; of several as frequent, the first. `duplicate_N_grams`: share of the
    characters in sequences of N words that occurred before, none counted twice. Words are what white space separates; a
    character of a script without spaces is a word. Equality is that of 64-bit hashes. An empty document has zeros.
    """
    data, offsets = string_buffers(text)
    return _measure(data, offsets, character_classes())


@njit(cache=True, nogil=True)
def _measure(data: Any, offsets: Any, classes: Any) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, len(REPETITION_MEASURES)))
    generation = np.uint64(0)
    most = 0
    # memory is allocated once, for the largest document; a new stamp empties the table for the next
    for row in range(count):
        most = max(most, _pieces(data, offsets[row], offsets[row + 1], classes))
    # arrays for the longest text serve all: the polynomial up to each word, so that any n-gram's hash is a difference of two,
    # and the letters before each word; lines, which are read first, use the same arrays
    prefix, letters = np.zeros(most + 1, np.uint64), np.zeros(most + 1, np.int32)
    times, runs = np.zeros(most + 1, np.int32), np.zeros(most + 1, np.uint8)
    table = np.zeros((np.int64(mask_for(most + 1)) + 1, 2), np.uint64)
    for row in range(count):
        first, end = offsets[row], offsets[row + 1]
        if first == end:
            continue
        begin, last = stripped(data, first, end, classes)
        lines, characters = _read_lines(data, first, end, begin, last, generation, table, prefix, letters, out[row])
        generation += np.uint64(2)
        is_cut = (begin > first and data[begin - 1] != _LINE_FEED) or (last < end and data[last] != _LINE_FEED)
        # where no line occurred before, nor did a paragraph; but the first and last line may be cut where the text is stripped
        if out[row, DUPLICATE_LINES] or is_cut:
            out[row, DUPLICATE_PARAGRAPHS], repeated = _repeated_paragraphs(lines, prefix, letters, generation, table)
            out[row, PARAGRAPH_CHARACTERS] = repeated / characters
        words = _words(data, first, end, classes, prefix, letters)
        power = np.uint64(FNV_PRIME)
        candidates = words
        for size in range(TOP_GRAMS[0], min(words, DUPLICATE_GRAMS[-1]) + 1):
            power *= np.uint64(FNV_PRIME)
            generation += np.uint64(1)
            if size < DUPLICATE_GRAMS[0]:
                most_times, chosen, candidates = _most_frequent(
                    size, words, power, prefix, generation, mask_for(candidates + 1), table, times, runs
                )
                out[row, BEFORE_GRAMS + size] = (
                    most_times * (letters[chosen + size] - letters[chosen] + size - 1) / characters
                )
                continue
            if size == DUPLICATE_GRAMS[0]:
                # `times` is not needed any more, and takes where runs start
                run_starts = times[: _measure_runs(words - 3, runs, times)]
            repeated = _repeated_letters(
                size, run_starts, power, prefix, letters, generation, mask_for(candidates + 1), table, runs
            )
            out[row, BEFORE_GRAMS + size] = repeated / characters
            if not repeated:
                break  # what no five words repeat, no six do
    return out


@njit(cache=True, nogil=True)
def _most_frequent(
    size: int, words: int, power: Any, prefix: Any, generation: Any, mask: Any, table: Any, times: Any, runs: Any
) -> tuple[int, int, int]:
    """The most frequent sequence of `size` words, of several as frequent the one that came first: how often it occurs and the
    word that it first starts with; and the number of sequences that occur more than once.

    `runs` says of each word whether the sequence that it starts does: read for one word less, written for this size. Only where
    the shorter ones at a word and at the next one both do can the longer one, so that most are never looked up.
    """
    most_times, repeated = 1, 0
    chosen: Any = 0
    for word in range(words - size + 1):
        # in place: entries are written at or before `word`, and read at it and after, where they are of the size before
        may_repeat = size == 2 or (runs[word] and runs[word + 1])
        runs[word] = 0
        if not may_repeat:
            continue
        key = prefix[word + size] - prefix[word] * power
        slot = _slot_of(key, generation, mask, table)
        if table[slot, 1] >> np.uint64(32) != generation:
            # in the place of a count the word where it was first seen, whose `times` counts
            table[slot, 0], table[slot, 1] = key, generation << np.uint64(32) | np.uint64(word)
            times[word] = 1
            continue
        place = np.int64(table[slot, 1] & np.uint64(0xFFFFFFFF))
        times[place] += 1
        repeated += 1 + (runs[place] == 0)  # the second time, the first one counts as well
        runs[word] = runs[place] = 1
        if times[place] > most_times or (times[place] == most_times and place < chosen):
            most_times, chosen = times[place], place
    return most_times, chosen, repeated


@njit(cache=True, nogil=True)
def _measure_runs(places: int, runs: Any, starts: Any) -> int:
    """Turns flags into how many of them follow one another from each place on, 7 at most; fills in the places that have two
    or more, in order, and returns how many there are."""
    length = 0
    # ten words, the longest that is looked for, have seven parts of four
    for back in range(places):
        place = places - 1 - back
        length = min(length + 1, 7) if runs[place] else 0
        runs[place] = length
    found = 0
    for place in range(places):
        starts[found] = place
        found += runs[place] > 1
    return found


@njit(cache=True, nogil=True)
def _repeated_letters(
    size: int, run_starts: Any, power: Any, prefix: Any, letters: Any, generation: Any, mask: Any, table: Any, runs: Any
) -> int:
    """Letters in sequences of `size` words that occurred before, none counted twice. Only sequences all of whose parts of four
    words occur more than once (`runs`) can; they start at one of `run_starts`."""
    after = repeated = 0
    for word in run_starts:
        if word < after or runs[word] < size - 3:
            continue
        key = prefix[word + size] - prefix[word] * power
        slot = _slot_of(key, generation, mask, table)
        if table[slot, 1] >> np.uint64(32) == generation:
            repeated += letters[word + size] - letters[word]
            after = word + size
        else:
            table[slot, 0], table[slot, 1] = key, generation << np.uint64(32)
    return repeated


@njit(cache=True, nogil=True)
def _slot_of(key: Any, generation: Any, mask: Any, table: Any) -> Any:
    """`hash_table.slot_of` for keys that are sums of hashes, whose bits need no mixing again."""
    slot = (key ^ key >> np.uint64(32)) & mask
    while table[slot, 1] >> np.uint64(32) == generation and table[slot, 0] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def _pieces(data: Any, place: int, end: int, classes: Any) -> int:
    """At least as many as a text has words, and lines: for how many there must be room."""
    # a count of bytes is enough for most; the exact one is taken only where the difference is megabytes
    spaces = longer = 0
    for byte in data[place:end]:
        spaces += byte <= _SPACE
        longer += byte >= 0xC0
    pieces = spaces + 2 * longer  # a character of more bytes may be a word and end another
    # counted exactly only where a bound that is too high would take much memory
    if pieces > ROOMY_ENTRIES:
        pieces = max(count_words(data, place, end, classes), count_byte(data, place, end, _LINE_FEED))
    return pieces + 1


@njit(cache=True, nogil=True)
def _words(data: Any, place: int, end: int, classes: Any, prefix: Any, letters: Any) -> int:
    """Fills in the polynomial and the letters up to each word, from the second entry on, and returns the number of words."""
    words = 0
    bounds = np.empty(MOST_BOUNDS, np.int64)
    found = 0
    while place < end:
        place, found = split_words(data, place, end, classes, bounds, found)
        for number in range(found // 2):
            value, length = hash_of(data, bounds[2 * number], bounds[2 * number + 1])
            prefix[words + 1] = prefix[words] * np.uint64(FNV_PRIME) + value
            letters[words + 1] = letters[words] + length
            words += 1
        if found % 2:
            bounds[0] = bounds[found - 1]
        found %= 2
    return words


@njit(cache=True, nogil=True)
def _read_lines(
    data: Any,
    place: int,
    end: int,
    begin: int,
    last: int,
    generation: Any,
    table: Any,
    hashes: Any,
    lengths: Any,
    measures: Any,
) -> tuple[int, int]:
    """Measures the lines that are not empty, fills in hash and characters of each line as it is between `begin` and `last`
    (none where it is empty or outside), and returns how many lines and characters there are."""
    lines = filled = repeated = letters = characters = 0
    mask = mask_for(count_byte(data, place, end, _LINE_FEED) + 1)  # no larger than needed, so that it stays in cache
    generation += np.uint64(1)
    while place < end:
        stop, length, value = read_line(data, place, end)
        characters += length + (stop < end)
        if length:
            filled += 1
            if times_seen(slot_of(value, generation, mask, table), value, generation, table):
                repeated += 1
                letters += length
            # paragraphs are those of the stripped text: its first and last line may be shorter there
            if place < begin or stop > last:
                _, length, value = read_line(data, max(place, begin), min(stop, last))
        hashes[lines], lengths[lines] = value, length
        lines += 1
        place = stop + 1
    if filled:
        measures[DUPLICATE_LINES] = repeated / filled
        measures[LINE_CHARACTERS] = letters / characters
    return lines, characters


@njit(cache=True, nogil=True)
def _repeated_paragraphs(lines: int, hashes: Any, lengths: Any, generation: Any, table: Any) -> tuple[float, int]:
    """Of the paragraphs, between empty lines, the share that occurred before, and the characters of those."""
    paragraphs = repeated = letters = 0
    mask = mask_for(lines)
    value, length = np.uint64(0), 0
    # one more round than lines closes the last paragraph
    for line in range(lines + 1):
        # a paragraph's hash is made from those of its lines, so that no byte is read again
        if line < lines and lengths[line]:
            value = splitmix64(value * np.uint64(FNV_PRIME) + hashes[line])
            length += lengths[line] + (length > 0)
        elif length:
            # only after a line with text, so that several empty lines in a row end one paragraph
            paragraphs += 1
            if times_seen(slot_of(value, generation, mask, table), value, generation, table):
                repeated += 1
                letters += length
            value, length = np.uint64(0), 0
    return (repeated / paragraphs if paragraphs else 0.0), letters
