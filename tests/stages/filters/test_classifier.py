"""The fastText quality classifier, with the fastText library as the oracle."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.fasttext_writer import write_classifier
from tests.runs import config_file, jsonl_file, ledger, run, text_of, tokenmill
from tokenmill.pipeline.commands.what_if import what_if
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.stages.filters.classifier import Classifier, label_probability
from tokenmill.stages.filters.fasttext_model import FastTextClassifier, UnsupportedModel
from tokenmill.stages.stage import DROPPED, KEPT, ThresholdRule

WORDS = ["</s>", "the", "of", "and", "to", "a", "in", "bread", "flour", "is", "water", "der", "die", "und", "é", "日本"]
LABELS = {"hq": 700, "cc": 300}
MODELS: dict[str, dict[str, Any]] = {
    "softmax over words": {"loss": 3},
    "softmax over words and bigrams, as DCLM's": {"loss": 3, "word_ngrams": 2},
    "softmax over trigrams and characters": {"loss": 3, "word_ngrams": 3, "ngram_lengths": (2, 4)},
    "hierarchical softmax over bigrams": {"loss": 1, "word_ngrams": 2},
}


def as_line(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, "\n\r\0"), " "))


def agrees(model: Path, texts: Sequence[str], labels: Sequence[str] = tuple(LABELS)) -> None:
    library = fasttext.load_model(str(model))
    found = {label: label_probability(pa.array(texts, pa.string()), model, label) for label in labels}
    for number, text in enumerate(texts):
        names, chances = library.predict(as_line(text), k=-1)
        if not as_line(text).split():
            assert all(np.isnan(scores[number]) for scores in found.values())
            continue
        for name, chance in zip(names, chances, strict=True):
            assert found[name.removeprefix("__label__")][number] == pytest.approx(min(chance, 1), abs=1e-5)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.bin"
    return write_classifier(path, WORDS, LABELS, **MODELS[request.param])


PIECES = ["the ", "bread ", "und", " ", "\n", "\0", "é", "日本 ", "x"]


@given(texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=6))
@settings(max_examples=60)
def test_any_text_as_the_library(model: Path, texts: list[str]) -> None:
    FastTextClassifier.load(model)  # none of these goes to the library
    agrees(model, texts)


def test_real_documents_as_the_library(model: Path, shared_data: Path) -> None:
    with gzip.open(shared_data / "text.jsonl.gz") as file:
        agrees(model, [json.loads(line)["text"] for line in file][::40])


def test_more_labels_than_two(tmp_path: Path) -> None:
    labels = {name: 90 - number for number, name in enumerate("abcdefg")}
    for loss in (1, 3):
        path = write_classifier(tmp_path / f"{loss}.bin", WORDS, labels, loss=loss, spread=3)
        agrees(path, [text_of("bread", 1), "the bread", "nothing known"], list(labels))


def test_a_model_for_the_library_alone(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "m.bin", WORDS, LABELS, loss=2, word_ngrams=2)
    with pytest.raises(UnsupportedModel):
        FastTextClassifier.load(path)
    agrees(path, [text_of("bread", 1), "the\nbread", "", " \n", "the"])


def test_dictionary_without_an_end_of_line(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "m.bin", WORDS[1:], LABELS, loss=3, word_ngrams=2)
    agrees(path, ["the bread", text_of("bread", 1)])
    words_alone = write_classifier(tmp_path / "words.bin", WORDS[1:], LABELS, loss=3, buckets=0)
    assert np.isnan(label_probability(pa.array(["nothing known"]), words_alone, "hq")).all()


def judge(stage: Classifier, *texts: str | None) -> Any:
    return stage.judge(pa.record_batch({"text": pa.array(texts, pa.string())}))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("model") / "m.bin", WORDS, LABELS, loss=3, word_ngrams=2)


def test_threshold_on_both_sides(small: Path) -> None:
    score = float(judge(Classifier(model=small, label="hq", threshold=0), "the bread").measures["score"][0].as_py())
    assert 0 < score < 1
    for threshold, fate, rule in ((score, KEPT, None), (np.nextafter(score, 1), DROPPED, "classifier.threshold")):
        verdicts = judge(Classifier(model=small, label="__label__hq", threshold=float(threshold)), "the bread")
        assert (verdicts.fate.tolist(), verdicts.rule.to_pylist()) == ([fate], [rule])
    assert (verdicts.value.to_pylist(), verdicts.threshold.to_pylist()) == ([score], [threshold])
    other = judge(Classifier(model=small, label="cc", threshold=0), "the bread").measures["score"][0].as_py()
    assert score + other == pytest.approx(1 + 2e-5)


def test_nothing_to_tell_from(small: Path) -> None:
    verdicts = judge(Classifier(model=small, label="hq", threshold=0.01), "", None, " \n\0")
    assert verdicts.rule.to_pylist() == ["classifier.none"] * 3
    assert verdicts.measures["score"].null_count == verdicts.value.null_count == 3
    assert judge(Classifier(model=small, label="hq", threshold=0), "", None).fate.tolist() == [KEPT, KEPT]
    assert judge(Classifier(model=small, label="hq", threshold=0.5)).fate.tolist() == []


def test_what_the_ledger_tells(small: Path) -> None:
    stage = Classifier(model=small, label="hq", threshold=0.5)
    assert stage.thresholds() == [ThresholdRule("classifier.threshold", "score", 0.5, True)]
    texts = ["the bread", "und die", "", "of water and flour"]
    asked = Classifier(model=small, label="hq", threshold=0.3)
    again = asked.reevaluate(judge(stage, *texts).measures, stage)
    assert again.rule.to_pylist() == judge(asked, *texts).rule.to_pylist()


def test_a_label_that_the_model_has_not(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no label 'h'; nearest first it has hq, cc"):
        Classifier(model=small, label="h", threshold=0.5)
    (tmp_path / "m.bin").write_bytes(b"no model, but a file that is long enough for the header of one")
    with pytest.raises(ValidationError, match="is no fastText model"):
        Classifier(model=tmp_path / "m.bin", label="hq", threshold=0.5)
    (tmp_path / "cut.bin").write_bytes(small.read_bytes()[:200])
    with pytest.raises(ValidationError, match="cut short"):
        Classifier(model=tmp_path / "cut.bin", label="hq", threshold=0.5)


def test_two_classifiers_in_a_run(tmp_path: Path) -> None:
    first = write_classifier(tmp_path / "first.bin", WORDS, LABELS, loss=3)
    second = write_classifier(tmp_path / "second.bin", WORDS, {"en": 2, "math": 1}, loss=3, seed=1)
    jsonl_file(tmp_path / "in/a.jsonl", [{"text": text_of("bread", number)} for number in range(12)])
    stages = {
        "classifier": {"model": str(first), "label": "hq", "threshold": 0},
        "math": {"uses": "classifier", "model": str(second), "label": "math", "threshold": 0},
    }
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, stages)
    run(config)
    rows = ledger(tmp_path / "run")
    scores = np.sort(rows.column("classifier_score").to_numpy())
    assert len(np.unique(rows.column("math_score").to_numpy())) > 1
    asked = what_if(open_run(str(tmp_path / "run")), [f"stages.classifier.threshold={scores[3]}"])
    assert asked.after.dropped == {"classifier.threshold": 3}
    # another model under the same name is another output
    write_classifier(first, WORDS, LABELS, loss=3, seed=2)
    run(config)
    assert not np.array_equal(np.sort(ledger(tmp_path / "run").column("classifier_score").to_numpy()), scores)


def test_a_model_that_is_gone_is_named(tmp_path: Path) -> None:
    jsonl_file(tmp_path / "in/a.jsonl", [{"text": "the bread"}])
    stages = {"classifier": {"model": str(tmp_path / "gone.bin"), "label": "hq", "threshold": 0.5}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, stages)
    result = tokenmill("plan", config)
    assert result.returncode == 2
    assert "gone.bin" in " ".join(result.stderr.split())
