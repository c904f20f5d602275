"""What the trainer is given: inputs and targets, and where documents begin in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORED = -100
"""Target of what is no target, in torch batches: the `ignore_index` that torch's cross entropy has by default."""


@dataclass(frozen=True)
class Windows:
    """Windows as they lie in the dataset. `inputs`, `targets`: the dataset's dtype, shape (rows, window), targets one token
    ahead. `counted`: int32, (rows,): the first so many targets of a row count, what follows is padding. `begins`: bool,
    (rows, window): where a document, or what a cut left of it, begins; None where nobody asked.
    """

    inputs: npt.NDArray[Any]
    targets: npt.NDArray[Any]
    counted: npt.NDArray[np.int32]
    begins: npt.NDArray[np.bool_] | None

    def rows(self, first: int, end: int) -> Windows:
        """Some of the windows, as views."""
        begins = None if self.begins is None else self.begins[first:end]
        return Windows(self.inputs[first:end], self.targets[first:end], self.counted[first:end], begins)


@dataclass(frozen=True)
class Batch:
    """The samples of one step of one rank: numpy arrays, or torch tensors where the loader was given a device.

    `inputs`, `targets`: shape (rows, window), in the dataset's dtype (numpy) or int64 (torch). `counted`: int32, shape
    (rows,): how many targets of a row count, from its first on; the others are padding, `IGNORED` in torch batches. `samples`:
    int64, (rows,), the numbers of the samples, on the host; they give back the documents (`TokenDataset.documents_in`).

    With `documents: true`, else None: `positions`: int32, (rows, window), which restart where a document begins;
    `cumulative_lengths`: int32, (segments + 1,), where segments begin in the batch read row by row, from 0 to rows * window, as
    block-diagonal attention takes them; `longest`: tokens of the longest segment. A segment begins with the end-of-text token
    before its document, with which a generation from nothing begins too.
    """

    inputs: Any
    targets: Any
    counted: Any
    samples: npt.NDArray[np.int64]
    positions: Any = None
    cumulative_lengths: Any = None
    longest: int | None = None

    def __len__(self) -> int:
        return len(self.samples)


def batch_of(windows: Windows, samples: npt.NDArray[np.int64]) -> Batch:
    """Windows as a batch of numpy arrays."""
    if windows.begins is None:
        return Batch(windows.inputs, windows.targets, windows.counted, samples)
    begins = np.append(np.flatnonzero(windows.begins), windows.begins.size)
    lengths = np.diff(begins)
    positions = np.arange(windows.begins.size, dtype=np.int32) - np.repeat(begins[:-1], lengths).astype(np.int32)
    return Batch(
        windows.inputs,
        windows.targets,
        windows.counted,
        samples,
        positions.reshape(windows.begins.shape),
        begins.astype(np.int32),
        int(lengths.max(initial=0)),
    )
