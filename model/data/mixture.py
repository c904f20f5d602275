"""Several datasets by weight, as one stream of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenmill.model.data.batch import Windows
from tokenmill.model.data.dataset import Sources, TokenDataset
from tokenmill.model.data.mmap_shards import Numbers
from tokenmill.model.data.permutation import key_of, keys_for, permute
from tokenmill.model.data.sampler import SampleStream, shard_options

SMALLEST_BLOCK = 256
"""Samples. In larger blocks the permutation mixes the datasets better; in smaller ones their shares are exact more often."""


@dataclass(frozen=True)
class MixtureProgress:
    """How much of one dataset of a mixture was consumed: `samples`, which are `epochs` passes over its windows."""

    path: str
    samples: int
    epochs: float


class Mixture(SampleStream):
    """Samples of several datasets, each in its own order and its own epochs, in shares that hold all along.

    Samples come in blocks of a fixed size. In each block every dataset has its share, rounded so that after any number of
    blocks it is exact to one sample; a keyed permutation orders the block. So a sample's number alone, without counting, tells
    its dataset and its number there.
    """

    def __init__(
        self,
        datasets: Sequence[TokenDataset],
        weights: Sequence[float],
        *,
        batch_size: int = 1,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        device: Any = None,
        prefetch: int = 2,
    ) -> None:
        """`weights`: shares of samples, and so of tokens, above 0; they need not sum to 1. The batch size, rank and device that
        the datasets were opened with are ignored. Raises ValueError where the datasets do not fit each other.
        """
        if not datasets or len(datasets) != len(weights) or min(weights) <= 0:
            raise ValueError(f"{len(datasets)} datasets with weights {list(weights)}: give each one a weight above 0")
        first = datasets[0]
        for other in datasets:
            if other.card["tokenizer_hash"] != first.card["tokenizer_hash"]:
                raise ValueError(
                    f"{other.folder} and {first.folder} have different tokenizers: give both runs the same tokenizer.json"
                )
            if (other.context_length, other.documents) != (first.context_length, first.documents):
                raise ValueError(
                    f"{other.folder} and {first.folder} are opened with different `context_length` or `documents`"
                )
        self.datasets = list(datasets)
        self.weights = [float(weight) for weight in weights]
        self.context_length = first.context_length
        self.seed = seed
        self._key = key_of("mixture", self.weights, seed)
        # upper bounds of the shares in 32-bit fixed point: Python's integers do not overflow and round alike on every machine
        upto = np.cumsum(self.weights) / sum(self.weights)
        self._upto = [0, *(round(share * 2**32) for share in upto.tolist()[:-1]), 2**32]
        # a block with 4 samples of the rarest, so that rounding never takes a sample back
        smallest = min(self.weights) / sum(self.weights)
        self.block = max(SMALLEST_BLOCK, 1 << int(np.ceil(np.log2(4 / smallest))))
        super().__init__(shard_options(batch_size, rank, world_size, device, prefetch), None)

    def identity(self) -> dict[str, Any]:
        """See `SampleStream`."""
        return {
            "datasets": [dataset.identity() for dataset in self.datasets],
            "weights": self.weights,
            "seed": self.seed,
        }

    def numbers_in(self, samples: Numbers) -> tuple[Numbers, Numbers]:
        """The dataset of each sample, and its number there; int64, shape (n,) both.

        The slots of a block belong to the datasets in order, each to its share of them; the permutation says which slot a
        sample is in. So a sample's number in its dataset is what earlier blocks took of it, and its place among its slots.
        """
        block, inside = np.divmod(samples, self.block)
        slots = permute(inside, self.block, keys_for(self._key, block))
        blocks, which = np.unique(block, return_inverse=True)
        before = np.array([self._before(number) for number in blocks.tolist()]).reshape(-1, len(self._upto))
        after = np.array([self._before(number + 1) for number in blocks.tolist()]).reshape(-1, len(self._upto))
        borders = (after - before)[which]
        dataset = (slots[:, None] >= borders[:, 1:]).sum(axis=1)
        row = np.arange(len(samples))
        taken = np.diff(before, axis=1)[which]
        return dataset, taken[row, dataset] + slots - borders[row, dataset]

    def locate(self, samples: Numbers) -> Numbers:
        """Number of the dataset and place in it, shape (n, 2)."""
        dataset, numbers = self.numbers_in(samples)
        places = np.empty_like(numbers)
        for number, member in enumerate(self.datasets):
            mine = dataset == number
            places[mine] = member.locate(numbers[mine])
        return np.stack([dataset, places], axis=1)

    def gather(self, places: Numbers) -> Windows:
        """See `SampleStream`."""
        shape = (len(places), self.context_length)
        inputs = np.empty(shape, self.datasets[0].shards.dtype)
        windows = Windows(
            inputs,
            np.empty_like(inputs),
            np.empty(len(places), np.int32),
            np.empty(shape, np.bool_) if self.datasets[0].documents else None,
        )
        for number, member in enumerate(self.datasets):
            mine = np.flatnonzero(places[:, 0] == number)
            part = member.gather(places[mine, 1])
            windows.inputs[mine], windows.targets[mine] = part.inputs, part.targets
            windows.target_counts[mine] = part.target_counts
            if windows.document_starts is not None:
                windows.document_starts[mine] = part.document_starts
        return windows

    def expect(self, places: Numbers) -> None:
        """See `SampleStream`."""
        for number, member in enumerate(self.datasets):
            member.expect(places[places[:, 0] == number, 1])

    def reading(self) -> list[str]:
        """See `SampleStream`."""
        return [file for member in self.datasets for file in member.reading()]

    def documents_in(self, samples: Numbers) -> Sources:
        """As `TokenDataset.documents_in`; `Sources.datasets` is the dataset of each shard."""
        dataset, numbers = self.numbers_in(samples)
        found = []
        for number, member in enumerate(self.datasets):
            mine = np.flatnonzero(dataset == number)
            part = member.documents_in(numbers[mine])
            which = np.full(len(part.rows), number)
            found.append(np.stack([mine[part.rows], which, part.shards, part.documents, part.tokens]))
        together = np.concatenate(found, axis=1)
        return Sources(*together[:, np.argsort(together[0], kind="stable")])

    def progress(self) -> list[MixtureProgress]:
        """How much of each dataset was consumed so far."""
        blocks, rest = divmod(self.samples, self.block)
        taken = np.diff(self._before(blocks))
        if rest:
            last = blocks * self.block + np.arange(rest)
            taken += np.bincount(self.numbers_in(last)[0], minlength=len(self.datasets))
        return [
            MixtureProgress(str(member.folder), count, count / member.windows)
            for member, count in zip(self.datasets, taken.tolist(), strict=True)
        ]

    def _before(self, block: int) -> list[int]:
        """Samples of all datasets before the i-th in the blocks before `block`; one more entry than there are datasets."""
        return [share * block * self.block >> 32 for share in self._upto]
