"""Mixtures: shares that hold all along, each dataset in its own order, exact resume."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.datasets import documents, write_dataset
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.data.mixture import Mixture


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("mixture")
    return [
        write_dataset(place / str(number), {"train": [documents(lengths, seed=number)]})
        for number, lengths in enumerate([[300, 40], [90, 90, 90], [64]])
    ]


def mixed(folders: list[Path], weights: list[float], seed: int = 0, **changes: Any) -> Mixture:
    datasets = [TokenDataset(folder, "train", 16, documents=True) for folder in folders[: len(weights)]]
    return Mixture(datasets, weights, seed=seed, **changes)


@given(
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=3), seed=st.integers(0, 5), first=st.integers(0, 10**9)
)
@settings(max_examples=40)
def test_shares_hold_and_no_sample_of_a_dataset_is_skipped_or_repeated(
    folders: list[Path], weights: list[float], seed: int, first: int
) -> None:
    mixture = mixed(folders, weights, seed)
    first -= first % mixture.block
    count = 4 * mixture.block
    dataset, numbers = mixture.numbers_in(np.arange(first, first + count))
    for number, weight in enumerate(weights):
        mine = np.sort(numbers[dataset == number])
        assert np.array_equal(mine, np.arange(mine[0], mine[0] + len(mine)))
        share = weight / sum(weights)
        assert abs(len(mine) - share * count) <= 2
        assert abs(mine[0] - share * first) <= 2


def test_samples_are_those_of_the_datasets(folders: list[Path]) -> None:
    mixture = mixed(folders, [3, 1, 2])
    samples = np.arange(1000, 1100)
    batch = mixture.read(samples)
    dataset, numbers = mixture.numbers_in(samples)
    sources = mixture.documents_in(samples)
    assert set(dataset.tolist()) == {0, 1, 2}
    for row, (which, number) in enumerate(zip(dataset.tolist(), numbers.tolist(), strict=True)):
        member = mixture.datasets[which]
        expected = member.read(np.array([number]))
        assert np.array_equal(batch.inputs[row], expected.inputs[0])
        assert np.array_equal(batch.targets[row], expected.targets[0])
        assert np.array_equal(batch.positions[row], expected.positions[0])
        alone, mine = member.documents_in(np.array([number])), sources.rows == row
        assert (sources.datasets[mine] == which).all()
        assert np.array_equal(sources.documents[mine], alone.documents)
        assert np.array_equal(sources.tokens[mine], alone.tokens)


def test_resuming_goes_on_and_progress_is_what_was_taken(folders: list[Path]) -> None:
    whole, stopped = mixed(folders, [3, 1, 2], batch_size=7), mixed(folders, [3, 1, 2], batch_size=7)
    batches = list(islice(whole, 60))
    list(islice(stopped, 40))
    state = json.loads(json.dumps(stopped.state_dict()))
    ranks = []
    for rank in range(7):
        resumed = mixed(folders, [3, 1, 2], batch_size=1, rank=rank, world_size=7)
        resumed.load_state_dict(state)
        ranks.append(list(islice(resumed, 20)))
    for number, batch in enumerate(batches[40:]):
        assert np.array_equal(np.concatenate([rank[number].inputs for rank in ranks]), batch.inputs)
    taken = np.bincount(whole.numbers_in(np.arange(420))[0], minlength=3)
    progress = whole.progress()
    assert [entry.samples for entry in progress] == taken.tolist()
    assert [entry.epochs for entry in progress] == [
        count / member.windows for count, member in zip(taken.tolist(), whole.datasets, strict=True)
    ]


def test_a_state_of_another_mixture_is_refused(folders: list[Path]) -> None:
    state = mixed(folders, [3, 1, 2]).state_dict()
    with pytest.raises(ValueError, match="weights was"):
        mixed(folders, [3, 2, 1]).load_state_dict(state)


def test_datasets_that_do_not_fit_are_refused(folders: list[Path], tmp_path: Path) -> None:
    one = TokenDataset(folders[0], "train", 16)
    other = TokenDataset(write_dataset(tmp_path / "d", {"train": [documents([99])]}, tokenizer=b"[]"), "train", 16)
    with pytest.raises(ValueError, match="different tokenizers"):
        Mixture([one, other], [1, 1])
    with pytest.raises(ValueError, match="different `context_length`"):
        Mixture([one, TokenDataset(folders[1], "train", 8)], [1, 1])
    with pytest.raises(ValueError, match="a weight above 0"):
        Mixture([one], [0])
