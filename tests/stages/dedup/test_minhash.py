"""MinHash signatures against datasketch, and bands against their curve."""

from __future__ import annotations

import gzip
import json
import random
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.stages.dedup.minhash import band_keys, choose_bands, match_probability, signatures
from tokenmill.stages.text.shingles import shingle_sets, shingles


@given(
    st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=40), min_size=1, max_size=5),
    st.integers(1, 130),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_signatures_are_those_of_datasketch(documents: list[list[int]], count: int, seed: int) -> None:
    bounds = np.cumsum([0, *map(len, documents)])
    mine = signatures(np.array(list(chain.from_iterable(documents)), np.uint32), bounds, count, seed)
    for row, hashes in enumerate(documents):
        oracle = MinHash(num_perm=count, seed=seed, scheme="affine32", hashfunc=lambda value: value)
        oracle.update_batch(hashes)
        assert np.array_equal(mine[row], oracle.hashvalues)


@given(st.integers(1, 20), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_a_key_is_of_its_bands_values_alone(bands: int, rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2**32, (2, bands * rows), dtype=np.uint32)
    values[1] = values[0]
    changed = seed % (bands * rows)
    values[1, changed] ^= 1
    keys = band_keys(values, bands, rows)
    assert keys.shape == (bands, 2)
    assert np.flatnonzero(keys[:, 0] != keys[:, 1]).tolist() == [changed // rows]


def test_bands_are_chosen_by_the_curve() -> None:
    assert choose_bands(0.8) == (14, 8)
    for similarity in (0.3, 0.5, 0.7, 0.9, 0.95, 1.0):
        bands, rows = choose_bands(similarity)
        assert match_probability(similarity, bands, rows) >= 0.92
        assert bands * rows <= 128


def lies_on_the_curve(similarities: npt.NDArray[np.float64], found: int) -> bool:
    """Whether so many of the pairs may have been found: within 99 % of the sum of their Bernoulli variables."""
    chances = np.array([match_probability(float(similarity), 14, 8) for similarity in similarities])
    return bool(abs(found - chances.sum()) <= 2.576 * np.sqrt((chances * (1 - chances)).sum()) + 0.5)


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
def test_find_rate_of_random_sets_lies_on_the_curve(similarity: float) -> None:
    generator = np.random.default_rng(7)
    pairs, size = 1500, 200
    shared = round(2 * size * similarity / (1 + similarity))
    numbers = generator.integers(0, 2**32, (pairs, 2 * size - shared), dtype=np.uint32)
    sides = np.concatenate([numbers[:, :size], np.concatenate([numbers[:, :shared], numbers[:, size:]], axis=1)])
    bounds = np.arange(0, 2 * pairs * size + 1, size)
    keys = band_keys(signatures(sides.ravel(), bounds, 112, 1), 14, 8)
    found = int((keys[:, :pairs] == keys[:, pairs:]).any(axis=0).sum())
    assert lies_on_the_curve(np.full(pairs, shared / (2 * size - shared)), found)


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_find_rate_of_edited_real_texts_lies_on_the_curve(shared_data: Path, similarity: float) -> None:
    with gzip.open(shared_data / "text.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"][:4000] for line, _ in zip(lines, range(1200), strict=False)]
    texts = [text for text in dict.fromkeys(texts) if len(text.split()) > 100]
    generator = random.Random(11)
    edited = []
    for text in texts:
        words = text.split()
        # one foreign word spoils five shingles on either side
        for place in range(len(words)):
            if generator.random() < (1 - similarity) / (1 + similarity) / 5:
                words[place] = f"foreign{generator.randrange(10**9)}"
        edited.append(" ".join(words))
    both = pa.array(texts + edited)
    hashes, bounds, _ = shingles(both, 5)
    keys = band_keys(signatures(hashes, bounds, 112, 1), 14, 8)
    found = (keys[:, : len(texts)] == keys[:, len(texts) :]).any(axis=0)
    values, starts = shingle_sets(both, 5)
    sets = [set(values[starts[row] : starts[row + 1]].tolist()) for row in range(len(both))]
    pairs = zip(sets[: len(texts)], sets[len(texts) :], strict=True)
    assert lies_on_the_curve(np.array([len(a & b) / len(a | b) for a, b in pairs]), int(found.sum()))
