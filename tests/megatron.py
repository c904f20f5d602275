"""Megatron-LM's own reader of shards, where megatron-core installs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

_SCRIPT = """
import sys
import numpy
from megatron.core.datasets.indexed_dataset import IndexedDataset

target, *prefixes = sys.argv[1:]
for place, prefix in enumerate(prefixes):
    dataset = IndexedDataset(prefix)
    assert dataset.document_indices.tolist() == list(range(len(dataset) + 1))
    numpy.savez(f"{target}/{place}.npz", *(numpy.array(dataset[number]) for number in range(len(dataset))))
"""


def read_by_megatron(prefixes: Iterable[Path]) -> list[list[npt.NDArray[Any]]]:
    """The documents of each PREFIX.bin and PREFIX.idx as `megatron.core.datasets.indexed_dataset.IndexedDataset` reads them.

    In a process of its own, which takes seconds to begin: megatron-core and Ray in one process crash. Skips where megatron-core
    is not installed.
    """
    if importlib.util.find_spec("megatron") is None:
        pytest.skip("needs megatron-core, which installs on Linux (x86-64)")
    with tempfile.TemporaryDirectory() as folder:
        names = [str(prefix) for prefix in prefixes]
        done = subprocess.run([sys.executable, "-c", _SCRIPT, folder, *names], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = []
        for place in range(len(names)):
            with np.load(Path(folder) / f"{place}.npz") as arrays:
                found.append([arrays[f"arr_{number}"] for number in range(len(arrays))])
        return found
