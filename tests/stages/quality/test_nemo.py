"""NeMo Curator's ratios against the same in plain Python, and both sides of each threshold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.quality.test_fineweb import UNSPACED, real_texts
from tokenmill.stages.quality.nemo import CHARACTER_MEASURES, NeMo, measure_characters
from tokenmill.stages.quality.stage import Quality

ELLIPSES = {"...", "[...]", "(...)", "\u2026", "[\u2026]", "-\u00bb"}


def plain_measures(text: str) -> list[float]:
    """What the kernel measures, said slowly."""
    words = UNSPACED.sub(lambda match: f" {match[0]} ", text).split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    symbols = [word for word in words if word in ELLIPSES or len(re.findall("#+", word)) / len(word) > 0.5]
    counts = [
        len(re.findall(r"[^a-zA-Z0-9\n?!,.]", text)),
        sum(map(str.isdecimal, text)),
        sum(len(url) for url in re.findall(r"https?://[!$-_a-z]+", text)),
        sum(character in "\t\n\r\b " for character in text),
        sum(character in "()[]{}\u27e8\u27e9" for character in text),
    ]
    ratios = [count / len(text) if text else 1.0 for count in counts]
    unended = [line for line in lines if line[-1] not in ".?!\"'"]
    return [
        ratios[0],
        len(symbols) / max(len(words), 1),
        *ratios[1:],
        len(unended) / max(len(lines), 1),
        max(map(len, words), default=0),
    ]


WORDS = [
    "the",
    "bread",
    "12",
    "\u0967",
    "\u4e2d",
    "\u00e9",
    "x" * 9,
    "http://",
    "https://a.b/c?d=~e",
    "http",
    "{a}",
    "\u27e8",
]
MARKS = [
    "#",
    "##",
    "#a",
    ".",
    "...",
    "(...)",
    "[...]",
    "[\u2026]",
    "\u2026",
    "-\u00bb",
    "'",
    "!",
    "[",
    ")",
    "\b",
    "\u0085",
]
TEXT = st.lists(st.sampled_from([*WORDS, *MARKS, *[" "] * 8, "\n", "\n", "\t", "\r\n"]), max_size=40).map("".join)
ANY_TEXT = TEXT | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.lists(ANY_TEXT, max_size=5))
@settings(max_examples=500)
def test_measures_are_those_of_the_characters(texts: list[str]) -> None:
    found = measure_characters(pa.array(texts, pa.string()))
    assert found.tolist() == [plain_measures(text) for text in texts]


@given(st.lists(ANY_TEXT | st.none(), max_size=6), st.integers(0, 6))
def test_a_batch_split_anywhere_measures_the_same(texts: list[str | None], cut: int) -> None:
    whole = pa.array(texts, pa.string())
    parts = [measure_characters(part) for part in (whole[:cut], whole[cut:])]
    assert np.array_equal(np.concatenate(parts), measure_characters(whole))


def test_real_documents(shared_data: Path) -> None:
    texts = real_texts(shared_data)
    assert measure_characters(pa.array(texts)).tolist() == [plain_measures(text) for text in texts]


PROSE = "breadisbaked"
SIDES = [
    ("max_non_alphanumeric", PROSE * 6 + "abc" + "-" * 25, PROSE * 6 + "ab" + "-" * 26, 0.26),
    ("max_symbol_words", " ".join([PROSE] * 9 + ["..."]), " ".join([PROSE] * 9 + ["...", "#"]), 2 / 11),
    ("max_numbers", "a" * 85 + "1" * 15, "a" * 84 + "1" * 16, 0.16),
    ("max_urls", "a" * 79 + " http://b.example/cde", "a" * 78 + " http://b.example/cdef", 0.21),
    ("max_white_space", "abc " * 25, "abc " * 24 + "ab  ", 0.26),
    ("max_parentheses", "()" * 5 + "a" * 90, "()" * 5 + "(" + "a" * 89, 0.11),
    ("max_unpunctuated_lines", "end.\n" * 15 + "no end\n" * 85, "end.\n" * 14 + "no end\n" * 86, 0.86),
    ("max_longest_word", "a" * 1000, "a" * 1001, 1001),
]


@pytest.mark.parametrize(("rule", "met", "broken", "value"), SIDES, ids=[side[0] for side in SIDES])
def test_both_sides_of_a_threshold(rule: str, met: str, broken: str, value: float) -> None:
    off = {key: 1e9 for key in NeMo.model_fields if key != rule}
    verdicts = Quality(rules={"nemo": off}).apply(pa.record_batch({"text": pa.array([met, broken])}))[1]
    assert verdicts.rule.to_pylist() == [None, f"nemo.{rule}"]
    assert verdicts.value[1].as_py() == pytest.approx(value)
    assert verdicts.threshold[1].as_py() == NeMo.model_fields[rule].default


def test_every_rule_has_its_sides_and_its_published_threshold() -> None:
    rules = Quality(rules=["nemo"]).chosen()
    assert [f"nemo.{side[0]}" for side in SIDES] == [rule.name for rule in rules]
    assert [rule.measure for rule in rules] == list(CHARACTER_MEASURES)
    assert [rule.threshold for rule in rules] == [0.25, 0.1, 0.15, 0.2, 0.25, 0.1, 0.85, 1000]


def test_texts_of_nothing() -> None:
    verdicts = Quality(rules=["nemo"]).apply(pa.record_batch({"text": pa.array([None, "", " "], pa.string())}))[1]
    assert verdicts.rule.to_pylist() == ["nemo.max_non_alphanumeric"] * 3
    assert measure_characters(pa.array([], pa.string())).shape == (0, 8)


def test_one_word_of_ten_megabytes() -> None:
    measured = measure_characters(pa.array(["#a" * 5_000_000]))[0]
    assert measured[CHARACTER_MEASURES.index("longest_word")] == 10_000_000
    assert measured[CHARACTER_MEASURES.index("symbol_words")] == 0
