"""One task of one phase of a corpus stage, and what the phase is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.pipeline.storage.documents import View, read_columns
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.storage.store import AtomicFile, Output
from tokenmill.pipeline.tasks.judge_batch import Change
from tokenmill.pipeline.tasks.judged_documents import JudgedDocuments
from tokenmill.pipeline.tasks.previous_run_files import PreviousRunFiles
from tokenmill.pipeline.tasks.task import Task
from tokenmill.stages.stage import Corpus, CorpusStage, Phase, Verdicts


@dataclass(frozen=True)
class PhaseFacts:
    """What all tasks of a phase are told alike. `outputs`: of the tasks of earlier phases, by phase and the task's key;
    `artifact`: files of another node; `previous`: partitions of previous runs."""

    corpus: Corpus
    outputs: dict[str, dict[str, dict[str, Output]]]
    artifact: dict[str, Output]
    previous: list[PreviousRunFiles]


@dataclass(frozen=True)
class PhaseTask(Task):
    """One task of one phase of a corpus stage."""

    node: str = field(kw_only=True)
    spec: StageSpec = field(kw_only=True)
    phase: str = field(kw_only=True)
    task: str = field(kw_only=True)
    partition: str | None = field(kw_only=True)
    view: View | None = field(kw_only=True)
    shared: PhaseFacts = field(kw_only=True)

    def fill(self, receipt: Receipt) -> None:
        """See `Task`."""
        stage = self.spec.load()
        assert isinstance(stage, CorpusStage)
        phase = next(phase for phase in stage.phases() if phase.name == self.phase)
        receipt.partition = self.partition
        context = RunTaskContext(self, receipt, phase)
        try:
            phase.run(context)
            context.finish(judges=phase.judges, modifies_text=phase.modifies_text)
        except BaseException:
            context.abort()
            raise


class RunTaskContext:
    """`stages.stage.TaskContext` over the files of a run."""

    def __init__(self, task: PhaseTask, receipt: Receipt, phase: Phase) -> None:
        self.task = task.task
        self.corpus = task.shared.corpus
        self.fingerprint = receipt.fingerprint
        self._task = task
        self._receipt = receipt
        self._store = task.store
        self._phase = phase
        self._created: dict[str, AtomicFile] = {}

    @property
    def _where(self) -> str:
        return f"phase {self._task.phase!r} of {self._task.node!r}"

    @property
    def _view(self) -> View:
        if self._task.view is None:
            raise RunError(f"{self._where} is not over partitions or reads no documents")
        return self._task.view

    def documents(self, columns: Any) -> Iterator[pa.RecordBatch]:
        """See `TaskContext`."""
        yield from self._view.batches(self._store, list(columns), None)

    def table(self, phase: str, task: str, columns: Any = None) -> pa.Table:
        """See `TaskContext`."""
        return read_columns(self._store, self._read(phase, task)["table"].path, columns)

    def file(self, phase: str, task: str, name: str) -> Any:
        """See `TaskContext`."""
        return self._store.open(self._read(phase, task)[f"file:{name}"].path)

    def _read(self, phase: str, task: str) -> dict[str, Output]:
        if (phase, task) not in self._declared:
            raise RunError(f"{self._where} does not declare that it reads {phase}/{task}")
        return self._task.shared.outputs[phase][task]

    @cached_property
    def _declared(self) -> set[tuple[str, str]]:
        return {*self._phase.reads(self.task, self.corpus)}

    def previous_run(self, number: int, columns: Any) -> pa.Table:
        """See `TaskContext`."""
        if number >= len(self._task.shared.previous):
            raise RunError(f"{self._where} does not declare that it reads previous runs")
        return self._task.shared.previous[number].table(list(columns))

    def artifact(self, name: str) -> Any:
        """See `TaskContext`."""
        if f"file:{name}" not in self._task.shared.artifact:
            raise RunError(f"the stage that {self._task.node!r} takes {name!r} from has not published it")
        return self._store.open(self._task.shared.artifact[f"file:{name}"].path)

    def write(self, batches: Any, schema: pa.Schema) -> None:
        """See `TaskContext`."""
        if "table" in self._created:
            raise RunError(f"{self._where} writes its table twice")
        with pa.ipc.new_file(self._new_file("table", "table.arrow"), schema) as writer:
            for batch in batches.to_batches() if isinstance(batches, pa.Table) else batches:
                writer.write_batch(batch)

    def create(self, name: str) -> Any:
        """See `TaskContext`."""
        if not self._phase.publishes:
            return self._new_file(f"file:{name}", name)
        file = self._created[f"file:{name}"] = self._store.create(f"{self._task.node}/{name}")
        return file

    def _write_documents(self, output: str, batches: Iterator[pa.RecordBatch], *, compression: str | None) -> None:
        name = f"{output}.arrow"
        self._created[output] = self._task.write_documents(self._receipt, name, batches, compression=compression)

    def _new_file(self, output: str, name: str) -> AtomicFile:
        file = self._created[output] = self._task.new_file(self._receipt, name)
        return file

    @cached_property
    def _judged(self) -> JudgedDocuments:
        adds = self._task.spec.load().adds
        return JudgedDocuments(self._task.node, adds, self._receipt, self._new_file("ledger", "ledger.arrows"))

    def judge(self, positions: npt.NDArray[np.int32], verdicts: Verdicts) -> None:
        """See `TaskContext`."""
        self._judged.add(positions, verdicts)

    def transform(self, change: Change) -> None:
        """See `TaskContext`."""
        edited = self._judged.edited(self._store, self._view, change)
        self._write_documents("documents", edited, compression="lz4")

    def add_metrics(self, **facts: Any) -> None:
        """See `TaskContext`."""
        self._receipt.metrics.update(facts)

    def abort(self) -> None:
        """Throws away every file that was begun."""
        for file in self._created.values():
            if not file.closed:
                file.abort()

    def finish(self, *, judges: bool, modifies_text: bool) -> None:
        """Closes all files and enters them in the receipt."""
        if judges:
            self._judged.close()
            if not modifies_text:
                self._write_documents("kept", self._judged.kept(self._store, self._view), compression=None)
        for name, file in self._created.items():
            file.close()
            self._receipt.outputs[name] = file.output
