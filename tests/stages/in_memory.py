"""Runs a corpus stage in memory: `stages.stage.TaskContext` over dictionaries, each task by itself, in any order."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.stage import DATE, KEPT, Corpus, CorpusStage, PartitionInfo, Phase, PreviousPartition, Verdicts

SCHEMA = pa.schema(
    {"position": pa.int32(), "url": pa.string(), "offset": pa.int64(), "date": DATE, "text": pa.string()}
)

TaskOrder = Callable[[Sequence[str]], Sequence[str]]


class KeptFile(io.BytesIO):
    """A file whose content outlives its closing."""

    def close(self) -> None:
        """Does nothing, so that the content stays."""


class InMemoryContext:
    """What one task is given. Reading what its phase has not declared is an error, as in a run."""

    def __init__(self, run: MemoryRun, phase: Phase, task: str, corpus: Corpus) -> None:
        self.task = task
        self.corpus = corpus
        self.fingerprint = f"{phase.name} {task}"
        self.written: pa.Table | None = None
        self.files: dict[str, KeptFile] = {}
        self.metrics: dict[str, Any] = {}
        self.transformed: list[dict[str, Any]] = []
        self.judged: list[tuple[npt.NDArray[np.int32], Verdicts]] = []
        self._run = run
        self._phase = phase
        self._reads = set(phase.reads(task, corpus))

    def documents(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `TaskContext`."""
        assert self._phase.keys is None
        assert self._phase.reads_documents or self._phase.judges
        yield from self._run.documents[int(self.task)].select(list(columns)).to_batches()

    def _read(self, phase: str, task: str) -> InMemoryContext:
        assert (phase, task) in self._reads, f"{self._phase.name} does not declare that it reads {phase}/{task}"
        return self._run.done[phase][task]

    def table(self, phase: str, task: str, columns: Sequence[str] | None = None) -> pa.Table:
        """See `TaskContext`."""
        written = self._read(phase, task).written
        assert written is not None
        return written if columns is None else written.select(list(columns))

    def file(self, phase: str, task: str, name: str) -> BinaryIO:
        """See `TaskContext`."""
        return io.BytesIO(self._read(phase, task).files[name].getvalue())

    def previous_run(self, number: int, columns: Sequence[str]) -> pa.Table:
        """See `TaskContext`."""
        assert self._phase.reads_previous_runs
        return self._run.previous[number].select(list(columns))

    def artifact(self, name: str) -> BinaryIO:
        """See `TaskContext`."""
        return io.BytesIO(self._run.artifact[name])

    def write(self, batches: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        """See `TaskContext`."""
        assert self.written is None
        given = batches.to_batches() if isinstance(batches, pa.Table) else batches
        self.written = pa.Table.from_batches(given, schema)

    def create(self, name: str) -> BinaryIO:
        """See `TaskContext`."""
        return self.files.setdefault(name, KeptFile())

    def judge(self, positions: npt.NDArray[np.int32], verdicts: Verdicts) -> None:
        """See `TaskContext`."""
        assert self._phase.judges
        self.judged.append((positions, verdicts))

    def transform(self, change: Callable[[pa.RecordBatch], tuple[pa.RecordBatch, Verdicts]]) -> None:
        """See `TaskContext`."""
        assert self._phase.modifies_text
        for documents in self._run.documents[int(self.task)].to_batches():
            changed, verdicts = change(documents)
            assert changed.select(documents.schema.names).schema == documents.schema
            self.judged.append((documents.column("position").to_numpy(), verdicts))
            self.transformed += changed.filter(pa.array(verdicts.fate == KEPT)).to_pylist()

    def add_metrics(self, **metrics: Any) -> None:
        """See `TaskContext`."""
        self.metrics.update(json.loads(json.dumps(metrics)))


class MemoryRun:
    """A corpus stage run over texts by partition; a text that is None never reaches it, so that positions have gaps.

    `dates`: seconds since 1970 by text, for texts that have a date.

    `done`: phase -> task -> what it was given and left (`written`, `files`, `metrics`). `artifact`: files of the node above, by
    name. `against`: previous runs by name. `batch_rows`: documents in a batch. `order`: in which the tasks of a phase run.
    """

    def __init__(
        self,
        stage: CorpusStage,
        partitions: Mapping[str, Sequence[str | None]],
        *,
        artifact: Mapping[str, bytes] | None = None,
        against: Mapping[str, MemoryRun] | None = None,
        dates: Mapping[str, int] | None = None,
        batch_rows: int = 4,
        order: TaskOrder = list,
    ) -> None:
        self.artifact = dict(artifact or {})
        self.documents = [_documents(name, texts, batch_rows, dates or {}) for name, texts in partitions.items()]
        self.done: dict[str, dict[str, InMemoryContext]] = {}
        self.parts = [
            PartitionInfo(
                number=number,
                name=name,
                source="texts",
                kept=sum(text is not None for text in texts),
                text_bytes=sum(len((text or "").encode()) for text in texts),
                size=len(texts),
                path=f"{name}.jsonl",
            )
            for number, (name, texts) in enumerate(partitions.items())
        ]
        indexed = [(name, part, *run.indexed(part)) for name, run in (against or {}).items() for part in run.parts]
        self.previous = [table for _, _, table, _ in indexed]
        previous = [
            PreviousPartition(number, name, part.name, kept, part.size)
            for number, (name, part, _, kept) in enumerate(indexed)
        ]
        self.index = stage.index
        for phase in stage.phases():
            metrics = {
                name: {task: context.metrics for task, context in tasks.items()} for name, tasks in self.done.items()
            }
            corpus = Corpus(self.parts, metrics, previous)
            tasks = [str(part.number) for part in self.parts] if phase.keys is None else list(phase.keys(corpus))
            contexts = {task: InMemoryContext(self, phase, task, corpus) for task in tasks}
            for task in order(tasks):
                phase.run(contexts[task])
            if phase.judges:
                self._check(contexts)
            self.done[phase.name] = contexts

    def _check(self, contexts: Mapping[str, InMemoryContext]) -> None:
        for task, context in contexts.items():
            judged = [int(position) for positions, _ in context.judged for position in positions]
            assert judged == self.documents[int(task)].column("position").to_pylist()

    def indexed(self, part: PartitionInfo) -> tuple[pa.Table, int]:
        """What a later run reads of a partition: the index's rows of documents that were kept, and how many were kept."""
        judged = self.judged()
        kept = [n for n in range(part.size) if (row := judged.get(f"{part.name}#{n}")) and row["fate"] == KEPT]
        assert self.index is not None
        table = self.done[self.index][str(part.number)].written
        assert table is not None
        return table.filter(pc.is_in(table.column("position"), pa.array(kept, pa.int32()))), len(kept)

    def judged(self) -> dict[str, dict[str, Any]]:
        """The verdict on each document, by id, in canonical order: `fate`, `rule`, `value`, `threshold`, measures."""
        rows: dict[str, dict[str, Any]] = {}
        for contexts in self.done.values():
            for task, context in contexts.items():
                for positions, verdicts in context.judged:
                    columns = {"rule": verdicts.rule, "value": verdicts.value, "threshold": verdicts.threshold}
                    columns |= {"message": verdicts.message} | verdicts.measures
                    assert all(len(column) == len(positions) for column in columns.values())
                    listed = {"fate": verdicts.fate.tolist()} | {key: col.to_pylist() for key, col in columns.items()}
                    for row, position in enumerate(positions):
                        name = f"{self.parts[int(task)].name}#{position}"
                        rows[name] = {key: values[row] for key, values in listed.items()}
        return rows


def _documents(name: str, texts: Sequence[str | None], batch_rows: int, dates: Mapping[str, int]) -> pa.Table:
    positions = [position for position, text in enumerate(texts) if text is not None]
    columns = [
        pa.array(positions, pa.int32()),
        pa.array([f"https://{name}.example/{position}" for position in positions], pa.string()),
        pa.array([100 * position for position in positions], pa.int64()),
        pa.array([dates.get(texts[position] or "") for position in positions], pa.int64()).cast(DATE),
        pa.array([texts[position] for position in positions], pa.string()),
    ]
    table = pa.table(columns, schema=SCHEMA)
    return pa.Table.from_batches(table.to_batches(max_chunksize=batch_rows), SCHEMA)
