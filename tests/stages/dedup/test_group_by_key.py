"""Rows with the same key side by side, against numpy's sorts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stages.dedup.group_by_key import FEW, grouped, sorted_groups


def check(keys: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    order, ordered = grouped(keys)
    assert np.array_equal(np.sort(order), np.arange(len(keys)))
    assert np.array_equal(keys[order], ordered)
    assert (ordered[1:] != ordered[:-1]).sum() == max(len(np.unique(keys)) - 1, 0)
    order, ordered = sorted_groups(keys, first, second)
    assert np.array_equal(keys[order], ordered)
    expected = np.lexsort((second, first, keys))
    back = np.argsort(ordered, kind="stable")
    assert np.array_equal(first[order[back]], first[expected])
    assert np.array_equal(second[order[back]], second[expected])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 99)), max_size=200))
def test_small_ones(rows: list[tuple[int, int, int]]) -> None:
    columns = [np.array([row[place] for row in rows], np.int64) for place in range(3)]
    check(columns[0].astype(np.uint64) << np.uint64(40), columns[1], columns[2])


@pytest.mark.parametrize("distinct", [5, 3000, 10**9])
@pytest.mark.parametrize("shift", [0, 30])
def test_large_ones(distinct: int, shift: int) -> None:
    """Keys of many rows each, of some, of one; uniform, and with their lowest bits all the same."""
    random = np.random.default_rng(1)
    keys = random.integers(0, distinct, 60_000).astype(np.uint64) << np.uint64(shift)
    assert 60_000 // 3000 < FEW < 60_000 // 5
    check(keys, random.integers(0, 50, 60_000), random.permutation(60_000))
