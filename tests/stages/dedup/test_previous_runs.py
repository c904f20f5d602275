"""Deduplication against previous runs, from their signatures alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.dedup.test_stage import cut, edited, ids_of, planted, random_text
from tests.stages.in_memory import MemoryRun
from tokenmill.stages.dedup import limits
from tokenmill.stages.dedup.lsh import PEERS
from tokenmill.stages.dedup.minhash import signatures
from tokenmill.stages.dedup.previous_runs import (
    CHANCE,
    compared,
    estimated_similarity,
    shared_keys,
    sketches,
    sketches_at,
)
from tokenmill.stages.dedup.stage import Deduplicate
from tokenmill.stages.stage import DROPPED, KEPT
from tokenmill.stages.text.shingles import shingle_sets, shingles

AGAINST = Deduplicate(against=["runs/june", "runs/july"])


def test_nothing_that_a_previous_run_kept_is_kept_again() -> None:
    generator = random.Random(8)
    texts = [random_text(generator, 200) for _ in range(60)]
    june = MemoryRun(Deduplicate(), cut(texts[:30], 2))
    july = MemoryRun(Deduplicate(), {"p0": [*texts[20:40], "", "!!!"]})
    new = [*texts[10:50], *(text.upper() for text in texts[25:35]), *(edited(generator, t, 2) for t in texts[:10]), ""]
    generator.shuffle(new)
    partitions = cut(new, 3)
    run = MemoryRun(AGAINST, partitions, against={"runs/june": june, "runs/july": july})
    judged = run.judged()
    for name, text in zip(ids_of(partitions), new, strict=True):
        verdict = judged[name]
        source = next((n for n, one in enumerate(texts) if shared_words(one, text) > 0.8), None)
        if source is not None and source < 40:
            in_june = source < 30
            run_name, previous = ("runs/june", june) if in_june else ("runs/july", july)
            survivor = f"p{source // 15}#{source % 15}" if in_june else f"p0#{source - 20}"
            assert (verdict["rule"], verdict["survivor_run"]) == ("deduplicate.previous_run", run_name)
            assert verdict["survivor"] == survivor
            assert previous.judged()[survivor]["fate"] == KEPT
            assert verdict["similarity"] == verdict["value"] >= 0.8
        else:
            assert verdict["rule"] in (None, "deduplicate.exact")
            assert verdict["survivor_run"] is None
    assert sum(verdict["rule"] == "deduplicate.previous_run" for verdict in judged.values()) == 30 + 10 + 10


def shared_words(one: str, other: str) -> float:
    mine, theirs = set(one.lower().split()), set(other.lower().split())
    return len(mine & theirs) / max(len(mine | theirs), 1)


def test_what_the_previous_run_dropped_drops_nothing() -> None:
    """The previous run kept the longer of two; a new copy of the shorter one, like the kept one, is dropped for it."""
    generator = random.Random(4)
    text = random_text(generator, 300)
    previous = MemoryRun(Deduplicate(), {"p": [text, text + " and an end"]})
    judged = MemoryRun(Deduplicate(against=["r"]), {"q": [text]}, against={"r": previous}).judged()
    assert (judged["q#0"]["survivor"], judged["q#0"]["survivor_run"]) == ("p#1", "r")
    assert 0.9 < judged["q#0"]["similarity"] < 1.0


def test_a_document_that_is_dropped_for_a_previous_run_drops_no_other() -> None:
    """A of a previous run matches B and B matches C, but not A and C: B is dropped for A, so C is kept, for itself alone."""
    words = [f"w{number}" for number in range(800)]
    texts = [" ".join(words[:600]), " ".join(words[50:640]), " ".join(words[100:680])]
    all_pairs: dict[str, Any] = {"bands": 128, "rows": 1, "similarity": 0.84}
    previous = MemoryRun(Deduplicate(**all_pairs), {"a": texts[:1]})
    run = MemoryRun(Deduplicate(**all_pairs, against=["r"]), {"b": texts[1:]}, against={"r": previous})
    alone = MemoryRun(Deduplicate(**all_pairs), {"b": texts[1:]})
    assert [verdict["fate"] for verdict in alone.judged().values()] == [KEPT, DROPPED]
    assert [(v["fate"], v["copies"]) for v in run.judged().values()] == [(DROPPED, None), (KEPT, 1)]


def test_nothing_depends_on_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = planted()
    previous = MemoryRun(Deduplicate(), cut(texts[::2], 3))
    plain = MemoryRun(Deduplicate(against=["r"]), cut(texts, 4), against={"r": previous}).judged()
    assert sum(verdict["rule"] == "deduplicate.previous_run" for verdict in plain.values()) > 50
    monkeypatch.setattr(limits, "RANGE_DOCUMENTS", 20)
    monkeypatch.setattr(limits, "MOST_PAIRS", 5)
    bounded = MemoryRun(
        Deduplicate(against=["r"]),
        cut(texts, 4),
        against={"r": previous},
        order=lambda tasks: tasks[::-1],
        batch_rows=3,
    )
    assert len(bounded.done["against"]) > 14 * 5
    assert bounded.judged() == plain


def test_candidates_as_they_are() -> None:
    generator = random.Random(2)
    half = random_text(generator, 60)
    one, other = (f"{half} {random_text(generator, 60)}" for _ in range(2))
    settings: dict[str, Any] = {"bands": 128, "rows": 1, "against": ["r"]}
    previous = MemoryRun(Deduplicate(bands=128, rows=1), {"p": [one]})
    verified = MemoryRun(Deduplicate(**settings), {"p": [other]}, against={"r": previous}).judged()["p#0"]
    raw = MemoryRun(Deduplicate(verify=False, **settings), {"p": [other]}, against={"r": previous}).judged()["p#0"]
    assert verified["fate"] == KEPT
    assert (raw["rule"], raw["similarity"], raw["survivor"]) == ("deduplicate.previous_run", None, "p#0")


def test_sketches_estimate_the_similarity_within_their_error() -> None:
    """Li and Koenig 2010, theorem 1 for b = 8: the error's standard deviation is that of a binomial share."""
    generator = random.Random(6)
    texts, others = [], []
    for number in range(200):
        text = random_text(generator, 400)
        texts.append(text)
        others.append(edited(generator, text, number % 40))
    values = [signatures(*shingles(pa.array(some), 5)[:2], 112, 1) for some in (texts, others)]
    tables = [pa.table({"position": pa.array(range(200), pa.int32()), "sketch": sketches(v)}) for v in values]
    everyone = np.arange(200)
    estimate = estimated_similarity(*(sketches_at(table, everyone) for table in tables))
    sets = [
        [set(part.tolist()) for part in np.split(hashes, bounds[1:-1])]
        for hashes, bounds in (shingle_sets(pa.array(some), 5) for some in (texts, others))
    ]
    true = np.array([len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)])
    agree = CHANCE + (1 - CHANCE) * true
    deviation = np.sqrt(agree * (1 - agree) / 112) / (1 - CHANCE)
    assert np.all(estimate[true == 1] == 1)
    scores = (estimate - true)[true < 1] / deviation[true < 1]
    assert abs(scores.mean()) < 4 / np.sqrt(len(scores))
    assert 0.8 < scores.std() < 1.25


@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 5), max_size=30), st.integers(1, 4))
def test_shared_keys_are_all_pairs_up_to_the_bound(mine: list[int], theirs: list[int], peers: int) -> None:
    numbers = np.arange(len(theirs))[::-1].copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenmill.stages.dedup.previous_runs.PEERS", peers)
        rows, places = shared_keys(np.array(mine, np.uint64), np.array(theirs, np.uint64), numbers)
    expected = {
        (row, place)
        for row, key in enumerate(mine)
        for place in sorted((p for p in range(len(theirs)) if theirs[p] == key), key=lambda p: numbers[p])[:peers]
    }
    assert set(zip(rows.tolist(), places.tolist(), strict=True)) == expected
    assert len(rows) == len(expected)
    assert PEERS == 64


def test_compared_reads_each_partition_of_a_previous_run_once() -> None:
    values = np.arange(6 * 112, dtype=np.uint32).reshape(6, 112)
    tables = [
        pa.table({"position": pa.array([0, 2], pa.int32()), "sketch": sketches(values[:2])}),
        pa.table({"position": pa.array([1], pa.int32()), "sketch": sketches(values[2:3])}),
    ]
    read: list[int] = []

    def theirs(part: int) -> pa.Table:
        read.append(part)
        return tables[part]

    mine = values.astype(np.uint8)
    documents, previous = np.array([0, 1, 2, 1]), np.array([0, 2, 4, 0])
    similarity = compared(documents, previous, lambda chosen: mine[chosen], theirs, np.array([0, 3, 5]))
    assert similarity.tolist() == [1, 1, 1, estimated_similarity(mine[1:2], mine[:1])[0]]
    assert read == [0, 1]
