"""Megatron-LM's own reader of shards, where megatron-core installs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

_SCRIPT = """
import sys
import numpy
from megatron.core.datasets.indexed_dataset import IndexedDataset

dataset = IndexedDataset(sys.argv[1])
assert dataset.document_indices.tolist() == list(range(len(dataset) + 1))
numpy.savez(sys.argv[2], *(numpy.array(dataset[number]) for number in range(len(dataset))))
"""


def read_by_megatron(prefix: Path) -> list[npt.NDArray[Any]]:
    """The documents of PREFIX.bin and PREFIX.idx as `megatron.core.datasets.indexed_dataset.IndexedDataset` reads them.

    In a process of its own: megatron-core and Ray in one process crash. Skips where megatron-core is not installed.
    """
    if importlib.util.find_spec("megatron") is None:
        pytest.skip("needs megatron-core, which installs on Linux (x86-64)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.npz"
        done = subprocess.run([sys.executable, "-c", _SCRIPT, str(prefix), str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with np.load(path) as arrays:
            return [arrays[f"arr_{number}"] for number in range(len(arrays))]
