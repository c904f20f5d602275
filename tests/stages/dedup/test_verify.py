"""Verification against Python's sets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stages.dedup.clusters import CONTAINED, NEAR, NO_RULE
from tokenmill.stages.dedup.verify import CONTAINED_SHINGLES, Verifier, verify

SHINGLES = st.sets(st.integers(0, 40), min_size=1, max_size=30)


@given(st.lists(SHINGLES, min_size=2, max_size=14), st.data())
def test_counts_are_those_of_sets_wherever_they_lie(sets: list[set[int]], data: st.DataObject) -> None:
    count = len(sets)
    gaps = data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    numbers = np.cumsum(gaps)
    ends = sorted(data.draw(st.sets(st.integers(0, count), max_size=4)) | {0, count})
    bases = [0, *(int(numbers[end - 1]) + 1 for end in ends[1:])]
    tables = []
    for part, (begin, end) in enumerate(pairwise(ends)):
        lists = [sorted(sets[row]) for row in range(begin, end)]
        positions = pa.array(numbers[begin:end] - bases[part], pa.int32())
        table = pa.table({"position": positions, "shingles": pa.array(lists, pa.list_(pa.uint32()))})
        rows = data.draw(st.integers(1, 5))
        copied = [batch.take(pa.array(range(batch.num_rows))) for batch in table.to_batches(max_chunksize=rows)]
        tables.append(pa.Table.from_batches(copied, table.schema))
    first = data.draw(st.integers(0, len(tables) - 1))
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=30))
    losers, winners = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    verifier = Verifier(tables.__getitem__, np.array(bases), first, len(tables))
    shared, loser_sizes, winner_sizes = verifier.compare(numbers[losers], numbers[winners])
    assert shared.tolist() == [len(sets[a] & sets[b]) for a, b in pairs]
    assert loser_sizes.tolist() == [len(sets[a]) for a, _ in pairs]
    assert winner_sizes.tolist() == [len(sets[b]) for _, b in pairs]


def rule_of(shared: int, loser: int, winner: int) -> int:
    _, rules = verify(np.array([shared]), np.array([loser]), np.array([winner]), 0.8)
    return int(rules[0])


def test_a_pair_at_the_threshold_is_one() -> None:
    assert rule_of(80, 90, 90) == NEAR
    assert rule_of(80, 90, 91) == NO_RULE


def test_only_the_loser_can_be_contained_and_only_if_it_says_something() -> None:
    assert rule_of(CONTAINED_SHINGLES, CONTAINED_SHINGLES, 500) == CONTAINED
    assert rule_of(CONTAINED_SHINGLES - 1, CONTAINED_SHINGLES - 1, 500) == NO_RULE
    assert rule_of(100, 500, 100) == NO_RULE
    assert rule_of(99, 100, 500) == NO_RULE
    assert rule_of(1, 1, 1) == NEAR
    assert rule_of(0, 0, 0) == NO_RULE
