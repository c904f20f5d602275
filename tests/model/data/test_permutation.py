"""Keyed permutations: bijections at every size, all orders about equally often, the same on every machine."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.model.data.permutation import key_of, keys_for, permute


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**40))
def test_every_index_goes_to_a_place_of_its_own(size: int, key: int, epoch: int) -> None:
    places = permute(np.arange(size), size, keys_for(key, np.full(size, epoch)))
    assert np.array_equal(np.sort(places), np.arange(size))


@given(size=st.integers(1, 2**60), data=st.data())
def test_any_size_without_memory(size: int, data: st.DataObject) -> None:
    indices = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=30, unique=True)))
    keys = keys_for(5, np.zeros(len(indices), np.int64))
    places = permute(indices, size, keys)
    assert places.min() >= 0 and places.max() < size
    assert len(np.unique(places)) == len(indices)
    alone = [int(permute(indices[i : i + 1], size, keys[i : i + 1])[0]) for i in range(len(indices))]
    assert places.tolist() == alone


def test_all_orders_of_four_come_about_equally_often() -> None:
    trials = 24_000
    keys = keys_for(key_of("orders"), np.repeat(np.arange(trials), 4))
    orders = permute(np.tile(np.arange(4), trials), 4, keys).reshape(trials, 4)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 0.8 * trials / 24
    assert counts.max() < 1.25 * trials / 24


def test_neighbours_do_not_stay_neighbours() -> None:
    size = 100_003
    places = permute(np.arange(size), size, keys_for(1, np.zeros(size, np.int64)))
    others = permute(np.arange(size), size, keys_for(1, np.ones(size, np.int64)))
    uniform = size / 3  # mean distance of two random places
    assert abs(np.abs(np.diff(places)).mean() / uniform - 1) < 0.02
    assert abs(np.corrcoef(np.arange(size), places)[0, 1]) < 0.02
    assert abs(np.corrcoef(places, others)[0, 1]) < 0.02


def test_the_order_never_changes() -> None:
    """A run must resume under later versions: these numbers are part of the format."""
    assert key_of("fingerprint", "train", 0) == KEY
    assert permute(np.arange(8), 1000, keys_for(KEY, np.zeros(8, np.int64))).tolist() == PLACES


KEY = 0x9BD8E20C1CC0402C
PLACES = [234, 179, 567, 200, 497, 542, 439, 578]
