"""How much of a text repeats itself, in one pass over the bytes of a batch: what Gopher's repetition rules compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.text.hash_table import ROOMY_ENTRIES, mask_for, mixed, slot_of, times_seen
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

_PRIME = 0x100000001B3


def measure_repetition(text: pa.Array) -> npt.NDArray[np.float64]:
    """Measures each document, float64, shape (documents, len(REPETITION_MEASURES)), as datatrove's GopherRepetitionFilter does.

    `duplicate_lines`, `duplicate_paragraphs`: share of lines and paragraphs (between empty lines) that stood before.
    `..._characters`: share of the text's characters in those. `top_N_gram`: share of the characters in the most frequent
    sequence of N words, the spaces between them counted; of several as frequent, the first. `duplicate_N_grams`: share of the
    characters in sequences of N words that stood before, none counted twice. Words are what stands between white space; a
    character of a script without spaces is a word. Equality is that of 64-bit hashes. An empty document has zeros.
    """
    data, offsets = string_buffers(text)
    return _measure(data, offsets, character_classes())


@njit(cache=True, nogil=True)
def _measure(data: Any, offsets: Any, classes: Any) -> Any:
    count = len(offsets) - 1
    out = np.zeros((count, 13))
    stamp = np.uint64(0)
    most = 0
    # memory is allocated once, for the largest document; a new stamp empties the table for the next
    for row in range(count):
        most = max(most, _pieces(data, offsets[row], offsets[row + 1], classes))
    # a polynomial over the words' hashes, so that any n-gram's hash is a difference of two; and letters before each word
    prefix, letters = np.zeros(most + 1, np.uint64), np.zeros(most + 1, np.int32)
    times, runs = np.zeros(most + 1, np.int32), np.zeros(most + 1, np.uint8)
    table = np.zeros((np.int64(mask_for(most + 1)) + 1, 2), np.uint64)
    for row in range(count):
        first, end = offsets[row], offsets[row + 1]
        if first == end:
            continue
        begin, last = stripped(data, first, end, classes)
        lines, characters = _read_lines(data, first, end, begin, last, stamp, table, prefix, letters, out[row])
        stamp += np.uint64(2)
        # paragraphs are of the stripped text, lines are not: where stripping shortens the first or last line, it may
        # repeat another although no line does
        is_cut = (begin > first and data[begin - 1] != 10) or (last < end and data[last] != 10)
        if out[row, 0] or is_cut:  # where no line stood before, nor does a paragraph
            out[row, 1], repeated = _repeated_paragraphs(lines, prefix, letters, stamp, table)
            out[row, 3] = repeated / characters
        # the lines' hashes are not needed any more: words take their place. Whatever stands in the first entries
        # cancels out, as only differences are taken
        words = _words(data, first, end, classes, prefix, letters)
        power = np.uint64(_PRIME)
        candidates = words
        for size in range(2, min(words, 10) + 1):
            power *= np.uint64(_PRIME)
            stamp += np.uint64(1)
            if size < 5:
                # only what repeats can be part of a longer repeat: the next table needs no more entries than that
                most_times, chosen, candidates = _most_frequent(
                    size, words, power, prefix, stamp, mask_for(candidates + 1), table, times, runs
                )
                out[row, 2 + size] = most_times * (letters[chosen + size] - letters[chosen] + size - 1) / characters
                continue
            if size == 5:
                # `times` is not read any more: where a run begins stands there now
                beginnings = times[: _measure_runs(words - 3, runs, times)]
            repeated = _repeated_letters(
                size, beginnings, power, prefix, letters, stamp, mask_for(candidates + 1), table, runs
            )
            out[row, 2 + size] = repeated / characters
            if not repeated:
                break  # what no five words repeat, no six do
    return out


@njit(cache=True, nogil=True)
def _most_frequent(
    size: int, words: int, power: Any, prefix: Any, stamp: Any, mask: Any, table: Any, times: Any, runs: Any
) -> tuple[int, int, int]:
    """The most frequent sequence of `size` words, of several as frequent the one that came first: how often it occurs and the
    word that it first begins with; and the sequences that occur more than once.

    `runs` says of each word whether the sequence that it begins does, read for one word less, written for this size: only
    where both that begin at a word and at the next one do can the longer one, so that most are never looked up.
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
        slot = _slot_of(key, stamp, mask, table)
        if table[slot, 1] >> np.uint64(32) != stamp:
            # the low half is the word that it begins with; `times` is set here and so need not be emptied before
            table[slot, 0], table[slot, 1] = key, stamp << np.uint64(32) | np.uint64(word)
            times[word] = 1
            continue
        place = np.int64(table[slot, 1] & np.uint64(0xFFFFFFFF))
        times[place] += 1
        # its first occurrence is known to repeat only now
        repeated += 1 + (runs[place] == 0)
        runs[word] = runs[place] = 1
        if times[place] > most_times or (times[place] == most_times and place < chosen):
            most_times, chosen = times[place], place
    return most_times, chosen, repeated


@njit(cache=True, nogil=True)
def _measure_runs(places: int, runs: Any, beginnings: Any) -> int:
    """Turns flags into how many of them follow one another from each place on, 7 at most; fills in the places that have two
    or more, in order, and returns how many there are."""
    length = 0
    # backwards, as a run from a place is one longer than from the next; ten words have seven parts of four
    for back in range(places):
        place = places - 1 - back
        length = min(length + 1, 7) if runs[place] else 0
        runs[place] = length
    found = 0
    for place in range(places):
        # always written, and counted only where it holds: no branch. Five words have two parts of four
        beginnings[found] = place
        found += runs[place] > 1
    return found


@njit(cache=True, nogil=True)
def _repeated_letters(
    size: int, beginnings: Any, power: Any, prefix: Any, letters: Any, stamp: Any, mask: Any, table: Any, runs: Any
) -> int:
    """Letters in sequences of `size` words that stood before, none counted twice. Only sequences all of whose parts of four
    words occur more than once (`runs`) can; they begin at one of `beginnings`."""
    after = repeated = 0
    for word in beginnings:
        # what overlaps a repeat is neither counted nor remembered, as datatrove's `find_all_duplicate` steps over it
        if word < after or runs[word] < size - 3:
            continue
        key = prefix[word + size] - prefix[word] * power
        slot = _slot_of(key, stamp, mask, table)
        if table[slot, 1] >> np.uint64(32) == stamp:
            repeated += letters[word + size] - letters[word]
            after = word + size
        else:
            table[slot, 0], table[slot, 1] = key, stamp << np.uint64(32)
    return repeated


@njit(cache=True, nogil=True)
def _slot_of(key: Any, stamp: Any, mask: Any, table: Any) -> Any:
    """`hash_table.slot_of` for keys that are sums of mixed hashes, so that they need no mixing again."""
    # the upper half is folded in, as lower bits of a polynomial modulo 2^64 come from lower bits alone
    slot = (key ^ key >> np.uint64(32)) & mask
    while table[slot, 1] >> np.uint64(32) == stamp and table[slot, 0] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def _pieces(data: Any, place: int, end: int, classes: Any) -> int:
    """A number that neither the words nor the lines of a text exceed: it decides how much memory the text takes."""
    spaces = longer = 0
    for byte in data[place:end]:
        spaces += byte <= 32
        longer += byte >= 0xC0
    pieces = spaces + 2 * longer  # a character of more bytes may be a word and end another
    # counted exactly only where a bound that is too high would take much memory
    if pieces > ROOMY_ENTRIES:
        pieces = max(count_words(data, place, end, classes), count_byte(data, place, end, 10))
    return pieces + 1


@njit(cache=True, nogil=True)
def _words(data: Any, place: int, end: int, classes: Any, prefix: Any, letters: Any) -> int:
    """Fills both from their second entry on, and returns how many words there are."""
    words = 0
    bounds = np.empty(MOST_BOUNDS, np.int64)
    found = 0
    while place < end:
        place, found = split_words(data, place, end, classes, bounds, found)
        for number in range(found // 2):
            value, length = hash_of(data, bounds[2 * number], bounds[2 * number + 1])
            # see `_measure`: from these sums the hash of any sequence of words follows without reading them again
            prefix[words + 1] = prefix[words] * np.uint64(_PRIME) + value
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
    stamp: Any,
    table: Any,
    hashes: Any,
    lengths: Any,
    measures: Any,
) -> tuple[int, int]:
    """Measures the lines that are not empty, fills in hash and characters of each line as it is between `begin` and `last`
    (none where it is empty or outside), and returns how many lines and characters there are."""
    lines = filled = repeated = letters = characters = 0
    mask = mask_for(count_byte(data, place, end, 10) + 1)  # no larger than it must be, so that it stays in cache
    stamp += np.uint64(1)
    while place < end:
        stop, length, value = read_line(data, place, end)
        characters += length + (stop < end)
        if length:
            filled += 1
            if times_seen(slot_of(value, stamp, mask, table), value, stamp, table):
                repeated += 1
                letters += length
            # within paragraphs the text is stripped: its first and last lines may be shorter, and those beyond are
            # empty
            if place < begin or stop > last:
                _, length, value = read_line(data, max(place, begin), min(stop, last))
        hashes[lines], lengths[lines] = value, length
        lines += 1
        place = stop + 1
    if filled:
        measures[0] = repeated / filled
        measures[2] = letters / characters
    return lines, characters


@njit(cache=True, nogil=True)
def _repeated_paragraphs(lines: int, hashes: Any, lengths: Any, stamp: Any, table: Any) -> tuple[float, int]:
    """Of the paragraphs, between empty lines, the share that stood before, and the characters of those."""
    paragraphs = repeated = letters = 0
    mask = mask_for(lines)
    value, length = np.uint64(0), 0
    # one more round than lines closes the last paragraph
    for line in range(lines + 1):
        if line < lines and lengths[line]:
            value = mixed(value * np.uint64(_PRIME) + hashes[line])
            length += lengths[line] + (length > 0)
        elif length:
            # only after a line with text, so that several empty lines in a row end one paragraph
            paragraphs += 1
            if times_seen(slot_of(value, stamp, mask, table), value, stamp, table):
                repeated += 1
                letters += length
            value, length = np.uint64(0), 0
    return (repeated / paragraphs if paragraphs else 0.0), letters
