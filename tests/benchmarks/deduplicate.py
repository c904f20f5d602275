"""Deduplication of many short documents: time a document and memory of a task, as the corpus grows.

python -m tests.benchmarks.deduplicate FOLDER [--documents 100000 1000000] [--workers 2]

Makes seeded texts of 12 to 60 words, about 200 bytes: of every ten documents one is an exact copy of another anywhere in the
corpus (in capitals) and two are near ones (one or two words changed at the end). Each task reads and writes files in FOLDER
as in a run (memory-mapped Arrow), each phase in fresh processes of one thread; making the texts, starting processes and
compiling are not timed. Peak memory is that of the largest process, mapped pages included. At the end every verdict is
checked against what was planted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.dedup.stage import Deduplicate
from tokenmill.stages.stage import KEPT, Corpus, PartitionInfo, Phase, Verdicts

PARTITION_DOCUMENTS = 50_000
BATCH_DOCUMENTS = 10_000
VOCABULARY = 50_000
LEAST_WORDS, MOST_WORDS = 12, 60

Words = npt.NDArray[np.uint64]


def mixed(values: Words) -> Words:
    """The finalizer of MurmurHash3 (Appleby), 64 bits: random numbers by number."""
    values = (values ^ values >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ values >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ values >> np.uint64(33)


def sources_of(numbers: Words, documents: int) -> tuple[Words, Words]:
    """For each document the one whose words it has (itself, or an original), and its kind: 7 exact copy, 8, 9 near."""
    kinds = mixed(numbers + np.uint64(1)) % np.uint64(10)
    originals = mixed(numbers + np.uint64(2**40)) % np.uint64(documents)
    is_original = mixed(originals + np.uint64(1)) % np.uint64(10) < 7
    is_copy = (kinds >= 7) & is_original
    return np.where(is_copy, originals, numbers), np.where(is_copy, kinds, 0)


def texts_of(numbers: Words, documents: int) -> pa.Array:
    """The texts of documents; common words are more common, as in language."""
    vocabulary = pa.array(
        [f"{'bcdfghklmnprstvw'[n % 16]}{n:x}"[: 3 + n % 7] + "aeiou"[n % 5] for n in range(VOCABULARY)]
    )
    sources, kinds = sources_of(numbers, documents)
    lengths = LEAST_WORDS + mixed(sources + np.uint64(2**41)) % np.uint64(MOST_WORDS - LEAST_WORDS)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    places = np.arange(bounds[-1], dtype=np.uint64) - np.repeat(bounds[:-1].astype(np.uint64), lengths.astype(np.int64))
    drawn = mixed(np.repeat(sources, lengths.astype(np.int64)) * np.uint64(64) + places)
    words = ((drawn >> np.uint64(11)).astype(np.float64) / 2**53) ** 2 * VOCABULARY
    chosen = words.astype(np.int64)
    for kind in (8, 9):  # words changed at the end: one, or two
        for back in range(1, kind - 6):
            rows = np.flatnonzero((kinds == kind) & (lengths >= 30))
            chosen[bounds[rows + 1] - back] = mixed(numbers[rows] + np.uint64(back)) % np.uint64(VOCABULARY)
    texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(bounds), vocabulary.take(pa.array(chosen))), " ")
    return pc.if_else(pa.array(kinds == 7), pc.ascii_upper(texts), texts)


@dataclass
class Run:
    """A run's files."""

    folder: Path
    documents: int
    parts: list[PartitionInfo] = field(default_factory=list)
    metrics: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def of(self, phase: str, task: str) -> Path:
        """Where a task's files are."""
        return self.folder / phase / task


def write_table(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    """Arrow IPC, to be memory-mapped."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def read_table(path: Path) -> pa.Table:
    """Memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


class FolderContext:
    """`stages.stage.TaskContext` over a folder."""

    def __init__(self, run: Run, phase: str, task: str) -> None:
        self.task = task
        self.corpus = Corpus(run.parts, run.metrics)
        self.fingerprint = ""
        self.metrics: dict[str, Any] = {}
        self._run = run
        self._folder = run.of(phase, task)
        self._folder.mkdir(parents=True)
        self._fates: list[pa.RecordBatch] = []

    def documents(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `TaskContext`."""
        yield from read_table(self._run.folder / f"texts-{self.task}.arrow").select(list(columns)).to_batches()

    def table(self, phase: str, task: str, columns: Sequence[str] | None = None) -> pa.Table:
        """See `TaskContext`."""
        table = read_table(self._run.of(phase, task) / "table.arrow")
        return table if columns is None else table.select(list(columns))

    def file(self, phase: str, task: str, name: str) -> BinaryIO:
        """See `TaskContext`."""
        return (self._run.of(phase, task) / name).open("rb")

    def artifact(self, name: str) -> BinaryIO:
        """See `TaskContext`."""
        raise FileNotFoundError(name)

    def write(self, batches: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        """See `TaskContext`."""
        given = batches.to_batches() if isinstance(batches, pa.Table) else batches
        write_table(self._folder / "table.arrow", given, schema)

    def create(self, name: str) -> BinaryIO:
        """See `TaskContext`."""
        return (self._folder / name).open("wb")

    def judge(self, positions: npt.NDArray[np.int32], verdicts: Verdicts) -> None:
        """Keeps the verdicts for the check at the end."""
        columns = [pa.array(positions), pa.array(verdicts.fate == KEPT), verdicts.measures["survivor"]]
        self._fates.append(pa.RecordBatch.from_arrays(columns, names=["position", "kept", "survivor"]))

    def add_metrics(self, **metrics: Any) -> None:
        """See `TaskContext`."""
        self.metrics.update(json.loads(json.dumps(metrics)))

    def previous_run(self, number: int, columns: Sequence[str]) -> pa.Table:
        """See `TaskContext`; there is no previous run."""
        raise NotImplementedError

    def transform(self, change: Callable[[pa.RecordBatch], tuple[pa.RecordBatch, Verdicts]]) -> None:
        """See `TaskContext`; documents are not changed."""
        raise NotImplementedError

    def close(self) -> None:
        """Writes the verdicts."""
        if self._fates:
            write_table(self._folder / "fates.arrow", self._fates, self._fates[0].schema)


def make_texts(work: tuple[Run, int]) -> PartitionInfo:
    """Writes the documents of one partition."""
    run, number = work
    first = number * PARTITION_DOCUMENTS
    count = min(PARTITION_DOCUMENTS, run.documents - first)
    texts = texts_of(np.arange(first, first + count, dtype=np.uint64), run.documents)
    table = pa.table({"position": pa.array(np.arange(count, dtype=np.int32)), "text": texts})
    write_table(run.folder / f"texts-{number}.arrow", table.to_batches(BATCH_DOCUMENTS), table.schema)
    return PartitionInfo(number, f"{number}", "texts", count, pc.sum(pc.binary_length(texts)).as_py(), count)


def phase_of(name: str) -> Phase:
    """A phase of the stage with its defaults."""
    return next(phase for phase in Deduplicate().phases() if phase.name == name)


def run_task(work: tuple[Run, str, str]) -> tuple[dict[str, Any], float, int]:
    """A task's metrics, its CPU seconds, and the process's peak memory so far in bytes."""
    run, phase, task = work
    began = time.process_time()
    context = FolderContext(run, phase, task)
    phase_of(phase).run(context)
    context.close()
    return context.metrics, time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def prepare() -> None:
    """One thread; and compiled kernels, from the cache."""
    pa.set_cpu_count(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    from tokenmill.stages.dedup import clusters, lsh, minhash, verify
    from tokenmill.stages.text import shingles

    hashes, bounds, _ = shingles.shingles(pa.array(["a b"]), 5)
    minhash.band_keys(minhash.signatures(hashes, bounds, 112, 1), 14, 8)
    one = np.arange(2)
    lsh.near_pairs(one.astype(np.uint64), one.astype(np.uint64), one)
    clusters.sweep(one[:0], one[:0], np.zeros(1, np.uint8))
    assert verify.overlaps


def check(run: Run) -> str:
    """Holds the verdicts against what was planted."""
    sources, _ = sources_of(np.arange(run.documents, dtype=np.uint64), run.documents)
    dropped = wrong = 0
    for part in run.parts:
        fates = read_table(run.of("verdicts", str(part.number)) / "fates.arrow").filter(~pc.field("kept"))
        halves = pc.split_pattern(fates.column("survivor").combine_chunks(), "#").flatten().cast(pa.int64()).to_numpy()
        survivors = halves[0::2] * PARTITION_DOCUMENTS + halves[1::2]
        documents = fates.column("position").to_numpy() + part.number * PARTITION_DOCUMENTS
        dropped += len(documents)
        wrong += int((sources[documents] != sources[survivors]).sum())
    expected = run.documents - len(np.unique(sources))
    return f"{dropped} dropped of {expected} planted ({dropped / expected:.2%}), {wrong} for a text that they are not copies of"


def measure(folder: Path, documents: int, workers: int) -> float:
    """Makes a corpus, runs all phases and prints a line for each; returns the seconds of all."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = Run(folder, documents)
    context = get_context("spawn")
    with context.Pool(workers) as pool:
        run.parts = pool.map(make_texts, [(run, part) for part in range(-(-documents // PARTITION_DOCUMENTS))], 1)
    megabytes = sum(part.text_bytes for part in run.parts) / 1e6
    print(f"\n{documents} documents, {megabytes:.0f} MB, {len(run.parts)} partitions, {workers} workers", flush=True)
    print(f"{'phase':>12}  {'tasks':>6}  {'wall s':>7}  {'CPU s':>7}  {'CPU us a document':>18}  {'peak MB':>8}")
    totals = np.zeros(3)
    for phase in Deduplicate().phases():
        corpus = Corpus(run.parts, run.metrics)
        tasks = [str(part.number) for part in run.parts] if phase.keys is None else list(phase.keys(corpus))
        with context.Pool(workers, prepare) as pool:
            pool.map(time.sleep, [0.2] * workers, 1)
            began = time.perf_counter()
            done = pool.map(run_task, [(run, phase.name, task) for task in tasks], 1)
            wall = time.perf_counter() - began
        run.metrics[phase.name] = {task: metrics for task, (metrics, _, _) in zip(tasks, done, strict=True)}
        cpu, peak = sum(seconds for _, seconds, _ in done), max(memory for _, _, memory in done) / 1e6
        totals = np.array([totals[0] + wall, totals[1] + cpu, max(totals[2], peak)])
        each = cpu / documents * 1e6
        print(f"{phase.name:>12}  {len(tasks):>6}  {wall:7.1f}  {cpu:7.1f}  {each:18.2f}  {peak:8.0f}", flush=True)
    each = totals[1] / documents * 1e6
    print(f"{'all':>12}  {'':>6}  {totals[0]:7.1f}  {totals[1]:7.1f}  {each:18.2f}  {totals[2]:8.0f}")
    print(check(run), flush=True)
    shutil.rmtree(folder)
    return float(totals[0])


def main() -> None:
    """Prints a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="is made, and deleted at the end")
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    prepare()
    for documents in arguments.documents:
        measure(arguments.folder / str(documents), documents, arguments.workers)


if __name__ == "__main__":
    main()
