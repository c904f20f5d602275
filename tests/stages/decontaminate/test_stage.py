"""Overlap with evaluation sets, against the same in plain Python."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datatrove.data import Document
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.peer_decontamination import SIZE, peer_filter
from tests.runs import config_file, jsonl_file, ledger, run, text_of, tokenmill
from tests.stages.text.test_shingles import plain_words
from tokenmill.pipeline.commands.explain import explain
from tokenmill.pipeline.commands.what_if import what_if
from tokenmill.pipeline.report.report import build_report
from tokenmill.pipeline.report.run_page import run_page
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.stages.decontaminate.ngram_index import MOST_TEXTS, NOTHING, NgramIndex
from tokenmill.stages.decontaminate.stage import Decontaminate
from tokenmill.stages.stage import KEPT

QUESTION = "A baker leaves a loaf of rye in the oven for fifty minutes and then lets it stand for how long?"


def plain_overlaps(texts: Sequence[str], documents: Sequence[str], size: int, least: int) -> list[tuple[int, int]]:
    """What the index finds, said slowly: words at which an n-gram ends, and the text that most point to."""
    having: dict[tuple[str, ...], set[int]] = {}
    first: dict[tuple[str, ...], int] = {}
    for number, text in enumerate(texts):
        words = tuple(plain_words(text))
        owner = first.setdefault(words, number)
        length = min(size, len(words))
        for start in range(len(words) - length + 1 if length >= min(least, size) else 0):
            having.setdefault(words[start : start + length], set()).add(owner)
    index = {ngram: min(owners) for ngram, owners in having.items() if len(owners) <= MOST_TEXTS}
    found = []
    for document in documents:
        words = tuple(plain_words(document))
        hits: Counter[int] = Counter()
        for end in range(1, len(words) + 1):
            ending = (words[end - length : end] for length in range(min(size, end), 0, -1))
            hits.update([index[ngram] for ngram in ending if ngram in index][:1])
        most = min(hits, key=lambda text: (-hits[text], text)) if hits else NOTHING
        found.append((sum(hits.values()), most))
    return found


FEW_WORDS = st.lists(st.sampled_from(["a", "b", "B", "c,", "中", "é"]), max_size=14).map(" ".join)


@given(st.lists(FEW_WORDS, max_size=30), st.lists(FEW_WORDS, max_size=5), st.integers(2, 6), st.integers(1, 7))
@settings(max_examples=100)
def test_any_overlap_as_plain_python(texts: list[str], documents: list[str], size: int, least: int) -> None:
    index, _ = NgramIndex.of(pa.array(texts, pa.string()), size, least)
    overlap, text, words = index.overlaps(pa.array(documents, pa.string()))
    assert list(zip(overlap.tolist(), text.tolist(), strict=True)) == plain_overlaps(texts, documents, size, least)
    assert words.tolist() == [len(plain_words(document)) for document in documents]


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 200))
@settings(max_examples=50)
def test_a_planted_ngram_is_found_and_nothing_else(number: int, item: int, place: int) -> None:
    items = [" ".join(f"q{item}w{word}" for word in range(20 if item < 30 else 9)) for item in range(41)]
    index, is_used = NgramIndex.of(pa.array(items, pa.string()), 13, 8)
    assert is_used.all()
    words = text_of("maps", number).split()
    planted = items[item].upper().split()[:13]
    place %= len(words)
    documents = [" ".join(words), " ".join([*words[:place], *planted, *words[place:]])]
    overlap, _, _ = index.overlaps(pa.array(documents, pa.string()))
    assert overlap.tolist() == [0, 1]


def test_real_texts_as_plain_python(shared_data: Path) -> None:
    with gzip.open(shared_data / "text.jsonl.gz") as file:
        texts = [json.loads(line)["text"] for line in file]
    items = [" ".join(text.split()[40:80]) for text in texts[5::350]] + ["of the", "at the end of the day it was over"]
    documents = texts[::100] + texts[5::1400]
    index, _ = NgramIndex.of(pa.array(items), 13, 8)
    overlap, text, _ = index.overlaps(pa.array(documents))
    expected = plain_overlaps(items, documents, 13, 8)
    assert list(zip(overlap.tolist(), text.tolist(), strict=True)) == expected
    assert 0 < sum(count > 0 for count, _ in expected) < len(documents) / 2


def test_decides_as_datatrove_does(shared_data: Path, tmp_path: Path) -> None:
    with gzip.open(shared_data / "text.jsonl.gz") as file:
        texts = [json.loads(line)["text"] for line in list(file)[::70]]
    # split into words before, so that both take the same for words
    documents = [" ".join(plain_words(text)) for text in texts]
    items = [" ".join(document.split()[40:80]) for document in documents[5::20]]
    peer = peer_filter(tmp_path, items, splits_at_spaces=True)
    theirs = [peer.filter(Document(text=document, id="")) is not True for document in documents]
    quiz = jsonl_file(tmp_path / "quiz.jsonl", [{"text": item} for item in items])
    ours = judge(Decontaminate(against=[str(quiz)], ngram=SIZE, min_words=SIZE), *documents)
    assert (ours.fate != KEPT).tolist() == theirs
    assert 0 < sum(theirs) < len(documents)


def judge(stage: Decontaminate, *texts: str | None) -> Any:
    return stage.judge(pa.record_batch({"text": pa.array(texts, pa.string())}))


def test_both_sides_of_the_threshold(tmp_path: Path) -> None:
    quiz = jsonl_file(tmp_path / "quiz.jsonl", [{"text": QUESTION}])
    words = QUESTION.split()
    one, two = "Once " + " ".join(words[2:15]) + " again.", "Once " + " ".join(words[2:16]) + " again."
    strict = judge(Decontaminate(against=[str(quiz)]), one, two, " ".join(words[:12]), "", None)
    assert strict.rule.to_pylist() == ["decontaminate.quiz"] * 2 + [None] * 3
    assert strict.measures["overlap"].to_pylist() == [1, 2, 0, 0, 0]
    assert strict.measures["overlap_share"].to_pylist() == [1 / 3, 2 / 4, 0, 0, 0]
    assert strict.measures["evaluation_set"].to_pylist() == ["quiz"] * 2 + [None] * 3
    assert strict.measures["evaluation_item"].to_pylist() == [1, 1, None, None, None]
    lenient = Decontaminate(against=[str(quiz)], max_overlap=1)
    verdicts = judge(lenient, one, two)
    assert verdicts.rule.to_pylist() == [None, "decontaminate.quiz"]
    assert (verdicts.value.to_pylist(), verdicts.threshold.to_pylist()) == ([None, 2.0], [None, 1.0])
    again = lenient.reevaluate(strict.measures, Decontaminate(against=[str(quiz)]))
    assert again.fate.tolist() == judge(lenient, one, two, "", "", None).fate.tolist()


def test_sets_items_and_fields(tmp_path: Path) -> None:
    rows = [
        {"q": {"text": QUESTION}, "options": ["Ten minutes", "Long enough for the crust to become soft again"], "n": 3}
    ]
    jsonl_file(tmp_path / "evals/a.jsonl", ["", *rows])
    (tmp_path / "evals/b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"answer": text_of("bees", 3)}).encode()))
    fields = ["q.text", "options", "answer"]
    texts = [QUESTION, "long enough, for the crust to become soft again!", text_of("bees", 3), "ten minutes"]
    by_file = judge(Decontaminate(against=[str(tmp_path / "evals/*")], fields=fields), *texts)
    assert by_file.measures["evaluation_set"].to_pylist() == ["a", "a", "b", None]
    assert by_file.measures["evaluation_item"].to_pylist() == [2, 2, 1, None]
    by_name = judge(Decontaminate(against={"mine": str(tmp_path / "evals/*")}, fields=fields), *texts)
    assert by_name.rule.to_pylist() == ["decontaminate.mine"] * 3 + [None]
    assert by_name.measures["evaluation_item"].to_pylist() == [2, 2, 3, None]


def test_what_many_items_have_is_not_looked_for(tmp_path: Path) -> None:
    prompt = "Read the passage and answer the question that follows it in one or two words of your own."
    passage = text_of("maps", 1)
    rows = [{"text": f"{prompt} {text_of('bees', number)}", "passage": passage} for number in range(MOST_TEXTS + 1)]
    quiz = jsonl_file(tmp_path / "quiz.jsonl", rows)
    stage = Decontaminate(against=[str(quiz)], fields=["text", "passage"])
    assert judge(stage, prompt, passage).rule.to_pylist() == [None, "decontaminate.quiz"]
    jsonl_file(quiz, rows[:MOST_TEXTS])
    assert judge(stage, prompt, passage).rule.to_pylist() == ["decontaminate.quiz"] * 2


def test_in_a_run(tmp_path: Path) -> None:
    quiz = jsonl_file(tmp_path / "evals/quiz.jsonl", [{"text": text_of("bees", 1)}, {"text": "Too short."}])
    jsonl_file(tmp_path / "evals/other.jsonl", [{"text": text_of("maps", 1)}])
    documents = [text_of("bread", 1), text_of("bees", 1), text_of("maps", 1), text_of("tides", 1)]
    jsonl_file(tmp_path / "in/a.jsonl", [{"text": text, "url": f"u:{n}"} for n, text in enumerate(documents)])
    stages = {"decontaminate": {"against": [str(tmp_path / "evals/*")]}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, stages)
    run(config)
    store = open_run(str(tmp_path / "run"))
    report = build_report(store)
    assert report.stages["decontaminate"].dropped == {"decontaminate.quiz": 1, "decontaminate.other": 1}
    assert any("1 of 2 items of quiz are not looked for" in said for said in report.notices)
    (story,) = explain(store, "u:1")
    assert story["ended"]["rule"] == "decontaminate.quiz"
    assert (story["measures"]["evaluation_set"], story["measures"]["evaluation_item"]) == ("quiz", 1)
    assert "decontaminate.other" in run_page(store, report)
    most = max(story["measures"]["overlap"], 1)
    assert what_if(store, [f"stages.decontaminate.max_overlap={most}"]).newly_kept.documents >= 1
    # the sets are part of the fingerprint, by content
    jsonl_file(quiz, [{"text": text_of("tides", 1)}])
    run(config)
    fates = {row["url"]: row["fate"] for row in ledger(tmp_path / "run").to_pylist()}
    assert fates == {"u:0": "kept", "u:1": "kept", "u:2": "dropped", "u:3": "dropped"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": QUESTION}, "{no json"], "quiz.jsonl, line 2: is no JSON object"),
        ([{"text": QUESTION}, {"question": QUESTION}], "quiz.jsonl, line 2: no text in text; its fields are question"),
        ([{"text": "Too short."}], "the set 'quiz' would find nothing"),
        (None, "quiz.jsonl: cannot be read"),
    ],
)
def test_sets_that_cannot_be_used_are_named(tmp_path: Path, rows: list[Any] | None, message: str) -> None:
    if rows is not None:
        jsonl_file(tmp_path / "quiz.jsonl", rows)
    jsonl_file(tmp_path / "in/a.jsonl", [{"text": QUESTION}])
    stages = {"decontaminate": {"against": {"quiz": str(tmp_path / "quiz.jsonl")}}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, stages)
    result = tokenmill("plan", config)
    assert result.returncode == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize("nothing", [[], {}])
def test_no_set_at_all(nothing: Any) -> None:
    with pytest.raises(ValidationError):
        Decontaminate(against=nothing)
