"""Bands that agree in duplicates: theory by counting, and measurements on planted pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stages.dedup.agreement import Agreement, agreeing_bands
from tokenmill.stages.dedup.minhash import band_keys, match_probability, signatures


@given(similarity=st.floats(0.05, 1), bands=st.integers(1, 40), rows=st.integers(1, 12))
def test_theory_is_the_binomial_given_one(similarity: float, bands: int, rows: int) -> None:
    chance = similarity**rows
    weights = [math.comb(bands, k) * chance**k * (1 - chance) ** (bands - k) for k in range(1, bands + 1)]
    mean = sum(k * weight for k, weight in enumerate(weights, 1)) / sum(weights)
    variance = sum((k - mean) ** 2 * weight for k, weight in enumerate(weights, 1)) / sum(weights)
    found = agreeing_bands(np.array([similarity]), bands, rows)
    assert found[0][0] == pytest.approx(mean, rel=1e-6)
    assert found[1][0] == pytest.approx(variance, rel=1e-5, abs=1e-6)


def planted(similarity: float, pairs: int, bands: int, rows: int) -> Agreement:
    """Pairs of random sets of 300 shingles whose Jaccard similarity is about as asked, those found by a band."""
    random = np.random.default_rng(round(similarity * 1000))
    shared = round(300 * 2 * similarity / (1 + similarity))
    sets, exact = [], shared / (600 - shared)
    for _ in range(pairs):
        drawn = random.choice(2**32, 600 - shared, replace=False).astype(np.uint32)
        sets += [drawn[:300], np.concatenate([drawn[:shared], drawn[300:]])]
    bounds = np.arange(0, 300 * len(sets) + 1, 300)
    keys = band_keys(signatures(np.concatenate(sets), bounds, bands * rows, 1), bands, rows)
    agrees = (keys[:, ::2] == keys[:, 1::2]).T
    found = agrees.any(axis=1)
    chance = match_probability(exact, bands, rows)
    assert abs(found.mean() - chance) <= 4 * math.sqrt(chance * (1 - chance) / pairs) + 1e-12
    return Agreement(rows, np.full(int(found.sum()), exact), agrees[found])


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 5), (1, 3)])
@pytest.mark.parametrize("similarity", [0.6, 0.75, 0.85, 0.95, 1.0])
def test_planted_pairs_lie_in_the_binomial_band(similarity: float, bands: int, rows: int) -> None:
    measured = planted(similarity, 600, bands, rows)
    whole = measured.all()
    mean, variance = agreeing_bands(measured.similarity, bands, rows)
    assert abs(whole.agreeing - mean[0]) <= 4 * math.sqrt(variance[0] / whole.pairs) + 1e-9
    assert whole.expected == pytest.approx(mean[0])
    (alone,) = measured.bins()
    assert alone.pairs == whole.pairs
    assert alone.similarity == pytest.approx(measured.similarity[0])


def test_pairs_that_are_one_pair_many_times_have_the_error_of_one() -> None:
    one = planted(0.85, 1, 14, 8)
    many = Agreement(8, np.repeat(one.similarity, 400), np.repeat(one.agrees, 400, axis=0))
    assert many.all().agreeing == one.all().agreeing
    assert many.all().error > 0.8 * one.all().error
    assert planted(0.85, 400, 14, 8).all().error < 0.15 * one.all().error
