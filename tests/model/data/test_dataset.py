"""The loader: every token once, at any rank count, resumed anywhere; documents, packing, coverage, refusals."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenmill
from tests.model.datasets import END, documents, ring, write_dataset
from tests.paths import ROOT
from tokenmill.model.data import sampler as stream
from tokenmill.model.data.batch import IGNORED, Batch
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.data.mmap_shards import MappedShards

shards_of_lengths = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=4)
settings.register_profile("loader", max_examples=30)
every_mode = pytest.mark.parametrize(
    ("order", "packing"),
    [("random", "none"), ("sequential", "none"), ("random", "best_fit"), ("sequential", "best_fit")],
)


def counted_up(lengths: list[list[int]]) -> list[list[Any]]:
    """Shards of documents in which every token has an id of its own, but for the ends."""
    flat = documents([length for shard in lengths for length in shard])
    number = 1
    for document in flat:
        document[:-1] = np.arange(number, number + len(document) - 1)
        number += len(document)
    held = iter(flat)
    return [[next(held) for _ in shard] for shard in lengths]


def counted_targets(batches: Iterable[Batch]) -> Any:
    """All targets that count, in order."""
    rows = [
        row[:count] for batch in batches for row, count in zip(batch.targets, batch.target_counts.tolist(), strict=True)
    ]
    return np.concatenate([np.empty(0, int), *rows])


def same(one: Batch, other: Batch) -> bool:
    return np.array_equal(one.inputs, other.inputs) and np.array_equal(one.targets, other.targets)


@every_mode
@given(lengths=shards_of_lengths, window=st.integers(1, 50), seed=st.integers(0, 9), world=st.integers(1, 3))
@settings(settings.get_profile("loader"))
def test_every_token_is_a_target_once_an_epoch_at_any_rank_count(
    tmp_path_factory: pytest.TempPathFactory,
    order: Any,
    packing: Any,
    lengths: list[list[int]],
    window: int,
    seed: int,
    world: int,
) -> None:
    held = counted_up(lengths)
    tokens = ring(held)
    window = min(window, len(tokens))
    folder = write_dataset(tmp_path_factory.mktemp("d") / "d", {"train": held})

    def opened(rank: int, world_size: int) -> TokenDataset:
        return TokenDataset(
            folder, "train", window, batch_size=2, order=order, packing=packing, seed=seed, epochs=1, prefetch=0,
            rank=rank, world_size=world_size,
        )  # fmt: skip

    alone = list(opened(0, 1))
    coverage = opened(0, 1).coverage()
    seen = counted_targets(alone)
    assert len(seen) == coverage.seen
    assert coverage.seen + coverage.left_out == coverage.tokens == len(tokens)
    assert coverage.left_out == (len(tokens) % window if (order, packing) == ("random", "none") else 0)
    assert sum(len(batch) for batch in alone) * window == coverage.seen + coverage.padded
    texts = seen[seen != END]
    assert len(np.unique(texts)) == len(texts)
    if not coverage.left_out:
        assert np.array_equal(np.sort(seen), np.sort(tokens))
    if (order, packing) == ("sequential", "none"):
        assert np.array_equal(seen, tokens)

    together = [list(opened(rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in together}) == 1
    rows = [row for step in zip(*together, strict=True) for batch in step for row in batch.inputs]
    assert np.array_equal(rows, [row for batch in alone for row in batch.inputs])


@given(lengths=shards_of_lengths, window=st.integers(1, 20), seed=st.integers(0, 9))
@settings(settings.get_profile("loader"))
def test_windows_are_stretches_of_the_ring(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]], window: int, seed: int
) -> None:
    held = counted_up(lengths)
    tokens = ring(held)
    window = min(window, len(tokens))
    folder = write_dataset(tmp_path_factory.mktemp("d") / "d", {"train": held})
    dataset = TokenDataset(folder, "train", window, seed=seed)
    samples = np.arange(3 * dataset.windows)
    batch = dataset.read(samples)
    starts = dataset.locate(samples)
    for start, inputs, targets in zip(starts, batch.inputs, batch.targets, strict=True):
        expected = np.take(tokens, np.arange(start, start + window + 1), mode="wrap")
        assert np.array_equal(inputs, expected[:-1])
        assert np.array_equal(targets, expected[1:])


@every_mode
@given(data=st.data())
@settings(settings.get_profile("loader"))
def test_resuming_anywhere_with_other_batches_and_ranks_goes_on_at_the_same_token(
    tmp_path_factory: pytest.TempPathFactory, order: Any, packing: Any, data: st.DataObject
) -> None:
    held = counted_up([[9, 30, 4], [25, 17]])
    folder = write_dataset(tmp_path_factory.mktemp("d") / "d", {"train": held})
    made: dict[str, Any] = {"order": order, "packing": packing, "prefetch": data.draw(st.sampled_from([0, 3]))}
    stop = data.draw(st.integers(0, 12))
    before = TokenDataset(folder, "train", 8, batch_size=data.draw(st.integers(1, 5)), **made)
    list(islice(before, stop))
    state = json.loads(json.dumps(before.state_dict()))
    assert state["samples"] == stop * before.sharding.batch_size
    world, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    ranks = []
    for rank in range(world):
        after = TokenDataset(folder, "train", 8, batch_size=size, rank=rank, world_size=world, **made)
        after.load_state_dict(state)
        ranks.append(list(islice(after, 3)))
    rows = [row for step in zip(*ranks, strict=True) for batch in step for row in batch.inputs]
    expected = before.read(state["samples"] + np.arange(3 * world * size))
    assert np.array_equal(rows, expected.inputs)


def dataset_of(tmp_path: Path, **changes: Any) -> TokenDataset:
    held = counted_up([[40, 7, 90], [33, 2, 61]])
    folder = tmp_path / "d"
    if not folder.exists():
        write_dataset(folder, {"train": held, "validation": held[:1]})
    return TokenDataset(folder, **{"split": "train", "context_length": 16, "batch_size": 4, **changes})


def test_epochs_and_seeds_differ_and_repeat(tmp_path: Path) -> None:
    one, again, other = dataset_of(tmp_path), dataset_of(tmp_path), dataset_of(tmp_path, seed=1)
    windows = one.windows
    epochs = [np.arange(epoch * windows, (epoch + 1) * windows) for epoch in range(4)]
    assert all(same(one.read(epoch), again.read(epoch)) for epoch in epochs)
    assert len({one.read(epoch).inputs.tobytes() for epoch in epochs}) == 4
    assert len({int(one.locate(epoch).min()) % 16 for epoch in epochs}) > 1, "windows begin elsewhere in other epochs"
    assert not same(one.read(epochs[0]), other.read(epochs[0]))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"context_length": 8}, {"split": "validation"}, {"packing": "best_fit"}]
)
def test_a_state_of_other_samples_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    state = dataset_of(tmp_path).state_dict()
    with pytest.raises(ValueError, match=f"other samples: {next(iter(change))} was"):
        dataset_of(tmp_path, **change).load_state_dict(state)


def test_a_state_of_another_dataset_is_refused(tmp_path: Path) -> None:
    state = dataset_of(tmp_path / "one").state_dict()
    write_dataset(tmp_path / "two", {"train": counted_up([[50]])})
    with pytest.raises(ValueError, match="fingerprint was"):
        TokenDataset(tmp_path / "two", context_length=16).load_state_dict(state)


def test_an_evaluation_can_be_done_again(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, order="sequential", epochs=1)
    first = counted_targets(dataset)
    assert list(dataset) == []
    dataset.rewind()
    assert np.array_equal(counted_targets(dataset), first)


@every_mode
def test_positions_and_lengths_restart_with_every_document(tmp_path: Path, order: Any, packing: Any) -> None:
    dataset = dataset_of(tmp_path, order=order, packing=packing, documents=True)
    batch = dataset.read(np.arange(dataset.windows))
    bounds = batch.cu_seqlens
    assert bounds[0] == 0 and bounds[-1] == batch.inputs.size
    assert (np.diff(bounds) > 0).all()
    assert batch.max_seqlen == np.diff(bounds).max() <= 16
    assert set(range(0, batch.inputs.size, 16)) <= set(bounds.tolist()), "a segment does not cross rows"
    positions = np.concatenate([np.arange(length) for length in np.diff(bounds)])
    assert np.array_equal(batch.positions.ravel(), positions)
    for row, count in enumerate(batch.target_counts.tolist()):
        for column in range(1, count):
            begins = batch.positions[row, column] == 0
            if packing == "none":
                assert begins == (batch.inputs[row, column] == END)
            elif not begins:
                assert batch.inputs[row, column] == batch.targets[row, column - 1]


def test_packing_cuts_only_documents_longer_than_a_window(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, packing="best_fit", context_length=50)
    coverage = dataset.coverage()
    assert (coverage.documents, coverage.cut) == (6, 2)
    sources = dataset.documents_in(np.arange(dataset.windows))
    pieces = np.unique(np.stack([sources.shards, sources.documents]), axis=1, return_counts=True)[1]
    assert pieces.tolist() == [1, 1, 2, 1, 1, 2]
    assert coverage.padded == dataset.windows * 50 - 233


@every_mode
@given(lengths=shards_of_lengths, window=st.integers(1, 30))
@settings(settings.get_profile("loader"))
def test_documents_in_samples_and_cuts_are_those_found_by_looking(
    tmp_path_factory: pytest.TempPathFactory, order: Any, packing: Any, lengths: list[list[int]], window: int
) -> None:
    held = counted_up(lengths)
    window = min(window, len(ring(held)))
    folder = write_dataset(tmp_path_factory.mktemp("d") / "d", {"train": held})
    dataset = TokenDataset(folder, "train", window, order=order, packing=packing)
    samples = np.arange(dataset.windows)
    batch, sources = dataset.read(samples), dataset.documents_in(samples)
    at = [0] * len(samples)
    for row, shard, number, count in zip(
        sources.rows.tolist(), sources.shards.tolist(), sources.documents.tolist(), sources.tokens.tolist(), strict=True
    ):
        found = batch.targets[row, at[row] : at[row] + count]
        assert np.isin(found, held[shard][number]).all()
        assert dataset.shard_name(shard) == f"train-{shard:05d}"
        at[row] += count
    assert at == batch.target_counts.tolist()
    parts: dict[tuple[int, int], list[int]] = {}
    for shard, number, count in zip(sources.shards, sources.documents, sources.tokens, strict=True):
        parts.setdefault((int(shard), int(number)), []).append(int(count))
    whole = sum(any(part == len(held[shard][number]) for part in counts) for (shard, number), counts in parts.items())
    assert dataset.coverage().cut == len(parts) - whole


def test_the_thread_ahead_changes_nothing(tmp_path: Path) -> None:
    ahead, plain = dataset_of(tmp_path, prefetch=4), dataset_of(tmp_path, prefetch=0)
    for one, other in islice(zip(ahead, plain, strict=True), 60):
        assert same(one, other)
        assert ahead.state_dict() == plain.state_dict()


def test_an_error_in_the_thread_reaches_the_trainer(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    (tmp_path / "d" / "train-00000.idx").unlink()
    with pytest.raises(ValueError, match=r"train-00000\.idx: is missing"):
        list(islice(dataset, 100))


def test_says_that_it_waits_and_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gather = MappedShards.windows

    def slow(self: MappedShards, starts: Any, width: int) -> Any:
        result = gather(self, starts, width)
        time.sleep(0.2)
        return result

    monkeypatch.setattr(MappedShards, "windows", slow)
    monkeypatch.setattr(stream, "PATIENCE", 0.02)
    with caplog.at_level(logging.WARNING):
        batch = next(iter(dataset_of(tmp_path)))
    assert len(batch) == 4
    assert "waiting for data" in caplog.text
    assert "train-0000" in caplog.text


def test_more_shards_than_open_files(tmp_path: Path) -> None:
    held = [[document] for document in documents([20] * 200)]
    folder = write_dataset(tmp_path / "d", {"train": held})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        dataset = TokenDataset(folder, "train", 10, order="sequential", epochs=1, batch_size=64)
        assert np.array_equal(counted_targets(dataset), ring(held))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_windows_wider_than_the_gather_takes(tmp_path: Path) -> None:
    held = [documents([50_000, 30_000]), documents([40_000])]
    dataset = TokenDataset(write_dataset(tmp_path / "d", {"train": held}), "train", 40_000, order="sequential")
    assert np.array_equal(dataset.read(np.arange(3)).targets.ravel(), ring(held))


OTHER_PACKAGES = ("torch", "ray", "pyarrow", "numba", "pydantic", "yaml", "tokenizers", "fsspec")


def test_numpy_alone_is_enough(tmp_path: Path) -> None:
    dataset_of(tmp_path)
    program = (
        "import sys\nsys.modules.update(dict.fromkeys(sys.argv[2].split()) if sys.argv[1] == 'blocked' else {})\n"
        "from tokenmill import Mixture, TokenDataset\n"
        f"datasets = [TokenDataset({str(tmp_path / 'd')!r}, 'train', 16, batch_size=2, seed=seed) for seed in range(2)]\n"
        "for stream in (datasets[0], Mixture(datasets, [1, 2], batch_size=2)):\n"
        "    assert next(iter(stream)).inputs.shape == (2, 16)\n"
        "assert not {name for name in sys.argv[2].split() if sys.modules.get(name)}\n"
    )
    for mode in ("installed", "blocked"):
        command = [sys.executable, "-c", program, mode, " ".join(OTHER_PACKAGES)]
        subprocess.run(command, check=True, cwd=ROOT)


def test_the_package_offers_what_it_names() -> None:
    assert [getattr(tokenmill, name).__name__ for name in tokenmill.__all__] == tokenmill.__all__
    assert tokenmill.TokenDataset is TokenDataset
    with pytest.raises(AttributeError, match="has no attribute 'Dataset'"):
        tokenmill.Dataset  # noqa: B018


@every_mode
@pytest.mark.parametrize("vocabulary", [65_000, 100_000])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_torch_batches_are_the_numpy_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any, packing: Any, vocabulary: int, device: str
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if device == "meta":  # what another device is sent, widened here
        monkeypatch.setattr(
            "tokenmill.model.data.device_transfer.Transfer._moved",
            lambda _, array: torch.from_numpy(np.ascontiguousarray(array)),
        )
    held = [documents([70, 13, 5, 41], vocabulary)]
    folder = write_dataset(tmp_path / "d", {"train": held}, vocabulary)
    made: dict[str, Any] = {"order": order, "packing": packing, "documents": True, "batch_size": 3, "epochs": 1}
    for plain, tensors in zip(
        TokenDataset(folder, context_length=20, **made),
        TokenDataset(folder, context_length=20, device=device, **made),
        strict=True,
    ):
        assert tensors.inputs.dtype == tensors.targets.dtype == torch.int64
        assert np.array_equal(tensors.inputs.numpy(), plain.inputs)
        padding = np.arange(20) >= plain.target_counts[:, None]
        assert np.array_equal(tensors.targets.numpy(), np.where(padding, IGNORED, plain.targets.astype(int)))
        assert np.array_equal(tensors.positions.numpy(), plain.positions)
        assert np.array_equal(tensors.cu_seqlens.numpy(), plain.cu_seqlens)
        assert np.array_equal(tensors.target_counts.numpy(), plain.target_counts)


def broken_bin(folder: Path) -> None:
    path = folder / "train-00001.bin"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


def other_index(folder: Path) -> None:
    (folder / "train-00001.idx").write_bytes((folder / "train-00000.idx").read_bytes())


@pytest.mark.parametrize(
    ("break_it", "opened", "message"),
    [
        (lambda f: (f / "dataset.json").unlink(), {}, "give the folder that a shard stage published"),
        (lambda f: (f / "tokenizer.json").unlink(), {}, "tokenizer.json: is missing; copy"),
        (lambda f: (f / "tokenizer.json").write_bytes(b"[]"), {}, "not the tokenizer that the shards were made with"),
        (lambda f: (f / "train-00001.bin").unlink(), {}, "train-00001.bin: is missing; copy"),
        (lambda f: (f / "train-00001.bin").write_bytes(b"12"), {}, "has 2 bytes, the card says 192"),
        (broken_bin, {"verify": True}, "train-00001: the tokens have changed.*Copy the dataset again"),
        (other_index, {"packing": "best_fit"}, "they are of different runs"),
        (lambda f: None, {"tokenizer_hash": "0" * 32}, "the model with 0000.*tokenizer: {path"),
        (lambda f: None, {"split": "test"}, "has no split 'test'; it has train, validation"),
        (
            lambda f: None,
            {"context_length": 1000},
            "233 tokens, less than a window of 1,000: give a smaller context_length",
        ),
        (lambda f: None, {"context_length": 0}, "1 token or more"),
        (lambda f: None, {"order": "shuffled"}, "random or sequential"),
        (lambda f: None, {"rank": 2, "world_size": 2}, "rank 2 of 2"),
        (lambda f: None, {"rank": 0}, "rank and world_size"),
        (lambda f: None, {"batch_size": 0}, "batches of 0"),
    ],
)
def test_refusals_say_what_to_do(tmp_path: Path, break_it: Any, opened: dict[str, Any], message: str) -> None:
    dataset_of(tmp_path)
    break_it(tmp_path / "d")
    with pytest.raises(ValueError, match=message):
        dataset_of(tmp_path, **opened)


def test_an_index_of_another_run_is_refused_when_its_shard_is_read(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    other_index(tmp_path / "d")
    with pytest.raises(ValueError, match="they are of different runs"):
        dataset.read(np.arange(dataset.windows))


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": counted_up([[9]]), "validation": []})
    with pytest.raises(ValueError, match="'validation' has 0 tokens"):
        TokenDataset(folder, "validation", 4, order="sequential")
