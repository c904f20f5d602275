"""What a training run records of its loader, and the steps that are computed from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.model.datasets import documents, write_dataset
from tokenmill.model.data.data_log import DATA_LOG_FILE, record_steps, samples_of_step
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.data.mixture import Mixture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lengths = np.random.default_rng(1).integers(2, 60, 200).tolist()
    return write_dataset(tmp_path / "data", {"train": [documents(lengths[:120]), documents(lengths[120:], seed=1)]})


def test_steps_are_what_the_ranks_were_given(folder: Path, tmp_path: Path) -> None:
    """Two ranks with two accumulated batches a step, then three ranks with one."""
    given: list[list[int]] = []
    state = None
    for ranks, accumulated, steps in ((2, 2, 5), (3, 1, 4)):
        streams = [
            TokenDataset(folder, context_length=32, batch_size=3, seed=7, rank=r, world_size=ranks)
            for r in range(ranks)
        ]
        for stream in streams:
            if state is not None:
                stream.load_state_dict(state)
        record_steps(tmp_path, streams[0], len(given), 3 * ranks * accumulated)
        iterators = [iter(stream) for stream in streams]
        for _ in range(steps):
            taken: list[int] = []
            for _ in range(accumulated):
                for iterator in iterators:
                    taken += next(iterator).samples.tolist()
            given.append(taken)
        state = streams[0].state_dict()
    for step, expected in enumerate(given):
        found, samples = samples_of_step(tmp_path, step)
        assert samples.tolist() == expected
        straight = TokenDataset(folder, context_length=32, seed=7)
        assert np.array_equal(found.read(samples).inputs, straight.read(samples).inputs)


def test_a_resumed_run_forgets_what_came_after(folder: Path, tmp_path: Path) -> None:
    stream = TokenDataset(folder, context_length=32)
    record_steps(tmp_path, stream, 0, 8)
    stream.samples = 800
    record_steps(tmp_path, stream, 100, 16)
    stream.samples = 400
    record_steps(tmp_path, stream, 50, 4)  # a checkpoint before the last start
    assert samples_of_step(tmp_path, 49)[1].tolist() == list(range(392, 400))
    assert samples_of_step(tmp_path, 51)[1].tolist() == list(range(404, 408))
    assert samples_of_step(tmp_path, 101)[1].tolist() == list(range(604, 608))


def test_mixtures(folder: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", {"train": [documents([40] * 30, seed=5)]})
    mixture = Mixture(
        [TokenDataset(folder, context_length=16), TokenDataset(other, context_length=16, seed=3)], [0.7, 0.3], seed=9
    )
    record_steps(tmp_path, mixture, 0, 64)
    stream, samples = samples_of_step(tmp_path, 3)
    assert samples.tolist() == list(range(192, 256))
    assert np.array_equal(stream.read(samples).inputs, mixture.read(samples).inputs)


def test_other_data_is_refused(folder: Path, tmp_path: Path) -> None:
    stream = TokenDataset(folder, context_length=32)
    record_steps(tmp_path, stream, 0, 8)
    with pytest.raises(ValueError, match="is of other samples"):
        record_steps(tmp_path, TokenDataset(folder, context_length=16), 1, 8)
    moved = folder.with_name("moved")
    shutil.copytree(folder, moved)
    record_steps(tmp_path, TokenDataset(moved, context_length=32), 1, 8)
    shutil.rmtree(moved)
    write_dataset(moved, {"train": [documents([30] * 40, seed=8)]})
    with pytest.raises(ValueError, match="is not the dataset that the run was trained on"):
        samples_of_step(tmp_path, 1)


def test_files_that_are_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not there; give the folder of a training run"):
        samples_of_step(tmp_path, 0)
    (tmp_path / DATA_LOG_FILE).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        samples_of_step(tmp_path, 0)
    (tmp_path / DATA_LOG_FILE).write_text(json.dumps({"version": 9}))
    with pytest.raises(ValueError, match="is not a data log of version 1"):
        samples_of_step(tmp_path, 0)
    (tmp_path / DATA_LOG_FILE).unlink()
    record_steps(tmp_path, TokenDataset(folder, context_length=32), 10, 8)
    with pytest.raises(ValueError, match="began with step 10, so it has no step 9"):
        samples_of_step(tmp_path, 9)
