"""What a worker does: one task of a step, from the files it reads to the receipt that commits what it wrote."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.column_types import joined, widened
from pipeline.dag import StageSpec
from pipeline.documents import View, in_bounded_batches, open_table, read_columns, view_columns
from pipeline.earlier_files import EarlierFiles
from pipeline.errors import RunError
from pipeline.ledger_parts import (
    BatchLedger,
    LedgerWriter,
    account,
    account_routes,
    check_verdicts,
    content_bytes,
)
from pipeline.partitions import Partition, open_input
from pipeline.receipts import Receipt, StageCount, commit
from pipeline.routes import column_of
from pipeline.sampling import head
from pipeline.store import AtomicFile, Output, Store
from stages.dates import DATE
from stages.read import ReadOptions, read
from stages.stage import KEPT, Corpus, Filter, Gather, Stage, Transform, Verdicts

READ = "read"
"""Name under which reading stands in ledger, counts and reports."""

EMPTY_SCHEMA = pa.schema(
    {
        "position": pa.int32(),
        "url": pa.string(),
        "date": DATE,
        "metadata": pa.string(),
        "text": pa.string(),
        "offset": pa.int64(),
    }
)
"""What a document file without documents holds: no batch told its columns."""

KNOWN_TYPES = {column.name: column.type for column in EMPTY_SCHEMA} | {"html": pa.binary(), "charset": pa.string()}
"""Types of the columns that every stage may read."""


@dataclass(frozen=True)
class Work:
    """What every task is told: its place, what decides its output, and where a user's own modules lie."""

    store: Store
    step: str
    key: str
    made_by: dict[str, Any]
    import_paths: tuple[str, ...]
    threads: int = 1

    def execute(self) -> Receipt:
        """Does the task and commits it. Raises `RunError` where the output would not be sound."""
        for path in self.import_paths:
            if path not in sys.path:
                sys.path.append(path)
        hold_to_threads(self.threads)
        _reset_peak_memory()
        began = time.perf_counter()
        receipt = Receipt(self.step, self.key, self.made_by)
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
        """A file in the task's folder; its name holds the fingerprint."""
        return self.store.create(f"steps/{self.step}/{self.key}/{receipt.fingerprint[:8]}-{name}")

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
            bounded = chain(self._copied(file.output.path, misfit), bounded)
        return file

    def _copied(self, path: str, misfit: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The batches of a file and one more, all with the schema that holds them."""
        with open_table(self.store, path) as reader:
            schema = joined([empty_batch(reader.schema), misfit]).schema
            for number in range(reader.num_record_batches):
                yield fitted(reader.get_batch(number), schema)
        yield fitted(misfit, schema)


@dataclass(frozen=True)
class PartitionWork(Work):
    """Takes one partition through neighbouring document-by-document stages, reading it from its source or from a view."""

    partition: Partition = field(kw_only=True)
    options: ReadOptions | None = field(kw_only=True)
    view: View | None = field(kw_only=True)
    stages: tuple[tuple[str, StageSpec], ...] = field(kw_only=True)
    limit: int | None = field(kw_only=True)
    """Documents after which reading stops."""

    def fill(self, receipt: Receipt) -> None:
        """See `Work`."""
        receipt.partition = self.partition.name
        names = [READ] * (self.options is not None) + [name for name, _ in self.stages]
        receipt.stages = {name: StageCount() for name in names}
        loaded = [(name, spec.load()) for name, spec in self.stages]
        ledger_file = self.new_file(receipt, "ledger.arrows")
        ledger = LedgerWriter(ledger_file)
        holds_text = self.options is not None or any(
            isinstance(stage, Transform) and stage.edits for _, stage in loaded
        )
        added = dict.fromkeys(name for _, stage in loaded for name in stage.adds)  # two stages may add one column

        def kept_batches() -> Iterator[pa.RecordBatch]:
            types: dict[str, pa.DataType] = {}
            for documents, rows in self._batches(receipt):
                survivors = self._judge(documents, rows, loaded, receipt, types)
                ledger.write(rows.table())
                receipt.failures += rows.failures(known=len(receipt.failures))
                if survivors.num_rows:
                    yield survivors if holds_text else survivors.select(["position", *added])

        held = "documents" if holds_text else "kept"
        with ledger_file:
            documents_file = self.write_documents(
                receipt, f"{held}.arrow", kept_batches(), compression="lz4" if holds_text else None
            )
            ledger.close()
        receipt.columns = ledger.columns
        receipt.outputs[held] = documents_file.output
        receipt.outputs["ledger"] = ledger_file.output
        self._check(receipt, names)

    def _batches(self, receipt: Receipt) -> Iterator[tuple[pa.RecordBatch, BatchLedger]]:
        """Batches of documents, each with its ledger rows begun: what was read (and what became of it there)."""
        if self.options is None:
            assert self.view is not None
            for documents in self.view.batches(self.store, view_columns(self.store, self.view), None):
                yield documents, BatchLedger(documents.column("position"))
            return
        with open_input(self.partition.path) as file:
            batches = read(
                file,
                path=self.partition.path,
                options=self.options,
                start=self.partition.start,
                end=self.partition.end,
            )
            for documents, verdicts in batches:
                check_verdicts(READ, verdicts, documents.num_rows)
                if self.limit is not None:
                    documents, verdicts = head(documents, verdicts, self.limit - receipt.stages[READ].kept)
                rows = BatchLedger(documents.column("position"))
                if rows.positions.to_pylist()[:1] not in ([], [receipt.size]):
                    raise RunError(f"{self.partition.name}: positions do not go on where the last batch ended")
                receipt.size += documents.num_rows
                told = {name: documents.column(name) for name in ("url", "date", "metadata")}
                rows.add(READ, np.arange(documents.num_rows), verdicts, told | verdicts.measures)
                size = content_bytes(documents)
                kept = account(receipt.stages[READ], verdicts, size, size)
                located = with_columns(documents, {"offset": verdicts.measures["offset"]})
                yield located.filter(pa.array(kept)), rows
                if receipt.stages[READ].kept == self.limit:
                    return

    def _judge(
        self,
        documents: pa.RecordBatch,
        rows: BatchLedger,
        stages: list[tuple[str, Any]],
        receipt: Receipt,
        types: dict[str, pa.DataType],
    ) -> pa.RecordBatch:
        """Takes a batch through the stages. None is given a batch without documents, which could tell nothing, and of whose
        columns Arrow would infer types that mean nothing. `types`: of the documents' columns as they left each stage so far.
        """
        places = np.searchsorted(rows.positions.to_numpy(), documents.column("position").to_numpy())
        for name, stage in stages:
            if not documents.num_rows:
                break
            before = content_bytes(documents)
            if isinstance(stage, Filter):
                verdicts = stage.judge(documents)
            else:
                documents, verdicts = stage.apply(documents)
            check_verdicts(name, verdicts, len(before))
            if documents.num_rows != len(before):
                raise RunError(f"stage {name!r} gave back {documents.num_rows} documents for {len(before)}")
            measures = {f"{name}:{measure}": column for measure, column in verdicts.measures.items()}
            rows.add(name, places, verdicts, measures)
            if isinstance(stage, Filter):
                documents = with_columns(documents, {column: verdicts.measures[column] for column in stage.adds})
            documents = with_known_types(documents, stage)
            take_types(types, name, documents)
            kept = account(receipt.stages[name], verdicts, before, content_bytes(documents))
            documents = documents.filter(pa.array(kept))
            places = places[kept]
            if (column := column_of(stage)) is not None:
                account_routes(receipt.stages[name], documents.column(column), content_bytes(documents))
        return documents

    def _check(self, receipt: Receipt, names: list[str]) -> None:
        for one, other in pairwise(names):
            if receipt.stages[one].kept != receipt.stages[other].entered:
                raise RunError(f"{self.partition.name}: {one!r} kept more or fewer documents than {other!r} saw")


@dataclass(frozen=True)
class GatherWork(Work):
    """One task of one phase of a gather; it is the `Workbench` that the phase is given."""

    node: str = field(kw_only=True)
    spec: StageSpec = field(kw_only=True)
    phase: str = field(kw_only=True)
    task: str = field(kw_only=True)
    corpus: Corpus = field(kw_only=True)
    partition: str | None = field(kw_only=True)
    view: View | None = field(kw_only=True)
    reads: dict[tuple[str, str], dict[str, Output]] = field(kw_only=True)
    wired_files: dict[str, Output] = field(kw_only=True)
    earlier: list[EarlierFiles] = field(kw_only=True)

    def fill(self, receipt: Receipt) -> None:
        """See `Work`."""
        stage = self.spec.load()
        assert isinstance(stage, Gather)
        phase = next(phase for phase in stage.phases() if phase.name == self.phase)
        receipt.partition = self.partition
        bench = GatherBench(self, receipt, publishes=phase.publishes)
        try:
            phase.run(bench)
            bench.finish(judges=phase.judges and not phase.edits)
        except BaseException:
            bench.abort()
            raise


class GatherBench:
    """`stages.stage.Workbench` over the files of a run."""

    def __init__(self, work: GatherWork, receipt: Receipt, *, publishes: bool) -> None:
        self.task = work.task
        self.corpus = work.corpus
        self.fingerprint = receipt.fingerprint
        self._work = work
        self._receipt = receipt
        self._store = work.store
        self._publishes = publishes
        self._created: dict[str, AtomicFile] = {}
        self._judged: list[npt.NDArray[np.int32]] = []
        self._kept: list[pa.RecordBatch] = []
        self._adds = work.spec.load().adds
        self._types: dict[str, pa.DataType] = {}
        self._ledger: LedgerWriter | None = None

    def documents(self, columns: Any) -> Iterator[pa.RecordBatch]:
        """See `Workbench`."""
        view = self._view()
        yield from view.batches(self._store, list(columns), None)

    def _view(self) -> View:
        if self._work.view is None:
            raise RunError(
                f"phase {self._work.phase!r} of {self._work.node!r} is not over partitions or reads no documents"
            )
        return self._work.view

    def _outputs(self, phase: str, task: str) -> dict[str, Output]:
        if (phase, task) not in self._work.reads:
            raise RunError(
                f"phase {self._work.phase!r} of {self._work.node!r} does not declare that it reads {phase}/{task}"
            )
        return self._work.reads[phase, task]

    def table(self, phase: str, task: str, columns: Any = None) -> pa.Table:
        """See `Workbench`."""
        path = self._outputs(phase, task)["table"].path
        return read_columns(self._store, path, columns)

    def file(self, phase: str, task: str, name: str) -> Any:
        """See `Workbench`."""
        return self._store.open(self._outputs(phase, task)[f"file:{name}"].path)

    def earlier(self, number: int, columns: Any) -> pa.Table:
        """See `Workbench`."""
        if number >= len(self._work.earlier):
            raise RunError(
                f"phase {self._work.phase!r} of {self._work.node!r} does not declare that it reads earlier runs"
            )
        return self._work.earlier[number].table(list(columns))

    def wired(self, name: str) -> Any:
        """See `Workbench`."""
        if f"file:{name}" not in self._work.wired_files:
            raise RunError(f"the stage that {self._work.node!r} takes {name!r} from has not published it")
        return self._store.open(self._work.wired_files[f"file:{name}"].path)

    def write(self, batches: Any, schema: pa.Schema) -> None:
        """See `Workbench`."""
        if "table" in self._created:
            raise RunError(f"phase {self._work.phase!r} of {self._work.node!r} writes its table twice")
        file = self._created["table"] = self._work.new_file(self._receipt, "table.arrow")
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches.to_batches() if isinstance(batches, pa.Table) else batches:
                writer.write_batch(batch)

    def create(self, name: str) -> Any:
        """See `Workbench`."""
        published = f"{self._work.node}/{name}"
        file = self._store.create(published) if self._publishes else self._work.new_file(self._receipt, name)
        self._created[f"file:{name}"] = file
        return file

    def judge(self, positions: npt.NDArray[np.int32], verdicts: Verdicts) -> None:
        """See `Workbench`."""
        kept = self._judge(positions, verdicts)
        self._judged.append(positions)
        if len(positions):
            added = {name: verdicts.measures[name] for name in self._adds}
            batch = pa.record_batch({"position": pa.array(positions, pa.int32()), **added})
            self._kept.append(batch.filter(pa.array(kept)))

    def _judge(
        self,
        positions: npt.NDArray[np.int32],
        verdicts: Verdicts,
        before: pa.RecordBatch | None = None,
        after: pa.RecordBatch | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Enters verdicts into ledger and counts; bytes of the documents before and after, where they are at hand."""
        name = self._work.node
        check_verdicts(name, verdicts, len(positions))
        if self._ledger is None:
            file = self._created["ledger"] = self._work.new_file(self._receipt, "ledger.arrows")
            self._ledger = LedgerWriter(file)
        if len(positions):  # the measures of none have no types
            rows = BatchLedger(pa.array(positions, pa.int32()))
            measures = {f"{name}:{measure}": column for measure, column in verdicts.measures.items()}
            rows.add(name, np.arange(len(positions)), verdicts, measures)
            self._ledger.write(rows.table())
        count = self._receipt.stages.setdefault(name, StageCount())
        sizes = (
            np.zeros(len(positions), np.int64) if batch is None else content_bytes(batch) for batch in (before, after)
        )
        return account(count, verdicts, *sizes)

    def edit(self, change: Callable[[pa.RecordBatch], tuple[pa.RecordBatch, Verdicts]]) -> None:
        """See `Workbench`."""
        view = self._view()

        def changed() -> Iterator[pa.RecordBatch]:
            for documents in view.batches(self._store, view_columns(self._store, view), None):
                edited, verdicts = change(documents)
                if edited.num_rows != documents.num_rows:
                    raise RunError(
                        f"{self._work.node!r} gave back {edited.num_rows} documents for {documents.num_rows}"
                    )
                edited = with_known_types(edited, self._work.spec.load())
                take_types(self._types, self._work.node, edited)
                self._judge(documents.column("position").to_numpy(), verdicts, documents, edited)
                yield edited.filter(pa.array(verdicts.fate == KEPT))

        file = self._work.write_documents(self._receipt, "documents.arrow", changed(), compression="lz4")
        self._created["documents"] = file
        self._close_ledger()

    def _close_ledger(self) -> None:
        if self._ledger is None:
            self._judge(np.empty(0, np.int32), Verdicts.all_kept(0))
        assert self._ledger is not None
        self._ledger.close()
        self._receipt.columns = self._ledger.columns

    def note(self, **facts: Any) -> None:
        """See `Workbench`."""
        self._receipt.notes.update(facts)

    def abort(self) -> None:
        """Throws away every file that was begun."""
        for file in self._created.values():
            if not file.closed:
                file.abort()

    def finish(self, *, judges: bool) -> None:
        """Closes all files and enters them in the receipt."""
        if judges:
            self._finish_judging()
        for name, file in self._created.items():
            file.close()
            self._receipt.outputs[name] = file.output

    def _finish_judging(self) -> None:
        view = self._view()
        empty = np.empty(0, np.int32)
        if not np.array_equal(np.concatenate([empty, *self._judged]), view.positions(self._store)):
            raise RunError(f"{self._work.node!r} must judge all documents of {self._work.partition}, ascending, once")
        self._close_ledger()
        whole = joined([pa.record_batch({"position": pa.array(empty)}), *self._kept]).combine_chunks()
        kept = whole.column("position").to_numpy()
        file = self._work.write_documents(self._receipt, "kept.arrow", iter(whole.to_batches()), compression=None)
        self._created["kept"] = file
        count = self._receipt.stages[self._work.node]
        for documents in view.batches(self._store, ["position", "text"], None):
            size = content_bytes(documents)
            count.bytes_entered += int(size.sum())
            stays = np.isin(documents.column("position").to_numpy(), kept, assume_unique=True)
            count.bytes_kept += int(size[stays].sum())


def with_columns(documents: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """The documents with columns added, or replaced where they have one of the name."""
    arrays = dict(zip(documents.schema.names, documents.columns, strict=True)) | columns
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def with_known_types(documents: pa.RecordBatch, stage: Stage) -> pa.RecordBatch:
    """The documents that a stage gave back, where it left a column of the runner's own without a type because all is null."""
    known = dict(KNOWN_TYPES)
    if (column := column_of(stage)) is not None:
        known[column] = pa.string()
    untyped = [column.name for column in documents.schema if column.type == pa.null() and column.name in known]
    return with_columns(documents, {name: documents.column(name).cast(known[name]) for name in untyped})


def take_types(types: dict[str, pa.DataType], stage: str, documents: pa.RecordBatch) -> None:
    """Enters the types of the columns of documents as a stage gave them back. Raises `RunError` where they do not go together
    with those of batches before."""
    for column in documents.schema:
        key = f"{stage}:{column.name}"
        types[key] = widened(types.get(key, column.type), column.type, key)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of no rows."""
    return pa.RecordBatch.from_pylist([], schema)


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the schema that holds it, or with a wider one where that does not."""
    return joined([empty_batch(schema), batch]).combine_chunks().to_batches()[0]


def write_batches(file: Any, batches: Iterator[pa.RecordBatch], *, compression: str | None) -> pa.RecordBatch | None:
    """Writes batches as an Arrow IPC file; the first gives the schema, and none leaves a file of no rows.

    Ends at a batch that the schema does not hold, and gives that back.
    """
    options = pa.ipc.IpcWriteOptions(compression=compression)
    first = next(batches, None)
    schema = EMPTY_SCHEMA if first is None else first.schema
    with pa.ipc.new_file(file, schema, options=options) as writer:
        for batch in batches if first is None else chain([first], batches):
            fit = batch if batch.schema == schema else fitted(batch, schema)
            if fit.schema != schema:
                return batch
            writer.write_batch(fit)
    return None


def hold_to_threads(threads: int) -> None:
    """Holds the numeric libraries of this process to a number of threads."""
    pa.set_cpu_count(threads)
    pa.set_io_thread_count(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"


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
