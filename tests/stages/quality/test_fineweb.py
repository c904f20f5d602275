"""FineWeb's rules against datatrove's filter, and both sides of each threshold."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter
from datatrove.utils.text import TERMINAL_PUNCTUATION
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenmill.stages.quality.fineweb import LINE_MEASURES, FineWeb, measure_lines
from tokenmill.stages.quality.stage import Quality
from tokenmill.stages.stage import KEPT
from tokenmill.stages.text.utf8 import TERMINAL_RANGES, UNSPACED_RANGES

PIECES = [
    "a",
    "bread",
    ".",
    "!",
    "。",
    "\n",
    "\n\n",
    " ",
    "\t",
    "\r",
    "é",
    "中",
    "\u2028",
    "x" * 29,
    "8 bytes.",
    " is baked here.",
    "😀",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))
UNSPACED = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED_RANGES) + "]")
DATATROVE = "datatrove.pipeline.filters.fineweb_quality_filter.split_into_words"
THEIRS = {
    "min_punctuated_lines": ("line_punct_thr", "line_punct_ratio"),
    "max_short_lines": ("short_line_thr", "short_line_ratio"),
    "max_duplicate_characters": ("char_duplicates_ratio", "char_dup_ratio"),
    "max_line_breaks": ("new_line_ratio", "list_ratio"),
}
"""What datatrove calls our thresholds, and why it drops a document by each."""
OFF = {"line_punct_thr": 0.0, "short_line_thr": 9.0, "char_duplicates_ratio": 9.0, "new_line_ratio": math.inf}


def plain_measures(text: str, short_line: int = 30) -> list[float]:
    """What the kernel measures, said slowly."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return [0.0] * 4
    words = UNSPACED.sub(" x ", text).split()
    repeated = [line for number, line in enumerate(lines) if line in lines[:number]]
    return [
        sum(line[-1] in TERMINAL_PUNCTUATION for line in lines) / len(lines),
        sum(len(line) <= short_line for line in lines) / len(lines),
        sum(map(len, repeated)) / len(text.replace("\n", "")),
        text.count("\n") / len(words),
    ]


@given(st.lists(TEXT, max_size=5), st.integers(0, 40))
@example(["8 bytes.\n8 bytes.", "16 bytes of text\n\n16 bytes of text"], 30)
@settings(max_examples=300)
def test_measures_are_those_of_the_lines(texts: list[str], short_line: int) -> None:
    found = measure_lines(pa.array(texts, pa.string()), short_line)
    assert found.tolist() == [plain_measures(text, short_line) for text in texts]


@given(st.lists(TEXT | st.none(), max_size=6), st.integers(0, 6))
def test_a_batch_split_anywhere_measures_the_same(texts: list[str | None], cut: int) -> None:
    whole = pa.array(texts, pa.string())
    parts = [measure_lines(part, 30) for part in (whole[:cut], whole[cut:])]
    assert np.array_equal(np.concatenate(parts), measure_lines(whole, 30))


def test_the_ends_of_sentences_are_those_of_datatrove() -> None:
    assert {chr(code) for first, last in TERMINAL_RANGES for code in range(first, last + 1)} == TERMINAL_PUNCTUATION


def real_texts(shared_data: Path) -> list[str]:
    with gzip.open(shared_data / "text.jsonl.gz") as file:
        texts = [json.loads(line)["text"] for line in file][::5]
    return [text for text in texts if not UNSPACED.search(text)][:1000]


def test_real_documents_as_by_datatrove(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given words between white space, its measures and ours are one number: each document meets ours as a threshold and
    breaks the next one. Then no decision differs either."""
    texts = real_texts(shared_data)
    assert len(texts) == 1000
    monkeypatch.setattr(DATATROVE, lambda text, _: text.split())
    measured = measure_lines(pa.array(texts), 30)
    for text, row in zip(texts, measured, strict=True):
        for value, (key, (threshold, reason)) in zip(row, THEIRS.items(), strict=True):
            beyond = math.nextafter(value, math.inf if key.startswith("min") else -math.inf)
            assert FineWebQualityFilter(**{**OFF, threshold: value}).filter(Document(text=text, id="")) is True
            broken: Any = FineWebQualityFilter(**{**OFF, threshold: beyond}).filter(Document(text=text, id=""))
            assert broken == (False, reason)
    theirs = [FineWebQualityFilter().filter(Document(text=text, id="")) for text in texts]
    ours = Quality(rules=["fineweb"]).apply(pa.record_batch({"text": pa.array(texts)}))[1]
    reasons = {f"fineweb.{key}": reason for key, (_, reason) in THEIRS.items()}
    said = [True if rule is None else (False, reasons[rule]) for rule in ours.rule.to_pylist()]
    assert said == theirs
    assert 0.1 < np.mean(ours.fate == KEPT) < 0.9


def lines(count: int, line: str, others: int, other: str) -> str:
    """So many different lines, `others` of them in another form, with {} for the number."""
    return "\n".join(
        [other.format(number) for number in range(others)] + [line.format(n) for n in range(count - others)]
    )


SENTENCE = "This is the sentence of number {} in the text."
SIDES = [
    ("min_punctuated_lines", lines(25, SENTENCE[:-1], 3, SENTENCE), lines(25, SENTENCE[:-1], 2, SENTENCE), 2 / 25),
    ("max_short_lines", lines(100, SENTENCE, 67, "Few words {}."), lines(100, SENTENCE, 68, "Few words {}."), 0.68),
    ("max_duplicate_characters", "12345.\n" * 2 + "x " * 294 + ".", "12345.\n" * 2 + "x " * 293 + ".", 6 / 599),
    ("max_line_breaks", "1 2 3.\n4 5 6 7.\n8 9 0.\nA", "1 2 3.\n4 5 6.\n7 8 9.\nA b.\nC", 4 / 12),
]


@pytest.mark.parametrize(("rule", "met", "broken", "value"), SIDES, ids=[side[0] for side in SIDES])
def test_both_sides_of_a_threshold(rule: str, met: str, broken: str, value: float) -> None:
    off = {"min_punctuated_lines": 0.0, "max_short_lines": 9.0, "max_duplicate_characters": 9.0, "max_line_breaks": 9.0}
    off.pop(rule)
    verdicts = Quality(rules={"fineweb": off}).apply(pa.record_batch({"text": pa.array([met, broken])}))[1]
    assert verdicts.rule.to_pylist() == [None, f"fineweb.{rule}"]
    assert verdicts.value[1].as_py() == pytest.approx(value)
    assert verdicts.threshold[1].as_py() == FineWeb.model_fields[rule].default


def test_every_rule_has_its_sides_and_its_published_threshold() -> None:
    rules = Quality(rules=["fineweb"]).chosen()
    assert [f"fineweb.{side[0]}" for side in SIDES] == [rule.name for rule in rules]
    assert [rule.measure for rule in rules] == list(LINE_MEASURES)
    assert [rule.threshold for rule in rules] == [0.12, 0.67, 0.01, 0.3]


def test_a_short_line_has_thirty_characters_at_most() -> None:
    text = pa.array(["é" * 30, "é" * 31])
    assert measure_lines(text, FineWeb().short_line)[:, 1].tolist() == [1, 0]


def test_texts_of_nothing() -> None:
    verdicts = Quality(rules=["fineweb"]).apply(pa.record_batch({"text": pa.array([None, "", " \n\n"], pa.string())}))[
        1
    ]
    assert verdicts.rule.to_pylist() == ["fineweb.min_punctuated_lines"] * 3
    assert measure_lines(pa.array([], pa.string()), 30).shape == (0, 4)
