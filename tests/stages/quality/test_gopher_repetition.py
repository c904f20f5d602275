"""Gopher's repetition measures against datatrove's own functions, and both sides of each threshold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.gopher_repetition_filter import (
    GopherRepetitionFilter,
    find_all_duplicate,
    find_duplicates,
    find_top_duplicate,
    get_n_grams,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import text_of
from tests.stages.quality.test_fineweb import real_texts
from tokenmill.stages.quality.gopher_repetition import (
    DUPLICATE_GRAMS,
    REPETITION_MEASURES,
    TOP_GRAMS,
    GopherRepetition,
    measure_repetition,
)
from tokenmill.stages.quality.stage import Quality
from tokenmill.stages.stage import KEPT

PIECES = [
    "a",
    "bb",
    "ccc",
    "a bb ccc ",
    "bread and salt and oil ",
    " ",
    "\n",
    "\n\n",
    "\n\n\n",
    "é",
    "\t",
    "x y z u v w ",
]
REPETITIVE = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


def by_datatrove(text: str) -> list[float]:
    """The measures, from datatrove's functions over words between white space, and lines that are not empty."""
    if not text:
        return [0.0] * len(REPETITION_MEASURES)
    lines = [line for line in re.split("\n+", text) if line]
    paragraphs = [paragraph for paragraph in re.split("\n{2,}", text.strip()) if paragraph]
    words = text.split()
    (same_lines, line_characters), (same_paragraphs, paragraph_characters) = map(find_duplicates, (lines, paragraphs))
    found = [
        same_lines / max(len(lines), 1),
        same_paragraphs / max(len(paragraphs), 1),
        line_characters / len(text),
        paragraph_characters / len(text),
    ]
    found += [find_top_duplicate(grams) / len(text) if (grams := get_n_grams(words, n)) else 0.0 for n in TOP_GRAMS]
    return found + [unambiguously(words, n) / len(text) for n in DUPLICATE_GRAMS]


def unambiguously(words: list[str], n: int) -> int:
    """`find_all_duplicate` without its one flaw: it joins words without a space, so that "a bc" is "ab c" to it.

    With one and with two separators after each word the counts differ by what the separators add.
    """
    once, twice = ([word + "\0" * separators for word in words] for separators in (1, 2))
    return 2 * find_all_duplicate(once, n) - find_all_duplicate(twice, n)


@settings(max_examples=300)
@given(st.lists(REPETITIVE, min_size=1, max_size=4))
def test_measures_are_those_of_datatrove(texts: list[str]) -> None:
    found = measure_repetition(pa.array(texts, pa.string()))
    np.testing.assert_allclose(found, [by_datatrove(text) for text in texts], rtol=1e-12)


def test_real_documents_as_by_datatrove(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand documents have the same measures and the same fate, every one."""
    texts = real_texts(shared_data)
    assert len(texts) == 1000
    found = measure_repetition(pa.array(texts))
    np.testing.assert_allclose(found, [by_datatrove(text) for text in texts], rtol=1e-12)
    with monkeypatch.context() as patch:
        patch.setattr(
            "datatrove.pipeline.filters.gopher_repetition_filter.split_into_words", lambda text, _: text.split()
        )
        theirs = [GopherRepetitionFilter().filter(Document(text=text, id="")) is True for text in texts]
    ours = Quality(rules=["gopher_repetition"]).apply(pa.record_batch({"text": pa.array(texts)}))[1]
    assert (ours.fate == KEPT).tolist() == theirs
    assert 0.3 < np.mean(theirs) < 0.99


def test_a_script_without_spaces_is_measured_by_characters() -> None:
    text = "麦子和水做面包" * 40
    measured = dict(zip(REPETITION_MEASURES, measure_repetition(pa.array([text]))[0], strict=True))
    assert measured["duplicate_5_grams"] > 0.9
    assert measured["top_2_gram"] == pytest.approx(40 * 3 / len(text))  # two characters and the space between, as if


SOUND = text_of("bread", 1, 14)
BROKEN = {
    "max_duplicate_lines": "\n".join(["short"] * 12 + SOUND.replace("\n", " ").split(". ")),
    "max_duplicate_paragraphs": "\n\n".join(["one"] * 5 + [f"line {number}\nanother {number}" for number in range(6)]),
    "max_top_2_gram": " ".join(["very wholesome"] + ["very wholesome " + word for word in SOUND.split()]),
    "max_duplicate_5_grams": " ".join(SOUND.split()) + " and then " + " ".join(SOUND.split()),
}


@pytest.mark.parametrize("rule", GopherRepetition.model_fields)
def test_both_sides_of_each_threshold(rule: str) -> None:
    """A text whose measure is above the threshold goes, and one whose measure is the threshold stays."""
    text = BROKEN.get(rule) or BROKEN["max_duplicate_paragraphs" if "paragraph" in rule else "max_duplicate_lines"]
    if "gram" in rule:
        text = BROKEN["max_top_2_gram" if "top" in rule else "max_duplicate_5_grams"]
    batch = pa.record_batch({"text": pa.array([text])})
    measured = measure_repetition(batch.column("text"))[0][REPETITION_MEASURES.index(rule[4:])]
    assert measured > 0
    off = dict.fromkeys(GopherRepetition.model_fields, 1e9)
    for threshold, kept in ((measured, True), (measured - 1e-9, False)):
        verdicts = Quality(rules={"gopher_repetition": {**off, rule: threshold}}).apply(batch)[1]
        assert verdicts.rule.to_pylist() == [None if kept else f"gopher_repetition.{rule}"]


@pytest.mark.parametrize("rule", BROKEN)
def test_published_thresholds(rule: str) -> None:
    batch = pa.record_batch({"text": pa.array([SOUND, BROKEN[rule]])})
    verdicts = Quality(rules=["gopher_repetition"]).apply(batch)[1]
    assert verdicts.rule.to_pylist() == [None, f"gopher_repetition.{rule}"]
    assert verdicts.value[1].as_py() > verdicts.threshold[1].as_py() == GopherRepetition.model_fields[rule].default


def test_the_ledger_has_the_measures_where_the_set_is_chosen() -> None:
    batch = pa.record_batch({"text": pa.array([SOUND])})
    assert set(REPETITION_MEASURES) <= set(Quality(rules=["gopher", "gopher_repetition"]).apply(batch)[1].measures)
    assert not set(REPETITION_MEASURES) & set(Quality(rules=["gopher"]).apply(batch)[1].measures)
