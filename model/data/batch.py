"""What the trainer is given: inputs and targets, and where documents begin in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORED = -100
"""Target of padding in torch batches: the `ignore_index` that torch's cross entropy has by default."""


@dataclass(frozen=True)
class Windows:
    """Windows as they lie in the dataset. `inputs`, `targets`: the dataset's dtype, shape (rows, context_length), targets one
    token ahead. `target_counts`: int32, (rows,): so many targets of a row count, from its first on; the rest is padding.
    `document_starts`: bool, (rows, context_length): where a document, or what a cut left of it, begins; None where not asked.
    """

    inputs: npt.NDArray[Any]
    targets: npt.NDArray[Any]
    target_counts: npt.NDArray[np.int32]
    document_starts: npt.NDArray[np.bool_] | None

    def rows(self, first: int, end: int) -> Windows:
        """Some of the windows, as views."""
        starts = None if self.document_starts is None else self.document_starts[first:end]
        return Windows(self.inputs[first:end], self.targets[first:end], self.target_counts[first:end], starts)


@dataclass(frozen=True)
class Batch:
    """The samples of one step of one rank: numpy arrays, or torch tensors where the loader was given a device.

    `inputs`, `targets`: shape (rows, context_length), in the dataset's dtype (numpy) or int64 (torch). `target_counts`: int32,
    shape (rows,): how many targets of a row count, from its first on; the others are padding, `IGNORED` in torch batches.
    `samples`: int64, (rows,), the numbers of the samples, on the host; they lead to the documents
    (`TokenDataset.documents_in`).

    With `documents=True`, else None: `positions`: int32, (rows, context_length), which restart where a document begins;
    `cu_seqlens`: int32, (segments + 1,), where segments begin in the batch read row by row, from 0 to rows * context_length, as
    variable-length attention takes them; `max_seqlen`: tokens of the longest segment. A segment begins with the end-of-text
    token before its document, as a generation without a prompt does.
    """

    inputs: Any
    targets: Any
    target_counts: Any
    samples: npt.NDArray[np.int64]
    positions: Any = None
    cu_seqlens: Any = None
    max_seqlen: int | None = None

    def __len__(self) -> int:
        return len(self.samples)


def batch_of(windows: Windows, samples: npt.NDArray[np.int64]) -> Batch:
    """Windows as a batch of numpy arrays."""
    if windows.document_starts is None:
        return Batch(windows.inputs, windows.targets, windows.target_counts, samples)
    bounds = np.append(np.flatnonzero(windows.document_starts), windows.document_starts.size)
    lengths = np.diff(bounds)
    # each place minus the start of its segment
    positions = np.arange(windows.document_starts.size, dtype=np.int32)
    positions = positions - np.repeat(bounds[:-1], lengths).astype(np.int32)
    return Batch(
        windows.inputs,
        windows.targets,
        windows.target_counts,
        samples,
        positions.reshape(windows.document_starts.shape),
        bounds.astype(np.int32),
        int(lengths.max(initial=0)),
    )
