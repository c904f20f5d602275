"""Clusters of duplicates against rules that a person can check."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stages.dedup.clusters import (
    EXACT,
    NEAR,
    NO_RULE,
    NO_SURVIVOR,
    DuplicateFates,
    PartitionFates,
    bounded_ranges,
    exact_fates,
    joined,
    sweep,
    with_copies,
)


@given(st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
def test_a_document_is_dropped_exactly_if_one_that_it_matches_is_kept(edges: set[tuple[int, int]]) -> None:
    pairs = sorted({(max(edge), min(edge)) for edge in edges if edge[0] != edge[1]})
    losers, winners = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    dropped = np.zeros(12, np.uint8)
    middle = len(pairs) // 2
    while 0 < middle < len(pairs) and losers[middle] == losers[middle - 1]:
        middle += 1
    sweep(losers[:middle], winners[:middle], dropped)
    sweep(losers[middle:], winners[middle:], dropped)
    for document in range(12):
        assert dropped[document] == any(loser == document and not dropped[winner] for loser, winner in pairs)


@given(st.lists(st.lists(st.integers(0, 99), max_size=40), max_size=4), st.integers(1, 20))
def test_ranges_are_as_small_as_told_and_leave_nothing_out(values: list[list[int]], most: int) -> None:
    runs = [np.array(sorted(run), np.int64) for run in values]
    pieces = list(bounded_ranges(runs, 0, 100, most))
    assert [low for low, _ in pieces] == [0, *(high for _, high in pieces[:-1])]
    assert pieces[-1][1] == 100
    for low, high in pieces:
        assert high - low == 1 or sum(low <= value < high for run in values for value in run) <= most


def test_fates_of_exact_duplicates() -> None:
    fates = exact_fates(np.array([7, 3, 9]), np.array([5, 5, 1]))
    assert fates.document.tolist() == [1, 3, 5, 7, 9]
    assert fates.survivor.tolist() == [NO_SURVIVOR, 5, NO_SURVIVOR, 5, 1]
    assert fates.rule.tolist() == [NO_RULE, EXACT, NO_RULE, EXACT, EXACT]
    assert fates.copies.tolist() == [1, 0, 2, 0, 0]
    assert DuplicateFates.of(fates.table()).find(np.array([3, 4, 10]))[1].tolist() == [True, False, False]


def test_copies_of_a_near_duplicate_are_dropped_with_it() -> None:
    """12 is like 4, and 11 and 13 are the same as 12."""
    exact = exact_fates(np.array([11, 13]), np.array([12, 12]))
    near = [np.array([12]), np.array([4]), np.array([0.9], np.float32), np.array([NEAR], np.uint8), np.array([0])]
    fates = with_copies(DuplicateFates(*near), np.array([1 + 2]))
    partition = PartitionFates(10, 5)
    for known in (exact, fates):
        partition.add(known)
    partition.follow(fates, 0, 20)
    assert partition.rule.tolist() == [NO_RULE, NEAR, NEAR, NEAR, NO_RULE]
    assert partition.survivor.tolist() == [NO_SURVIVOR, 4, 4, 4, NO_SURVIVOR]
    assert np.allclose(partition.similarity[1:4], 0.9)
    first = PartitionFates(0, 10)
    first.add(fates)
    assert first.copies.tolist() == [1, 1, 1, 1, 4, 1, 1, 1, 1, 1]


def test_no_fates() -> None:
    assert len(joined([]).document) == 0
    empty = with_copies(joined([]), np.empty(0, np.int64))
    assert empty.table().num_rows == 0
    assert empty.find(np.array([1]))[1].tolist() == [False]
