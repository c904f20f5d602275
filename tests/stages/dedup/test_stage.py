"""The whole stage, over partitions in memory, against slow and certain ways to say the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.runs import text_of
from tests.stages.in_memory import MemoryRun
from tokenmill.stages.dedup import limits
from tokenmill.stages.dedup.stage import Deduplicate
from tokenmill.stages.dedup.verify import CONTAINED_SHINGLES
from tokenmill.stages.stage import DROPPED, KEPT
from tokenmill.stages.text.shingles import shingle_sets, shingles

ALL_PAIRS: dict[str, Any] = {"bands": 128, "rows": 1}
"""Misses a pair of similarity 0.5 once in 10^38: what must come out is certain."""


def random_text(generator: random.Random, length: int, words: int = 5000) -> str:
    return " ".join(f"word{generator.randrange(words)}" for _ in range(length))


def edited(generator: random.Random, text: str, words: int) -> str:
    """The same with some words replaced."""
    changed = text.split()
    for _ in range(words):
        changed[generator.randrange(len(changed))] = f"changed{generator.randrange(10**6)}"
    return " ".join(changed)


def planted(seed: int = 3) -> list[str]:
    """Random texts; exact copies under other punctuation; copies with some words replaced; copies of copies."""
    generator = random.Random(seed)
    texts = [random_text(generator, generator.randint(30, 120)) for _ in range(60)]
    copies = [text.upper().replace(" ", ", ") for text in texts[:10]]
    changed = [edited(generator, text, generator.randint(1, 3)) for text in texts[5:35]]
    further = [edited(generator, text, 2) + " and more" * 3 for text in changed[:20]]
    contained = [" ".join(text.split()[3:29]) for text in texts[40:50]]
    everything = [*texts, *copies, *changed, *further, *contained, *changed[:7], "", "!!!"]
    generator.shuffle(everything)
    return everything


def expected_duplicates(
    texts: Sequence[str], similarity: float, keep: str, size: int
) -> dict[int, tuple[int, str, float]]:
    """Dropped row -> its survivor, rule and similarity: all pairs compared, documents taken in order of priority."""
    array = pa.array(texts, pa.string())
    _, _, digests = shingles(array, size)
    values, bounds = shingle_sets(array, size)
    sets = [set(values[bounds[row] : bounds[row + 1]].tolist()) for row in range(len(texts))]
    order = sorted((row for row in range(len(texts)) if sets[row]), key=lambda row: (0, row))
    if keep == "longest":
        order = sorted(order, key=lambda row: -len(texts[row].encode()))
    first: dict[tuple[int, int], int] = {}
    dropped: dict[int, tuple[int, str, float]] = {}
    exact: dict[int, int] = {}
    kept: list[int] = []
    for row in order:
        digest = int(digests[0, row]), int(digests[1, row])
        if digest in first:
            exact[row] = first[digest]
            continue
        first[digest] = row
        mine = sets[row]
        for winner in kept:
            shared, union = len(mine & sets[winner]), len(mine | sets[winner])
            is_contained = shared == len(mine) >= CONTAINED_SHINGLES
            if shared / union >= similarity or is_contained:
                rule = "near" if shared / union >= similarity else "contained"
                dropped[row] = winner, f"deduplicate.{rule}", shared / union
                break
        else:
            kept.append(row)
    copies = {row: dropped.get(best, (best, "deduplicate.exact", 1.0)) for row, best in exact.items()}
    return dropped | copies


def check(run: MemoryRun, texts: Sequence[str], ids: Sequence[str], stage: Deduplicate) -> None:
    judged = run.judged()
    expected = expected_duplicates(texts, stage.similarity, stage.keep, stage.ngram)
    stands_for = dict.fromkeys(ids, 1)
    for survivor, _, _ in expected.values():
        stands_for[ids[survivor]] += 1
    assert list(judged) == list(ids)
    for row, name in enumerate(ids):
        verdict = judged[name]
        if row in expected:
            survivor, rule, similarity = expected[row]
            assert (verdict["fate"], verdict["rule"], verdict["survivor"]) == (DROPPED, rule, ids[survivor])
            assert verdict["value"] == pytest.approx(similarity, abs=1e-6) == verdict["similarity"]
            assert verdict["threshold"] == stage.similarity
            assert verdict["copies"] is None
        else:
            assert (verdict["fate"], verdict["copies"]) == (KEPT, stands_for[name])
            assert [verdict[key] for key in ("rule", "value", "threshold", "survivor", "similarity")] == [None] * 5


def cut(texts: Sequence[str], parts: int) -> dict[str, Sequence[str | None]]:
    size = -(-len(texts) // parts)
    return {f"p{number}": texts[number * size : (number + 1) * size] for number in range(parts)}


def ids_of(partitions: dict[str, Sequence[str | None]]) -> list[str]:
    return [f"{name}#{row}" for name, texts in partitions.items() for row, text in enumerate(texts) if text is not None]


@pytest.mark.parametrize("keep", ["longest", "first"])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_every_verdict_is_that_of_comparing_all_with_all(parts: int, keep: Any) -> None:
    texts = planted()
    stage = Deduplicate(similarity=0.5, keep=keep, **ALL_PAIRS)
    partitions = cut(texts, parts)
    run = MemoryRun(stage, partitions, batch_rows=5)
    check(run, texts, ids_of(partitions), stage)
    rules = {verdict["rule"] for verdict in run.judged().values()}
    assert rules == {None, "deduplicate.exact", "deduplicate.near", "deduplicate.contained"}


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12).map(" ".join), max_size=14),
    st.integers(1, 4),
    st.sampled_from([0.5, 0.7, 1.0]),
    st.integers(1, 3),
    st.sampled_from(["longest", "first"]),
)
@settings(max_examples=60)
def test_small_corpora_full_of_likeness(texts: list[str], parts: int, similarity: float, ngram: int, keep: Any) -> None:
    stage = Deduplicate(similarity=similarity, ngram=ngram, keep=keep, **ALL_PAIRS)
    partitions = cut(texts, parts)
    check(MemoryRun(stage, partitions), texts, ids_of(partitions), stage)


def test_nothing_depends_on_order_of_tasks_batches_or_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    partitions = cut(planted(), 6)
    plain = MemoryRun(Deduplicate(), partitions, batch_rows=100).judged()
    assert sum(verdict["fate"] == DROPPED for verdict in plain.values()) > 30
    assert MemoryRun(Deduplicate(), partitions, order=lambda tasks: tasks[::-1]).judged() == plain
    monkeypatch.setattr(limits, "RANGE_DOCUMENTS", 20)
    monkeypatch.setattr(limits, "SET_BATCH", 300)
    monkeypatch.setattr(limits, "GROUP_SHINGLES", 1000)
    monkeypatch.setattr(limits, "MOST_PAIRS", 5)
    bounded = MemoryRun(Deduplicate(), partitions, batch_rows=3)
    assert len(bounded.done["candidates"]) == 15 * 7
    assert len(bounded.done["verified"]) > 2
    assert bounded.judged() == plain


def test_a_document_that_earlier_stages_dropped_is_not_there() -> None:
    text = text_of("bread", 1)
    judged = MemoryRun(Deduplicate(), {"p": [None, text, None, text], "q": [None, text]}).judged()
    assert {name: verdict["survivor"] for name, verdict in judged.items()} == {
        "p#1": None,
        "p#3": "p#1",
        "q#1": "p#1",
    }


def test_no_chain_deletes_what_it_does_not_match() -> None:
    """A matches B and B matches C, but not A and C: with B dropped, C is kept."""
    words = [f"w{number}" for number in range(130)]
    texts = [" ".join(words[:112]), " ".join(words[6:116]), " ".join(words[14:122])]
    judged = MemoryRun(Deduplicate(**ALL_PAIRS), {"p": texts}).judged()
    assert [judged[f"p#{number}"]["fate"] for number in range(3)] == [KEPT, DROPPED, KEPT]
    for pair in (texts[:2], texts[1:]):
        judged = MemoryRun(Deduplicate(**ALL_PAIRS), {"p": pair}).judged()
        assert sorted(verdict["fate"] for verdict in judged.values()) == [KEPT, DROPPED]


def test_the_newest_is_kept() -> None:
    """Of minutes, so that a second later is no later; without a date, or from before 1970, is the oldest."""
    generator = random.Random(7)
    texts = [random_text(generator, 200) for _ in range(5)]
    older = [edited(generator, text, 1) + " and a longer end" for text in texts]
    days = 86_400
    dates = {texts[0]: 9 * days, older[0]: 8 * days, older[1]: 5 * days, texts[3]: 60, older[3]: 119, older[4]: -days}
    judged = MemoryRun(Deduplicate(keep="newest"), {"new": texts, "old": older}, dates=dates).judged()
    kept = [name for name, verdict in judged.items() if verdict["fate"] == KEPT]
    assert kept == ["new#0", "new#2", "new#3", "new#4", "old#1"]
    assert judged["new#1"]["survivor"] == "old#1"


def test_a_licence_header_in_every_document_drops_nothing() -> None:
    generator = random.Random(5)
    licence = random_text(generator, 120)
    texts = [f"{licence} {random_text(generator, 90)}" for _ in range(300)]
    run = MemoryRun(Deduplicate(bands=64, rows=2), {"p": texts}, batch_rows=50)
    assert run.done["verified"]["group00000"].metrics["candidates"] > 10_000
    assert all(verdict["fate"] == KEPT for verdict in run.judged().values())


def test_a_thousand_copies_leave_one() -> None:
    text = text_of("bread", 1)
    run = MemoryRun(Deduplicate(), {"a": [text] * 600, "b": [text + " "] * 400}, batch_rows=64)
    kept = {name: verdict for name, verdict in run.judged().items() if verdict["fate"] == KEPT}
    assert [(name, verdict["copies"]) for name, verdict in kept.items()] == [("b#0", 1000)]
    assert run.done["verified"]["group00000"].metrics["candidates"] == 0
    assert run.done["verdicts"]["1"].metrics["largest_clusters"] == {"b#0": 1000}


def test_hundreds_of_near_copies_leave_one() -> None:
    generator = random.Random(1)
    text = random_text(generator, 400)
    texts = [text + " the end of a text that is the longest", *(edited(generator, text, 2) for _ in range(300))]
    judged = MemoryRun(Deduplicate(), cut(texts, 3), batch_rows=64).judged()
    assert [name for name, verdict in judged.items() if verdict["fate"] == KEPT] == ["p0#0"]
    assert judged["p0#0"]["copies"] == 301


def test_documents_without_words_match_nothing() -> None:
    run = MemoryRun(Deduplicate(), {"p": ["", "!!!", "", "one", "one", "\0", "\0"]})
    assert [name for name, verdict in run.judged().items() if verdict["fate"] == DROPPED] == ["p#4"]
    assert run.done["signatures"]["0"].metrics["without_words"] == 5


@pytest.mark.parametrize("partitions", [{}, {"a": []}, {"a": [], "b": [None], "c": [""]}])
def test_next_to_nothing(partitions: dict[str, list[str | None]]) -> None:
    judged = MemoryRun(Deduplicate(), partitions).judged()
    assert [verdict["fate"] for verdict in judged.values()] == [KEPT] * len(ids_of(dict(partitions)))


def test_candidates_as_they_are() -> None:
    """Half of the words shared: found by bands of one row, but no duplicate."""
    generator = random.Random(2)
    half = random_text(generator, 60)
    texts = [f"{half} {random_text(generator, 60)}" for _ in range(2)]
    verified = MemoryRun(Deduplicate(**ALL_PAIRS), {"p": texts}).judged()
    raw = MemoryRun(Deduplicate(verify=False, **ALL_PAIRS), {"p": texts}).judged()
    assert [verdict["fate"] for verdict in verified.values()] == [KEPT, KEPT]
    assert sorted(verdict["fate"] for verdict in raw.values()) == [KEPT, DROPPED]
    dropped = next(verdict for verdict in raw.values() if verdict["fate"] == DROPPED)
    assert (dropped["rule"], dropped["value"], dropped["similarity"]) == ("deduplicate.near", None, None)


@pytest.mark.parametrize(
    "settings", [{"bands": 4}, {"rows": 4}, {"similarity": 0}, {"similarity": 1.01}, {"seed": 2**32}, {"ngram": 0}]
)
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Deduplicate(**settings)
