"""Lines and words found eight bytes at a time, against the same in plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.quality.test_fineweb import UNSPACED
from tokenmill.stages.text.swar import count_byte, count_words, find_byte, hash_of, read_line, stripped
from tokenmill.stages.text.utf8 import character_classes
from tokenmill.stages.text.words import CHUNK_BYTES, MOST_BOUNDS, split_words

PIECES = [
    "a",
    "bread",
    "8 letters",
    "\n",
    " ",
    "\t",
    "\x1c",
    "\x1b",
    "\0",
    "\u00e9",
    "\u00a0",
    "\u3000",
    "\u4e2d",
    "\U0001f600",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))
AROUND = st.tuples(st.text("x \n", max_size=9), st.text("x \n", max_size=9))
"""What stands before and after a text in its buffer, and must not be seen."""


def buffer_of(text: str, around: tuple[str, str]) -> tuple[np.ndarray, int, int]:
    before, inside, after = (part.encode() for part in (around[0], text, around[1]))
    return np.frombuffer(before + inside + after + b"\0", np.uint8), len(before), len(before) + len(inside)


def words_of(text: str) -> list[str]:
    return UNSPACED.sub(lambda match: f" {match[0]} ", text).split()


@given(TEXT, AROUND)
@settings(max_examples=300)
def test_lines(text: str, around: tuple[str, str]) -> None:
    data, place, end = buffer_of(text, around)
    found = []
    while place < end:
        stop, characters, value = read_line(data, place, end)
        assert find_byte(data, place, end, 10) == stop
        found.append((data[place:stop].tobytes().decode(), characters, int(value)))
        place = stop + 1
    lines = text.split("\n")
    assert [line for line, _, _ in found] == (lines[:-1] if not lines[-1] else lines)
    assert all(characters == len(line) for line, characters, _ in found)
    assert len({line for line, _, _ in found}) == len({value for _, _, value in found})
    assert len({(line, value) for line, _, value in found}) == len({line for line, _, _ in found})


def all_words(text: str, around: tuple[str, str]) -> list[tuple[str, int, int]]:
    """Words with characters and hash, chunk by chunk."""
    data, place, end = buffer_of(text, around)
    bounds = np.empty(MOST_BOUNDS, np.int64)
    words, found = [], 0
    while place < end:
        place, found = split_words(data, place, end, character_classes(), bounds, found)
        for first, last in bounds[: found // 2 * 2].reshape(-1, 2):
            value, characters = hash_of(data, first, last)
            words.append((data[first:last].tobytes().decode(), characters, int(value)))
        if found % 2:
            bounds[0] = bounds[found - 1]
        found %= 2
    assert not found
    return words


@given(TEXT, AROUND)
@settings(max_examples=300)
def test_words(text: str, around: tuple[str, str]) -> None:
    found = all_words(text, around)
    assert [word for word, _, _ in found] == words_of(text)
    assert all(characters == len(word) for word, characters, _ in found)
    assert len({word for word, _, _ in found}) == len({value for _, _, value in found})
    data, place, end = buffer_of(text, around)
    assert count_words(data, place, end, character_classes()) == len(found)
    assert count_byte(data, place, end, 10) == text.count("\n")
    first, last = stripped(data, place, end, character_classes())
    assert data[first:last].tobytes().decode() == text.strip()


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join), st.integers(-9, 9))
@settings(max_examples=50)
def test_words_across_the_ends_of_chunks(piece: str, more: int) -> None:
    text = piece * (2 * CHUNK_BYTES // len(piece.encode())) + " " + "x" * (CHUNK_BYTES + more) + " end"
    assert [word for word, _, _ in all_words(text, ("", ""))] == words_of(text)


def test_no_word_hashes_like_another() -> None:
    """Of lengths around eight bytes, and with zeros, which an unfinished block has too."""
    words = [letter * size + end for letter in "ab\0" for size in range(1, 26) for end in ("", "c", "\0", "\0\0")]
    different = set(words)
    hashes = {value for _, _, value in all_words(" ".join(sorted(different)), ("", ""))}
    assert len(hashes) == len(different)
