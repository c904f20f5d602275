"""Shingles against the same in plain Python."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokenmill.stages.text.shingles import shingle_sets, shingles
from tokenmill.stages.text.utf8 import UNSPACED_RANGES


def is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED_RANGES)


def plain_words(text: str) -> list[str]:
    """What the kernel takes for words, said slowly."""
    words = [""]
    for character in text:
        category = unicodedata.category(character)[0]
        if ord(character) in range(0x20000, 0x40000):
            words += [character, ""]
        elif category not in "LNM" or ord(character) >= 0x40000:
            words.append("")
        else:
            normal = unicodedata.normalize("NFKC", character)
            normal = normal if len(normal) == 1 else character
            lower = normal.lower()
            form = lower if len(lower) == 1 else normal
            if is_unspaced(form):
                words += [form, ""]
            else:
                words[-1] += form
    return [word for word in words if word]


def plain_shingles(text: str, size: int) -> list[tuple[str, ...]]:
    words = plain_words(text)
    if not words:
        return []
    return [tuple(words[start : start + size]) for start in range(max(len(words) - size + 1, 1))]


def strings(texts: list[str] | list[str | None]) -> pa.Array:
    return pa.array(texts, pa.string())


SOME_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    "ab ., \n中ไÉé\uff21\uff11", max_size=60
)


@given(st.lists(SOME_TEXT, max_size=5), st.integers(1, 6))
@example(["\U000e0100", "\U0001f600 x", "a\0b", "ﾊﾝｶｸ ハンカク", "\U00020000\U0003ffff"], 2)
def test_shingles_are_equal_where_the_word_ngrams_are(texts: list[str], size: int) -> None:
    hashes, bounds, _ = shingles(strings(texts), size)
    expected = [plain_shingles(text, size) for text in texts]
    assert np.diff(bounds).tolist() == [len(row) for row in expected]
    flat = [shingle for row in expected for shingle in row]
    assert len(set(hashes.tolist())) == len(set(flat)) == len(set(zip(hashes.tolist(), flat, strict=True)))


@given(st.lists(SOME_TEXT, max_size=6))
def test_digests_are_equal_where_the_words_are(texts: list[str]) -> None:
    _, _, digests = shingles(strings(texts), 5)
    words = [tuple(plain_words(text)) for text in texts]
    whole = list(zip(digests[0].tolist(), digests[1].tolist(), strict=True))
    assert len(set(whole)) == len(set(words)) == len(set(zip(whole, words, strict=True)))
    assert len({low for low, _ in whole}) == len({high for _, high in whole}) == len(set(words))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Cat, the HAT.", "the cat the hat"),
        ("\uff21\uff22\uff11", "ab1"),
        ("\uff8a\uff9d", "\u30cf\u30f3"),
        ("tab\tand\u00a0space\u3000\r\n", "tab and space"),
        ("\u00c9cole", "\u00e9cole"),
        ("\u212a", "k"),
        ("\u4e2d\u6587\u3002\u6d4b\u8bd5", "\u4e2d\u6587 \u6d4b\u8bd5"),
    ],
)
def test_what_normalization_makes_equal(one: str, other: str) -> None:
    _, _, digests = shingles(strings([one, other]), 3)
    assert (digests[:, 0] == digests[:, 1]).all()


@pytest.mark.parametrize(("one", "other"), [("ab c", "a bc"), ("a b", "b a"), ("a", "a a"), ("x1", "x2"), ("e", "é")])
def test_what_it_keeps_apart(one: str, other: str) -> None:
    _, _, digests = shingles(strings([one, other]), 3)
    assert (digests[:, 0] != digests[:, 1]).all()


def test_scripts_without_spaces_are_cut_by_character() -> None:
    texts = ["\u4e2d\u6587\u6d4b\u8bd5\u4f60\u597d", "\u0e01\u0e02\u0e03\u0e04", "one two three", "ab\u4e2dcd \u6587"]
    _, bounds, _ = shingles(strings(texts), 3)
    assert np.diff(bounds).tolist() == [4, 2, 1, 2]


def test_texts_of_few_words_and_of_none() -> None:
    hashes, bounds, digests = shingles(strings(["", None, "!? \0", "one two", "two one", "ONE, two"]), 5)
    assert np.diff(bounds).tolist() == [0, 0, 0, 1, 1, 1]
    assert hashes[0] == hashes[2] != hashes[1]
    assert (digests[:, :3] == 0).all()


def test_a_slice_is_as_its_documents() -> None:
    texts = strings(["first one", "the second", None, "and a third of them"])
    whole, whole_bounds, _ = shingles(texts, 2)
    part, part_bounds, _ = shingles(texts[1:], 2)
    assert part.tolist() == whole[whole_bounds[1] :].tolist()
    assert (part_bounds == whole_bounds[1:] - whole_bounds[1]).all()
    assert [len(array) for array in shingles(texts[4:], 2)[:2]] == [0, 1]


@given(st.lists(st.lists(st.sampled_from(["abc", "de", "f", "ghi"]), max_size=30), max_size=6), st.integers(1, 6))
def test_sets_are_sorted_and_each_shingle_is_in_them_once(documents: list[list[str]], size: int) -> None:
    texts = strings([" ".join(words) for words in documents])
    hashes, bounds, _ = shingles(texts, size)
    values, starts = shingle_sets(texts, size)
    for row in range(len(texts)):
        expected = sorted(set(hashes[bounds[row] : bounds[row + 1]].tolist()))
        assert values[starts[row] : starts[row + 1]].tolist() == expected


def test_one_line_of_ten_megabytes() -> None:
    text = "word, " * 1_700_000 + "end"
    hashes, bounds, _ = shingles(strings([text]), 5)
    assert bounds.tolist() == [0, len(re.findall(r"\w+", text)) - 4]
    assert len(set(hashes.tolist())) == 2
