"""The loader against nanoGPT's way and against memcpy: `python -m tests.benchmarks.loader [--folder DIR] [--gigabytes 2]`.

Batches of 64 x 1,024 tokens in random order, uint16 tokens in page cache, one process, torch held to one thread. All ways take
turns, and the median of the rounds counts, so that a busy machine slows all alike. The memcpy copies as many tokens as a batch
delivers from one place after the other of the same dataset into one buffer; for int64 batches, which come from a quarter of
the bytes, it copies a batch that is in cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from tests.model.datasets import END, write_dataset
from tokenmill.model.data.dataset import TokenDataset

BATCH, WINDOW = 64, 1024
ROUNDS, BATCHES = 15, 100


def make(folder: Path, tokens: int, shards: int) -> Path:
    """A dataset of random tokens in documents of 1,000, of which every shard is the same."""
    size = tokens // shards // 1000
    random = np.random.default_rng(0)
    held = random.integers(1, 50_000, (size, 1000), np.uint16)
    held[:, -1] = END
    return write_dataset(folder, {"train": [list(held)] * shards})


def nanogpt(path: Path, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch as nanoGPT's `get_batch` is described: a fresh memmap, slices cast to int64, stacked."""
    tokens = np.memmap(path, np.uint16, "r")
    starts = random.integers(0, len(tokens) - WINDOW, BATCH).tolist()
    return (
        torch.stack([torch.from_numpy(tokens[at : at + WINDOW].astype(np.int64)) for at in starts]),
        torch.stack([torch.from_numpy(tokens[at + 1 : at + 1 + WINDOW].astype(np.int64)) for at in starts]),
    )


def marching_copy(path: Path) -> Callable[[], None]:
    """Copies the tokens of a batch, one place after the other."""
    tokens = np.memmap(path, np.uint16, "r").view(np.ndarray)
    count = BATCH * (WINDOW + 1)
    out, at = np.empty(count, np.uint16), 0

    def copy() -> None:
        nonlocal at
        np.copyto(out, tokens[at : at + count])
        at = (at + count) % (len(tokens) - count)

    return copy


def cached_copy() -> Callable[[], None]:
    """Copies inputs and targets of a batch of int64."""
    held = np.zeros((2, BATCH, WINDOW), np.int64)
    out = np.empty_like(held)
    return lambda: np.copyto(out, held)


def times(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds a batch, the median over rounds in which all ways take turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begin = time.perf_counter()
            for _ in range(BATCHES):
                way()
            found[name].append((time.perf_counter() - begin) / BATCHES)
    return {name: median(rounds) for name, rounds in found.items()}


def first_batch(folder: Path) -> float:
    """Seconds from opening a dataset to its first batch."""
    begin = time.perf_counter()
    next(iter(TokenDataset(folder, "train", WINDOW, batch_size=BATCH)))
    return time.perf_counter() - begin


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, help="where to write the datasets; default: a temporary folder")
    arguments.add_argument("--gigabytes", type=float, default=2.0, help="size of the dataset in page cache")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        tokens = int(given.gigabytes * 5e8)
        # nanoGPT's way knows one file, so its dataset is one shard; the loader gets ten
        single = make(Path(temporary) / "single", tokens, 1) / "train-00000.bin"
        folder = make(Path(temporary) / "ten", tokens, 10)
        for path in (single, *folder.glob("*.bin")):
            path.read_bytes()
        random = np.random.default_rng(1)

        def loader(**changes: Any) -> Callable[[], Any]:
            batches = iter(TokenDataset(folder, "train", WINDOW, batch_size=BATCH, **changes))
            # one epoch first: memory-mapped pages are then in the page table, as in all of a run but its beginning
            for _ in islice(batches, tokens // WINDOW // BATCH):
                pass
            return lambda: next(batches)

        found = times(
            {
                "memcpy of the tokens of a batch": marching_copy(single),
                "memcpy of an int64 batch": cached_copy(),
                "nanoGPT's way, int64 in torch": lambda: nanogpt(single, random),
                "loader, numpy": loader(prefetch=0),
                "loader, numpy, thread ahead": loader(prefetch=2),
                "loader, numpy, documents": loader(prefetch=0, documents=True),
                "loader, numpy, best fit": loader(prefetch=0, packing="best_fit"),
                "loader, int64 in torch": loader(prefetch=0, device="cpu"),
                "loader, int64 in torch, thread ahead": loader(prefetch=2, device="cpu"),
            }
        )
        theirs, copy = found["nanoGPT's way, int64 in torch"], found["memcpy of the tokens of a batch"]
        wide = found["memcpy of an int64 batch"]
        print(f"{'':38} us/batch  M tokens/s  x nanoGPT  of memcpy's speed")
        for name, seconds in found.items():
            against = wide if "int64" in name else copy
            rate = BATCH * WINDOW / seconds / 1e6
            print(f"{name:38} {seconds * 1e6:8.1f}  {rate:10.0f}  {theirs / seconds:9.1f}  {against / seconds:17.2f}")
        many = make(Path(temporary) / "thousand", 1_000_000_000 // 10, 1000)
        openings = [first_batch(many) * 1e3 for _ in range(9)]
        print(
            f"first batch of 1,000 shards: {openings[0]:.1f} ms at first, then {median(openings):.1f} ms (median of 9)"
        )


if __name__ == "__main__":
    main()
