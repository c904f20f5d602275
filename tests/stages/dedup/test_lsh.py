"""Candidate pairs against all pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stages.dedup.lsh import (
    MOST_PRIORITY,
    PEERS,
    distinct,
    exact_pairs,
    near_pairs,
    numbers_of,
    ranks_of,
    rows_of_shared_keys,
)

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 3)), max_size=60)


@given(st.lists(st.tuples(st.integers(0, 2**36 - 1), st.integers(0, 2**40)), max_size=30, unique_by=lambda row: row[0]))
def test_ranks_order_by_length_and_then_by_number(documents: list[tuple[int, int]]) -> None:
    numbers = np.array([number for number, _ in documents], np.int64)
    ranks = ranks_of(numbers, np.array([length for _, length in documents], np.int64))
    assert (ranks >= 0).all()
    assert (numbers_of(ranks) == numbers).all()
    expected = sorted(
        range(len(documents)), key=lambda row: (-min(documents[row][1], MOST_PRIORITY), documents[row][0])
    )
    assert np.argsort(ranks).tolist() == expected


@given(st.lists(st.integers(0, 12), max_size=30))
def test_rows_of_shared_keys(keys: list[int]) -> None:
    found = rows_of_shared_keys(np.array(keys, np.uint64))
    assert found.tolist() == [row for row, key in enumerate(keys) if keys.count(key) > 1]


@given(ROWS)
def test_exact_pairs_lead_to_the_best_of_the_same_digest(rows: list[tuple[int, int, int]]) -> None:
    low, high = (np.array([row[side] for row in rows], np.uint64) for side in (0, 1))
    ranks = ranks_of(np.arange(len(rows)), np.array([row[2] for row in rows], np.int64))
    losers, winners = exact_pairs(low, high, ranks)
    expected = {}
    for row, rank in enumerate(ranks.tolist()):
        best = min(ranks[other] for other in range(len(rows)) if rows[other][:2] == rows[row][:2])
        if best != rank:
            expected[rank] = best
    assert dict(zip(losers.tolist(), winners.tolist(), strict=True)) == expected
    assert len(losers) == len(expected)


@given(ROWS)
def test_near_pairs_are_all_pairs_of_different_texts_in_a_bucket(rows: list[tuple[int, int, int]]) -> None:
    keys, digests = (np.array([row[side] for row in rows], np.uint64) for side in (0, 1))
    ranks = ranks_of(np.arange(len(rows)), np.array([row[2] for row in rows], np.int64))
    losers, winners, involved, sizes = near_pairs(keys, digests, ranks)
    best: dict[tuple[int, int], int] = {}
    for row, rank in enumerate(ranks.tolist()):
        best[rows[row][:2]] = min(rank, best.get(rows[row][:2], rank))
    expected = {(a, b) for one, a in best.items() for other, b in best.items() if one[0] == other[0] and a > b}
    found = list(zip(losers.tolist(), winners.tolist(), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected)
    assert set(involved.tolist()) == {rank for pair in expected for rank in pair}
    assert int(sizes.sum()) == len(involved)


def test_work_in_a_large_bucket_grows_with_its_documents() -> None:
    count = 40 * PEERS
    ranks = np.random.default_rng(1).permutation(count)
    losers, winners, _, sizes = near_pairs(np.zeros(count, np.uint64), np.arange(count, dtype=np.uint64), ranks)
    assert sizes.tolist() == [count]
    assert set(losers.tolist()) == set(range(1, count))
    for loser in (1, PEERS, PEERS + 1, count - 1):
        assert sorted(winners[losers == loser].tolist()) == list(range(min(loser, PEERS)))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_distinct_pairs(pairs: list[tuple[int, int]]) -> None:
    losers, winners = distinct(*(np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1)))
    assert list(zip(losers.tolist(), winners.tolist(), strict=True)) == sorted(set(pairs))
