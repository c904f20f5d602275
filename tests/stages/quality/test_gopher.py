"""Gopher's quality rules against datatrove's filter, on a thousand real documents."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pyarrow as pa
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS

from tests.stages.quality.test_fineweb import real_texts
from tests.stages.quality.test_measures import plain_stop_word
from tokenmill.stages.quality.gopher import BULLETS, MEASURES, measure
from tokenmill.stages.quality.stage import Quality
from tokenmill.stages.stage import KEPT

MODULE = "datatrove.pipeline.filters.gopher_quality_filter"
THRESHOLDS = (
    "min_doc_words",
    "min_avg_word_length",
    "max_symbol_word_ratio",
    "max_symbol_word_ratio",
    "max_bullet_lines_ratio",
    "max_ellipsis_lines_ratio",
    "max_non_alpha_words_ratio",  # by its name a most, in its code a least
    "min_stop_words",
)
"""What datatrove calls the thresholds of `MEASURES`."""
OFF = {**dict.fromkeys(THRESHOLDS, 0), "max_doc_words": 0, "max_avg_word_length": 0}


def plainly(text: str, name: str) -> str:
    """The text without what datatrove reads in another way: it counts empty lines, ends lines at all of Unicode's line ends,
    knows two of the signs that lists begin with, takes six dots for two ellipses, and has one threshold for both symbols."""
    lines = [" ".join(line.splitlines()) for line in text.split("\n") if line.strip()]
    if name == "bullet_lines":
        lines = [re.sub(rf"^\s*[{re.escape(BULLETS)}]", "-", line) for line in lines]
    text = "\n".join(lines)
    if name == "hash_ratio":
        return text.replace("...", "xxx").replace("…", "x")
    return re.sub(r"\.{4,}", "...", text.replace("#", "x")) if name == "ellipsis_ratio" else text


def split(text: str, _: str) -> list[str]:
    return text.split()


def stop_words_of(text: str, _: str) -> list[str]:
    return [plain_stop_word(word) for word in text.split()]


def stays(text: str, **thresholds: float) -> bool:
    return GopherQualityFilter(**(OFF | thresholds)).filter(Document(text=text, id="")) is True


def test_measures_of_real_documents_are_those_of_datatrove(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document meets our measure as a threshold of datatrove's and breaks the next one: on each fifth
    document."""
    texts = real_texts(shared_data)[::5]
    monkeypatch.setattr(f"{MODULE}.split_into_words", split)
    monkeypatch.setattr(f"{MODULE}.PUNCTUATION_SET", set())  # words of signs alone are words to the paper
    measured = measure(pa.array(texts), tuple(STOP_WORDS))
    for column, (name, threshold) in enumerate(zip(MEASURES, THRESHOLDS, strict=True)):
        if name == "stop_words":  # are words of their own to us whatever signs and capitals they have
            monkeypatch.setattr(f"{MODULE}.split_into_words", stop_words_of)
        is_most = threshold.startswith("max") and name != "alphabetic_words"
        values = measured[:, column]
        for text, value in zip(texts, values, strict=True):
            if value:
                beyond = math.nextafter(value, -math.inf if is_most else math.inf)
                plain = plainly(text, name)
                assert stays(plain, **{threshold: value})
                assert not stays(plain, **{threshold: beyond})
        assert (values > 0).sum() >= 20


def test_real_documents_as_by_datatrove(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where words of signs alone count as words, as the paper has it, every document has the same fate. Where they do not,
    as datatrove has it, the rest is longer on average: some tables and listings go for that, and nothing else differs."""
    texts = real_texts(shared_data)
    monkeypatch.setattr(f"{MODULE}.split_into_words", split)
    ours = Quality(rules=["gopher"]).apply(pa.record_batch({"text": pa.array(texts)}))[1].fate == KEPT
    as_it_is = [GopherQualityFilter().filter(Document(text=text, id="")) for text in texts]
    differing = [answer for answer, kept in zip(as_it_is, ours, strict=True) if kept != (answer is True)]
    assert set(differing) <= {(False, "gopher_above_avg_threshold"), (False, "gopher_short_doc")}
    assert len(differing) < 0.02 * len(texts)
    monkeypatch.setattr(f"{MODULE}.PUNCTUATION_SET", set())
    theirs = [GopherQualityFilter().filter(Document(text=text, id="")) is True for text in texts]
    assert ours.tolist() == theirs
    assert 0.1 < ours.mean() < 0.9
