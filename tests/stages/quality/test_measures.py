"""What the quality rules measure, against the same in plain Python."""

from __future__ import annotations

import re
import string
import unicodedata
from random import Random

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenmill.stages.quality.gopher import BULLETS, MEASURES, measure
from tokenmill.stages.text.utf8 import UNSPACED_RANGES

STOP_WORDS = ("the", "of", "dont", "für", "的", "x1")

WORDS = (
    "the",
    "The,",
    "OF",
    "“the”",
    "don't",
    "für",
    "的",
    "the的",
    "x1",
    "x2",
    "word",
    "42",
    "中",
    "ไ",
    "\u0e31",
    "é",
    "😀",
)
SIGNS = ("#", "...", "..", ".", "…", "- ", "•", "\u2013", "\0")
SPACES = (" ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x1f")
PIECES = st.sampled_from([*WORDS, *SIGNS, *SPACES])
TEXT = st.lists(PIECES, max_size=40).map("".join) | st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED_RANGES)


def is_letter(character: str) -> bool:
    # which code points of these planes are assigned changes with every version of Unicode; all will be Han
    return unicodedata.category(character)[0] == "L" or 0x20000 <= ord(character) < 0x40000


def is_of_words(character: str) -> bool:
    return is_letter(character) or (ord(character) < 0x20000 and unicodedata.category(character)[0] in "MN")


def plain_stop_word(word: str) -> str:
    lower = "".join(character.lower() if character.isascii() else character for character in word)
    return "".join(character for character in lower if is_of_words(character))


def plain_measures(text: str) -> list[float]:
    """What the kernel measures, said slowly."""
    words = "".join(f" {character} " if is_unspaced(character) else character for character in text).split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    count, line_count = len(words) or 1, len(lines) or 1
    return [
        len(words),
        sum(map(len, words)) / count,
        text.count("#") / count,
        len(re.findall(r"\.{3,}|…", text)) / count,
        sum(line[0] in BULLETS for line in lines) / line_count,
        sum(line.endswith(("...", "…")) for line in lines) / line_count,
        sum(any(map(is_letter, word)) for word in words) / count,
        len({plain_stop_word(word) for word in words} & set(STOP_WORDS)),
    ]


def measures(texts: list[str | None], stop_words: tuple[str, ...] = STOP_WORDS) -> npt.NDArray[np.float64]:
    return measure(pa.array(texts, pa.string()), stop_words)


@given(st.lists(TEXT, max_size=5))
@example(["“the”", "the的", "的", "wi\u00adth the\u200b"])
@settings(max_examples=300)
def test_measures_are_those_of_the_words_and_lines(texts: list[str]) -> None:
    found = measures(list(texts))
    assert found.shape == (len(texts), len(MEASURES))
    for row, text in enumerate(texts):
        assert found[row].tolist() == plain_measures(text)


def test_bullets_differ() -> None:
    assert len(set(BULLETS)) == len(BULLETS)


@pytest.mark.parametrize(
    "text", ["the", "THE", "“the”", "(the),", "the—", "«the»", "a the\nb", "\u200bthe", "the\u4e2d", "¿the?"]
)
def test_a_stop_word_is_found_whatever_stands_around_it(text: str) -> None:
    assert measures([text], ("the",))[0, MEASURES.index("stop_words")] == 1


@pytest.mark.parametrize("text", ["then", "bathe", "th e", "thé", "1the", ""])
def test_a_stop_word_is_a_whole_word(text: str) -> None:
    assert measures([text], ("the",))[0, MEASURES.index("stop_words")] == 0


def test_stop_words_of_other_languages() -> None:
    texts: list[str | None] = ["für L'eau", "我的书", "है।"]
    assert measures(texts, ("für", "l'eau", "的", "है"))[:, MEASURES.index("stop_words")].tolist() == [2, 1, 1]


def test_stop_words_of_any_length_and_signs() -> None:
    words = ("is", "eighteen", "nine-teen", "zweiundzwanzig", "für", "восемь", "2024")
    column = MEASURES.index("stop_words")
    for word in words:
        for text in (word, f'"{word.upper() if word.isascii() else word}",', f"((({word})))", f"-----------{word}--"):
            assert measures([f"so {text} so"], words)[0, column] == 1, text
        assert measures([f"so {word}s {word[:-1]} so"], words)[0, column] == 0
    assert measures(["so - so", "so — so", "so"], ("--",))[:, column].tolist() == [1, 1, 0]


def test_sixty_four_stop_words_are_told_apart() -> None:
    words = tuple(f"word{number}" for number in range(64))
    assert measures([" ".join(words), words[63]], words)[:, MEASURES.index("stop_words")].tolist() == [64, 1]


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=9), max_size=64, unique=True))
def test_any_stop_words_are_told_apart(words: list[str]) -> None:
    column = MEASURES.index("stop_words")
    assert measures([" ".join(words), *words], tuple(words))[:, column].tolist() == [len(words), *[1] * len(words)]


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_many_short_stop_words_are_told_apart(draw: Random) -> None:
    words = tuple(draw.sample([one + other for one in string.ascii_lowercase for other in string.ascii_lowercase], 64))
    assert measures([" ".join(words)], words)[0, MEASURES.index("stop_words")] == 64


def test_texts_of_nothing() -> None:
    texts: list[str | None] = [None, "", " \n\t\r\n ", "\u3000"]
    assert not measures(texts).any()
    assert measures([]).shape == (0, len(MEASURES))


def test_a_slice_is_as_its_documents() -> None:
    texts = pa.array(["first the", None, "- of #", "third..."])
    assert np.array_equal(measure(texts[2:], STOP_WORDS), measure(texts, STOP_WORDS)[2:])


def test_one_line_of_ten_megabytes() -> None:
    found = measures(["word... " * 1_250_000])[0]
    assert found[MEASURES.index("words")] == 1_250_000
    assert found[MEASURES.index("ellipsis_ratio")] == found[MEASURES.index("ellipsis_lines")] == 1
