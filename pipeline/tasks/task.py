"""What a worker does: one task of a step, from the files it reads to the receipt that commits what it wrote."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.storage.column_types import joined
from tokenmill.pipeline.storage.documents import empty_batch, fitted, in_bounded_batches, open_table, write_batches
from tokenmill.pipeline.storage.receipts import Receipt, commit
from tokenmill.pipeline.storage.store import AtomicFile, Store


@dataclass(frozen=True)
class Task:
    """What every task is given: its place, what decides its output, and where a user's own modules lie."""

    store: Store
    step: str
    key: str
    inputs: dict[str, Any]
    import_paths: tuple[str, ...]
    threads: int = 1
    shared: Any = None
    """What all tasks of a step are told alike; it is sent to each worker once, not with each task."""

    def execute(self) -> Receipt:
        """Does the task and commits it. Raises `RunError` where the output would not be sound."""
        for path in self.import_paths:
            if path not in sys.path:
                sys.path.append(path)
        hold_to_threads(self.threads)
        _reset_peak_memory()
        began = time.perf_counter()
        receipt = Receipt(self.step, self.key, self.inputs)
        self.fill(receipt)
        for stage, count in receipt.stages.items():
            if not count.balances():
                raise RunError(f"step {self.step}, task {self.key}: stage {stage!r} does not add up: {count}")
        receipt.seconds = round(time.perf_counter() - began, 3)
        receipt.peak_memory_bytes = _peak_memory()
        commit(self.store, receipt)
        return receipt

    def fill(self, receipt: Receipt) -> None:
        """Writes the task's files and enters them in the receipt."""
        raise NotImplementedError

    def new_file(self, receipt: Receipt, name: str) -> AtomicFile:
        """A file in the step's folder; its name holds the task's key and the fingerprint."""
        return self.store.create(f"steps/{self.step}/{self.key}-{receipt.fingerprint[:8]}-{name}")

    def write_documents(
        self, receipt: Receipt, name: str, batches: Iterator[pa.RecordBatch], *, compression: str | None
    ) -> AtomicFile:
        """Writes batches of documents with the schema that holds them all, and gives back the closed file.

        Where a batch comes that the schema so far does not hold (a column that was null has a type now), what is written is
        copied into a new file: that is rare, and needs no more memory than a batch.
        """
        bounded = in_bounded_batches(batches)
        for number in itertools.count():
            with self.new_file(receipt, f"{number}-{name}" if number else name) as file:
                misfit = write_batches(file, bounded, compression=compression)
            if misfit is None:
                break
            bounded = itertools.chain(self._copied(file.output.path, misfit), bounded)
        return file

    def _copied(self, path: str, misfit: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The batches of a file and one more, all with the schema that holds them."""
        with open_table(self.store, path) as reader:
            schema = joined([empty_batch(reader.schema), misfit]).schema
            for number in range(reader.num_record_batches):
                yield fitted(reader.get_batch(number), schema)
        yield fitted(misfit, schema)


THREAD_VARIABLES = ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM")
"""What tokenizers' threads go by."""


def hold_to_threads(threads: int) -> None:
    """Holds the numeric libraries of this process to a number of threads."""
    pa.set_cpu_count(threads)
    pa.set_io_thread_count(threads)
    os.environ |= dict(zip(THREAD_VARIABLES, (str(threads), "true" if threads > 1 else "false"), strict=True))


def _reset_peak_memory() -> None:
    with suppress(OSError):  # Linux only; elsewhere the peak is that of the process
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    """Peak resident memory of this process in bytes since the task began (since its start where Linux is not)."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
