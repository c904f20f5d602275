"""Best-fit packing against the algorithm written out naively."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.model.data.packing import best_fit_decreasing, pack


def naive_rooms(sizes: list[int], capacity: int) -> list[int]:
    """Room left in each bin by best-fit decreasing, one item at a time, sorted."""
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [room for room in rooms if room >= size]
        room = min(fitting, default=capacity)
        if fitting:
            rooms.remove(room)
        rooms.append(room - size)
    return sorted(rooms)


@given(
    st.integers(1, 60).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), min_size=1, max_size=200)))
)
def test_bins_are_those_of_the_naive_algorithm(case: tuple[int, list[int]]) -> None:
    capacity, sizes = case
    bins = best_fit_decreasing(np.array(sizes, np.int32), capacity)
    assert sorted((capacity - np.bincount(bins, sizes)).tolist()) == naive_rooms(sizes, capacity)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=100), st.integers(1, 40))
def test_every_token_is_in_one_piece_and_cuts_are_where_they_must_be(lengths: list[int], window: int) -> None:
    packing = pack(np.array(lengths, np.int32), window)
    held = np.concatenate([np.arange(s, s + n) for s, n in zip(packing.starts, packing.lengths, strict=True)])
    assert np.array_equal(np.sort(held), np.arange(sum(lengths)))
    assert np.add.reduceat(packing.lengths, packing.first[:-1]).max() <= window
    assert packing.cut == sum(length > window for length in lengths)
    assert len(packing.starts) == sum(-(-length // window) for length in lengths)
