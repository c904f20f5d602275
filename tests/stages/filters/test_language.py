"""Language identification, with the fastText library as the oracle."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import text_of
from tokenmill.stages.filters.fasttext_kernel import word_hash
from tokenmill.stages.filters.fasttext_model import FastTextClassifier, UnsupportedModel
from tokenmill.stages.filters.language import Language, bundled_model, classify
from tokenmill.stages.stage import DROPPED, KEPT

GERMAN = "Im Wald ist es auch an heißen Tagen kühl, weil die Blätter das Licht abhalten und Wasser verdunsten."


def as_line(text: str) -> str:
    return "".join(" " if character in "\n\r\0" else character for character in text)


def agrees(texts: list[str]) -> None:
    library = fasttext.load_model(str(bundled_model()))
    labels, scores = classify(pa.array(texts, pa.string()), bundled_model())
    for text, label, score in zip(texts, labels.to_pylist(), scores, strict=True):
        if label is None:
            assert not as_line(text).split() or not library.predict(as_line(text))[0]
            continue
        names, probabilities = library.predict(as_line(text), k=2)
        assert score == pytest.approx(min(probabilities[0], 1.0), abs=1e-4)
        is_tie = len(probabilities) > 1 and probabilities[0] - probabilities[1] < 1e-4
        assert is_tie or names[0] == f"__label__{label}", text


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=8))
@settings(max_examples=150)
def test_any_text_as_the_library(texts: list[str]) -> None:
    agrees(texts)


def test_real_sentences_as_the_library(shared_data: Path) -> None:
    with gzip.open(shared_data / "language.jsonl.gz") as file:
        agrees([json.loads(line)["text"] for line in file][::5])


def test_real_documents_as_the_library(shared_data: Path) -> None:
    with gzip.open(shared_data / "text.jsonl.gz") as file:
        agrees([json.loads(line)["text"] for line in file][::40])


def test_hash_has_the_signed_bytes_of_fasttext() -> None:
    data = np.frombuffer(b"a\xc3", np.uint8)
    assert word_hash(data, 0, 0) == 2166136261
    assert word_hash(data, 0, 1) == (2166136261 ^ 97) * 16777619 % 2**32
    assert word_hash(data, 1, 2) == (2166136261 ^ 0xFFFFFFC3) * 16777619 % 2**32


def test_file_that_is_no_model(tmp_path: Path) -> None:
    for content in (
        b"",
        b"no model at all, but long enough to hold a header of one",
        bundled_model().read_bytes()[:900],
    ):
        path = tmp_path / f"{len(content)}.bin"
        path.write_bytes(content)
        with pytest.raises(UnsupportedModel, match=path.name):
            FastTextClassifier.load(path)


def judge(stage: Language, *texts: str | None) -> Any:
    return stage.judge(pa.record_batch({"text": pa.array(texts, pa.string())}))


def test_keeps_what_is_asked_for() -> None:
    english = text_of("bread", 1)
    verdicts = judge(Language(keep=["en"]), english, GERMAN, "", None, "\0\n ")
    assert verdicts.fate.tolist() == [KEPT, DROPPED, DROPPED, DROPPED, DROPPED]
    assert verdicts.rule.to_pylist() == [None, "language.not_kept", *["language.none"] * 3]
    assert verdicts.measures["language"].to_pylist() == ["en", "de", None, None, None]
    assert judge(Language(keep="all"), english, GERMAN).fate.tolist() == [KEPT, KEPT]
    assert judge(Language(keep=["en"])).fate.tolist() == []


def test_thresholds_on_both_sides() -> None:
    score = float(judge(Language(keep="all"), GERMAN).measures["language_score"][0].as_py())
    below, above = Language(keep={"de": score - 1e-3}), Language(keep={"de": min(score + 1e-3, 1.0)})
    assert judge(below, GERMAN).fate.tolist() == [KEPT]
    verdicts = judge(above, GERMAN)
    assert verdicts.rule.to_pylist() == ["language.min_score"]
    assert verdicts.value[0].as_py() == pytest.approx(score, abs=1e-6)
    assert verdicts.threshold[0].as_py() == min(score + 1e-3, 1.0)
    assert judge(Language(keep=["de"], min_score=min(score + 1e-3, 1.0)), GERMAN).fate.tolist() == [DROPPED]


def test_a_line_of_ten_megabytes() -> None:
    long = " ".join([text_of("bread", 1).replace("\n", " ")] * 12_000)
    assert len(long) > 10_000_000
    assert judge(Language(keep=["en"]), long, "x" * 10_000_000).fate[0] == KEPT


def test_same_answer_in_any_batch() -> None:
    texts = [text_of("maps", number) for number in range(20)]
    together = classify(pa.array(texts), bundled_model())[1]
    alone = np.array([classify(pa.array([text]), bundled_model())[1][0] for text in texts])
    assert np.array_equal(together, alone)
