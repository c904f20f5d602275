"""One task of one phase of a corpus stage, and what the phase is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.pipeline.storage.documents import View, read_columns, view_columns, write_batches
from tokenmill.pipeline.storage.ledger_writer import (
    BatchLedger,
    LedgerWriter,
    account,
    check_verdicts,
    content_bytes,
)
from tokenmill.pipeline.storage.receipts import Receipt, StageCount
from tokenmill.pipeline.storage.store import AtomicFile, Output
from tokenmill.pipeline.tasks.previous_run_files import PreviousRunFiles
from tokenmill.pipeline.tasks.task import Task
from tokenmill.stages.stage import KEPT, Corpus, CorpusStage, Verdicts


@dataclass(frozen=True)
class PhaseTask(Task):
    """One task of one phase of a gather; it is the `TaskContext` that the phase is given."""

    node: str = field(kw_only=True)
    spec: StageSpec = field(kw_only=True)
    phase: str = field(kw_only=True)
    task: str = field(kw_only=True)
    corpus: Corpus = field(kw_only=True)
    partition: str | None = field(kw_only=True)
    view: View | None = field(kw_only=True)
    reads: dict[tuple[str, str], dict[str, Output]] = field(kw_only=True)
    wired_files: dict[str, Output] = field(kw_only=True)
    earlier: list[PreviousRunFiles] = field(kw_only=True)

    def fill(self, receipt: Receipt) -> None:
        """See `Task`."""
        stage = self.spec.load()
        assert isinstance(stage, CorpusStage)
        phase = next(phase for phase in stage.phases() if phase.name == self.phase)
        receipt.partition = self.partition
        context = RunTaskContext(self, receipt, publishes=phase.publishes)
        try:
            phase.run(context)
            context.finish(judges=phase.judges and not phase.modifies_text)
        except BaseException:
            context.abort()
            raise


class RunTaskContext:
    """`stages.stage.TaskContext` over the files of a run."""

    def __init__(self, work: PhaseTask, receipt: Receipt, *, publishes: bool) -> None:
        self.task = work.task
        self.corpus = work.corpus
        self.fingerprint = receipt.fingerprint
        self._work = work
        self._receipt = receipt
        self._store = work.store
        self._publishes = publishes
        self._created: dict[str, AtomicFile] = {}
        self._judged: list[npt.NDArray[np.int32]] = []
        self._kept: list[npt.NDArray[np.int32]] = []
        self._added: dict[str, list[pa.Array]] = {name: [] for name in work.spec.load().adds}
        self._ledger: LedgerWriter | None = None

    def documents(self, columns: Any) -> Iterator[pa.RecordBatch]:
        """See `TaskContext`."""
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
        """See `TaskContext`."""
        path = self._outputs(phase, task)["table"].path
        return read_columns(self._store, path, columns)

    def file(self, phase: str, task: str, name: str) -> Any:
        """See `TaskContext`."""
        return self._store.open(self._outputs(phase, task)[f"file:{name}"].path)

    def previous_run(self, number: int, columns: Any) -> pa.Table:
        """See `TaskContext`."""
        if number >= len(self._work.earlier):
            raise RunError(
                f"phase {self._work.phase!r} of {self._work.node!r} does not declare that it reads previous runs"
            )
        return self._work.earlier[number].table(list(columns))

    def artifact(self, name: str) -> Any:
        """See `TaskContext`."""
        if f"file:{name}" not in self._work.wired_files:
            raise RunError(f"the stage that {self._work.node!r} takes {name!r} from has not published it")
        return self._store.open(self._work.wired_files[f"file:{name}"].path)

    def write(self, batches: Any, schema: pa.Schema) -> None:
        """See `TaskContext`."""
        if "table" in self._created:
            raise RunError(f"phase {self._work.phase!r} of {self._work.node!r} writes its table twice")
        file = self._created["table"] = self._work.new_file(self._receipt, "table.arrow")
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches.to_batches() if isinstance(batches, pa.Table) else batches:
                writer.write_batch(batch)

    def create(self, name: str) -> Any:
        """See `TaskContext`."""
        published = f"{self._work.node}/{name}"
        file = self._store.create(published) if self._publishes else self._work.new_file(self._receipt, name)
        self._created[f"file:{name}"] = file
        return file

    def judge(self, positions: npt.NDArray[np.int32], verdicts: Verdicts) -> None:
        """See `TaskContext`."""
        kept = self._judge(positions, verdicts)
        self._judged.append(positions)
        self._kept.append(positions[kept])
        for name, pieces in self._added.items():
            pieces.append(verdicts.measures[name].filter(pa.array(kept)))

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
            file = self._created["ledger"] = self._work.new_file(self._receipt, "ledger.parquet")
            self._ledger = LedgerWriter(file)
        rows = BatchLedger(pa.array(positions, pa.int32()))
        measures = {f"{name}:{measure}": column for measure, column in verdicts.measures.items()}
        rows.add(name, np.arange(len(positions)), verdicts, measures)
        self._receipt.columns = list(measures)
        self._ledger.write(rows.table())
        count = self._receipt.stages.setdefault(name, StageCount())
        sizes = (
            np.zeros(len(positions), np.int64) if batch is None else content_bytes(batch) for batch in (before, after)
        )
        return account(count, verdicts, *sizes)

    def transform(self, change: Callable[[pa.RecordBatch], tuple[pa.RecordBatch, Verdicts]]) -> None:
        """See `TaskContext`."""
        view = self._view()
        file = self._created["documents"] = self._work.new_file(self._receipt, "documents.arrow")

        def changed() -> Iterator[pa.RecordBatch]:
            for documents in view.batches(self._store, view_columns(self._store, view), None):
                edited, verdicts = change(documents)
                if edited.num_rows != documents.num_rows:
                    raise RunError(
                        f"{self._work.node!r} gave back {edited.num_rows} documents for {documents.num_rows}"
                    )
                self._judge(documents.column("position").to_numpy(), verdicts, documents, edited)
                yield edited.filter(pa.array(verdicts.fate == KEPT))

        write_batches(file, changed(), compression="lz4")
        self._close_ledger()

    def _close_ledger(self) -> None:
        if self._ledger is None:
            self._judge(np.empty(0, np.int32), Verdicts.all_kept(0))
        assert self._ledger is not None
        self._ledger.close()

    def add_metrics(self, **facts: Any) -> None:
        """See `TaskContext`."""
        self._receipt.metrics.update(facts)

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
        kept = np.concatenate([empty, *self._kept])
        file = self._created["kept"] = self._work.new_file(self._receipt, "kept.arrow")
        added = {name: pa.concat_arrays(pieces) for name, pieces in self._added.items() if pieces}
        batch = pa.record_batch({"position": pa.array(kept, pa.int32()), **added})
        write_batches(file, iter([batch]), compression=None)
        count = self._receipt.stages[self._work.node]
        for documents in view.batches(self._store, ["position", "text"], None):
            size = content_bytes(documents)
            count.bytes_entered += int(size.sum())
            stays = np.isin(documents.column("position").to_numpy(), kept, assume_unique=True)
            count.bytes_kept += int(size[stays].sum())
