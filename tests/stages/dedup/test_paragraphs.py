"""Paragraphs that several documents have, against a plain Python loop."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.stages.dedup.test_stage import cut, ids_of
from tests.stages.in_memory import MemoryRun
from tokenmill.stages.dedup import paragraphs
from tokenmill.stages.dedup.stage import Deduplicate
from tokenmill.stages.stage import DROPPED, KEPT

LINES = [
    "The same old footer text",
    "the SAME old, footer: text!",
    "A line of its own",
    "short",
    "",
    "  ",
    "* * *",
    "Um só",
]


def words_of(line: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", line.lower()))


def expected_texts(
    texts: list[str], min_words: int, min_documents: int
) -> tuple[list[str], list[list[int]], list[int]]:
    """What is left of each text, its removed lines, and the text that keeps the first of them (-1: none was removed)."""
    holders: dict[tuple[str, ...], list[int]] = {}
    for number, text in enumerate(texts):
        for line in text.split("\n"):
            if len(words_of(line)) >= min_words and number not in holders.setdefault(words_of(line), []):
                holders[words_of(line)].append(number)
    left, removed, first = [], [], []
    for number, text in enumerate(texts):
        kept: list[str] = []
        lines = text.split("\n")
        lost = []
        is_cut = False
        for place, line in enumerate(lines):
            having = holders.get(words_of(line), [])
            if len(having) >= min_documents and having[0] != number:
                lost.append(place)
                is_cut = True
            elif not (is_cut and not line.strip(" \t\r\v\f")):
                is_cut = False
                kept.append(line)
        left.append("\n".join(kept).rstrip("\n") if lost else text)
        removed.append(lost)
        first.append(holders[words_of(lines[lost[0]])][0] if lost else -1)
    return left, removed, first


@given(
    st.lists(st.lists(st.sampled_from(LINES), max_size=6).map("\n".join), max_size=9),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(2, 3),
)
@settings(max_examples=150)
def test_what_is_left_is_that_of_a_plain_loop(texts: list[str], parts: int, min_words: int, min_documents: int) -> None:
    stage = Deduplicate(scope="paragraph", min_words=min_words, min_documents=min_documents)
    partitions = cut(texts, parts)
    names = ids_of(partitions)
    run = MemoryRun(stage, partitions, batch_rows=2)
    left, removed, first = expected_texts(texts, min_words, min_documents)
    judged = run.judged()
    kept = [row["text"] for context in run.done["edited"].values() for row in context.transformed]
    is_empty = [bool(lost) and not text.strip() for text, lost in zip(left, removed, strict=True)]
    assert kept == [text for text, empty in zip(left, is_empty, strict=True) if not empty]
    for number, name in enumerate(names):
        verdict = judged[name]
        assert verdict["repeated_paragraphs"] == len(removed[number])
        assert verdict["repeated_bytes"] == len(texts[number].encode()) - len(left[number].encode())
        assert verdict["repeated_from"] == (names[first[number]] if removed[number] else None)
        assert verdict["fate"] == (DROPPED if is_empty[number] else KEPT)
        assert verdict["rule"] == ("deduplicate.paragraphs" if is_empty[number] else None)


def test_nothing_depends_on_order_of_tasks_batches_or_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(3)
    lines = [" ".join(f"w{generator.randrange(900)}" for _ in range(7)) for _ in range(60)]
    partitions = cut(["\n\n".join(generator.choices(lines, k=6)) for _ in range(80)], 5)

    def outcome(run: MemoryRun) -> Any:
        return run.judged(), [row for context in run.done["edited"].values() for row in context.transformed]

    stage = Deduplicate(scope="paragraph")
    plain = MemoryRun(stage, partitions, batch_rows=100)
    assert sum(verdict["repeated_paragraphs"] for verdict in plain.judged().values()) > 300
    monkeypatch.setattr(paragraphs, "RANGE_PARAGRAPHS", 50)
    bounded = MemoryRun(stage, partitions, batch_rows=3, order=lambda tasks: tasks[::-1])
    assert len(bounded.done["repeats"]) == 10
    assert outcome(bounded) == outcome(plain)


def test_the_most_repeated_are_shown() -> None:
    footer = "Read our newsletter every week, for free"
    texts = [f"Page {n} has some words of its own.\n{footer}" for n in range(30)]
    run = MemoryRun(Deduplicate(scope="paragraph"), {"a": texts[:10], "b": texts[10:]})
    assert run.done["edited"]["0"].metrics["largest_repeats"] == [{"documents": 30, "text": footer}]
    assert run.done["edited"]["1"].metrics["largest_repeats"] == []


@pytest.mark.parametrize(
    "given", [{"scope": "paragraph", "keep": "first"}, {"scope": "paragraph", "similarity": 0.7}, {"min_words": 3}]
)
def test_keys_of_the_other_scope(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is not for scope"):
        Deduplicate(**given)
