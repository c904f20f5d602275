"""What a stage is: a frozen config with pure functions over Arrow batches.

A stage knows nothing of Ray, of file systems or of clocks. Three kinds:

* `Filter` decides which documents to keep; for each dropped one it gives the rule, the value and the threshold;
* `Transform` changes documents, and may drop some (pages without text, for example);
* `CorpusStage` needs the whole corpus: it is a list of `Phase`s, each a set of tasks over partitions or over keys.

A batch of documents is a `pa.RecordBatch` with at least

===========  ==========  ==============================================================================
``position``  int32       index of the document in its partition; with the partition it is the identity
``url``       string      where the document came from; empty string where unknown
``offset``    int64       where in the input file its record begins (bytes, or a row number in Parquet)
``date``      timestamp   when the document was made or fetched, in seconds, UTC; null where unknown
``metadata``  string      what else a JSONL or Parquet row says, as one JSON object; null where there is nothing
``text``      string      main text, UTF-8 (from text sources and after extraction)
``html``      binary      page as transferred (only between reading and extraction); null for text documents
===========  ==========  ==============================================================================

and the columns that earlier stages declare in `adds` (``language``, for example). A batch may have no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tokenmill.stages.report import Section, StageRun, StageSummary

KEPT, DROPPED, FAILED = 0, 1, 2
"""Fates of a document in one stage, the values of `Verdicts.fate`."""

DATE = pa.timestamp("s", tz="UTC")
"""Type of the column `date`."""


@dataclass(frozen=True)
class Verdicts:
    """A stage's decision on each of the `n` documents of a batch, in the batch's order.

    `fate`: uint8, shape (n,), of `KEPT`, `DROPPED`, `FAILED`. `rule`: string (n,), the rule that dropped the document or
    the reason why it failed, null where kept. `value` and `threshold`: float64 (n,), the measured value and the one that it
    was compared with, null where there is no number. `message`: string (n,), null except for failures, for people.
    `measures`: ledger columns, each of length n (null where a document was not measured).
    """

    fate: npt.NDArray[np.uint8]
    rule: pa.Array
    value: pa.Array
    threshold: pa.Array
    message: pa.Array
    measures: dict[str, pa.Array] = field(default_factory=dict)

    @staticmethod
    def all_kept(count: int, measures: Mapping[str, pa.Array] | None = None) -> Verdicts:
        """All of `count` documents are kept."""
        return Verdicts.of(np.zeros(count, np.uint8), measures=measures)

    @staticmethod
    def of(
        fate: npt.NDArray[np.uint8],
        *,
        rule: pa.Array | Sequence[str | None] | None = None,
        value: npt.NDArray[np.float64] | None = None,
        threshold: npt.NDArray[np.float64] | None = None,
        message: pa.Array | Sequence[str | None] | None = None,
        measures: Mapping[str, pa.Array] | None = None,
    ) -> Verdicts:
        """Builds verdicts from plain arrays; numbers of kept documents and NaN become null."""
        count = len(fate)

        def strings(given: pa.Array | Sequence[str | None] | None) -> pa.Array:
            if given is None:
                return pa.nulls(count, pa.string())
            return given if isinstance(given, pa.Array) else pa.array(given, pa.string())

        def numbers(given: npt.NDArray[np.float64] | None) -> pa.Array:
            if given is None:
                return pa.nulls(count, pa.float64())
            return pa.array(given, pa.float64(), mask=(fate == KEPT) | np.isnan(given))

        return Verdicts(fate, strings(rule), numbers(value), numbers(threshold), strings(message), dict(measures or {}))


@dataclass(frozen=True)
class ThresholdRule:
    """A rule that compares one measure: it drops documents below (`is_least`) or above the threshold.

    `where`: a measure and its value, for a rule that applies to the documents with that value alone.
    """

    rule: str
    measure: str
    threshold: float
    is_least: bool
    where: tuple[str, str] | None = None


class NotMeasured(ValueError):
    """The ledger does not tell what a stage would decide under another config; the message says why."""


class Stage(BaseModel):
    """A node of the DAG: its pydantic fields are the keys of its config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1
    """Part of every fingerprint: raise it when the same config would give another output."""
    needs: ClassVar[tuple[str, ...]] = ("text",)
    """Document columns that the stage reads."""
    adds: ClassVar[tuple[str, ...]] = ()
    """Document columns that later stages may read."""
    routes_by: ClassVar[str | None] = None
    """The column of `adds` by whose values a config may route its documents: `from: name[value]`. None for a `CorpusStage`."""
    ends_step: ClassVar[bool] = False
    """Whether a step ends after this stage, so that what follows can change without it."""
    keeps_all: ClassVar[bool] = False
    """Whether it keeps every document that reaches it."""
    refers_to: ClassVar[tuple[str, ...]] = ()
    """Measures that name other documents, by their ledger ids; reports take all other texts for categories."""
    text_bytes_measure: ClassVar[str | None] = None
    """The measure that says how many bytes of text a document has, if any."""
    tokens_measure: ClassVar[str | None] = None
    """The measure that says how many tokens a document has, if any."""

    def columns_needed(self) -> Sequence[str]:
        """Document columns that it reads under this config."""
        return self.needs

    def model_files(self) -> tuple[Path, ...]:
        """Files outside the config that decide the output; their digests are part of the fingerprint."""
        return ()

    def routes(self) -> Sequence[str] | None:
        """The values that `routes_by` can have in documents that it keeps; None where the config does not tell."""
        return None

    def notices(self) -> Sequence[str]:
        """What people should know of this config before and after a run, in sentences. Raises ValueError for files outside the
        config that it cannot use, OSError."""
        return ()

    def thresholds(self) -> Sequence[ThresholdRule]:
        """Its rules that compare one measure with a threshold, for reports."""
        return ()

    def reevaluate(self, measures: Mapping[str, pa.Array], measured_by: Self) -> Verdicts:
        """What this config would decide on documents that the stage measured under another, from those measures alone.

        `measures`: the ledger's columns, under the names that the stage gave them. Raises `NotMeasured` where this config would
        measure something else, or the stage decides by more than its measures.
        """
        raise NotMeasured("it decides by more than the ledger holds")

    def left_unknown(self, name: str) -> str | None:
        """What nobody knows without a run where other documents than in the last one would reach this stage, in a sentence that
        names it; None where the ledger tells all."""
        return None

    def summary(self, run: StageRun) -> StageSummary:
        """What it says of a run in few words."""
        return StageSummary()

    def report_sections(self, run: StageRun) -> Sequence[Section]:
        """What it adds to the page of a finished run."""
        return ()


class Filter(Stage):
    """Keeps or drops documents and does not change them; the columns of `adds` are taken from the measures."""

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        raise NotImplementedError


class Transform(Stage):
    """Returns changed documents: the same rows in the same order, with a verdict for each."""

    @property
    def modifies_text(self) -> bool:
        """Whether documents may come back changed under this config; where no stage of a step changes any, only the positions
        of the kept ones are written, as for filters."""
        return True

    def apply(self, documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
        raise NotImplementedError


@dataclass(frozen=True)
class PartitionInfo:
    """One partition, as a corpus stage sees it.

    `number`: its place in canonical order. `kept`: documents that reach this stage. `text_bytes`: their UTF-8 bytes.
    `size`: documents in the partition before any stage, so that every position is below it. `path`: its input file.
    """

    number: int
    name: str
    source: str
    kept: int
    text_bytes: int
    size: int
    path: str = ""


@dataclass(frozen=True)
class PreviousPartition:
    """One partition of a previous run (see `CorpusStage.previous_runs`).

    `number`: its place among the partitions of all previous runs. `run`: that run's folder. `kept`: documents that the run
    kept in the end. `size`: as in `PartitionInfo`.
    """

    number: int
    run: str
    name: str
    kept: int
    size: int


@dataclass(frozen=True)
class Corpus:
    """What is known of the whole corpus before a task starts.

    `parts`: all partitions in canonical order, `parts[i].number == i`. `metrics`: phase -> task key -> the task's metrics,
    for all finished phases of this stage; the keys of `metrics[phase]` are that phase's tasks, in order. `previous`: the
    partitions of previous runs, run by run in the order in which the config names them. `sampled`: whether the run is over a
    sample (to try out a config), in which a split may have no document.
    """

    parts: Sequence[PartitionInfo]
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]
    previous: Sequence[PreviousPartition] = ()
    sampled: bool = False
    _every: dict[tuple[str, ...], list[tuple[str, str]]] = field(default_factory=dict, compare=False, repr=False)

    def every(self, *phases: str) -> list[tuple[str, str]]:
        """All tasks of some phases, in order, as `Phase.reads` returns them: the same list each time."""
        if phases not in self._every:
            self._every[phases] = [(phase, task) for phase in phases for task in self.metrics[phase]]
        return self._every[phases]


class TaskContext(Protocol):
    """What a task of a corpus stage may read and where it may write. The runner keeps the files."""

    task: str
    """This task's key: the partition's number as decimal text in phases over partitions, else one of `Phase.keys`."""
    corpus: Corpus
    fingerprint: str
    """Hex digest of all inputs of this task's output."""

    def documents(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The documents of this task's partition that reach the stage, ascending by position, in bounded batches.

        `columns`: of `position`, `url`, `date`, `metadata`, `text` and what the stages before add. Phases over partitions only.
        """

    def table(self, phase: str, task: str, columns: Sequence[str] | None = None) -> pa.Table:
        """What a task of an earlier phase (declared in `Phase.reads`) wrote.

        Memory-mapped where the store is local, so that a column which is not read costs nothing. A table without rows
        exists too, with its schema.
        """

    def file(self, phase: str, task: str, name: str) -> BinaryIO:
        """A file that a task of an earlier phase (declared in `Phase.reads`) created, opened for reading."""

    def previous_run(self, number: int, columns: Sequence[str]) -> pa.Table:
        """What a previous run's stage wrote for a partition of that run, in the phase that `CorpusStage.index` names: the rows
        of the documents that the run kept.

        `number`: of the partition in `Corpus.previous`. The table has a column `position`. Phases that declare
        `Phase.reads_previous_runs` only.
        """

    def artifact(self, name: str) -> BinaryIO:
        """A file published by the node that `CorpusStage.artifact_from` asks for (`tokenizer.json`)."""

    def write(self, batches: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        """Writes this task's table, as uncompressed Arrow IPC so that it can be memory-mapped. At most once a task."""

    def create(self, name: str) -> BinaryIO:
        """A new file of this task's output, for what is not a table (a tokenizer, a shard)."""

    def judge(self, positions: npt.NDArray[np.int32], verdicts: Verdicts) -> None:
        """Takes the verdicts on this partition's documents: all that reach the stage, ascending, in one or several calls.

        In the phase with `judges` only; a stage without such a phase keeps every document.
        """

    def transform(self, change: Callable[[pa.RecordBatch], tuple[pa.RecordBatch, Verdicts]]) -> None:
        """Changes all documents that reach the stage, with all their columns, by `change`, which is as `Transform.apply`.

        In the phase with `modifies_text` only, once, instead of `documents` and `judge`.
        """

    def add_metrics(self, **metrics: Any) -> None:
        """Adds small JSON-able values: for `Corpus.metrics` of later phases and for the report."""


Reads = Callable[[str, Corpus], Sequence[tuple[str, str]]]
"""Task key and corpus -> the (phase, task) pairs whose output the task reads."""


def no_reads(task: str, corpus: Corpus) -> Sequence[tuple[str, str]]:
    """The default of `Phase.reads`: the task reads no other task's output."""
    return ()


def reads_every(*phases: str) -> Reads:
    """For `Phase.reads`: the outputs of all tasks of some phases."""
    return lambda task, corpus: corpus.every(*phases)


@dataclass(frozen=True)
class Phase:
    """One phase of a corpus stage; `run` is called once a task, each task in a process of its own.

    `keys`: the task keys (letters, digits, `-`, `_`), from parts and metrics of earlier phases; None: one task a partition.
    `reads`: (phase, task) pairs whose tables, files and metrics a task reads. `reads_documents`: whether it calls `documents`
    (only then does a task over a partition depend on its text). `uses_corpus`: whether a task over a partition reads
    `TaskContext.corpus` (tasks over keys always may): if so it runs again whenever a partition is added, removed or changes
    in count. `reads_previous_runs`: whether it calls `previous_run`. `judges`: whether it calls `judge`, or with
    `modifies_text` `transform`. `publishes`: whether its files are the node's product and belong in RUN/<node>/.
    `whole_machine`: whether its only task may use all processors.
    """

    name: str
    run: Callable[[TaskContext], None]
    keys: Callable[[Corpus], Sequence[str]] | None = None
    reads: Reads = no_reads
    reads_documents: bool = False
    uses_corpus: bool = False
    reads_previous_runs: bool = False
    judges: bool = False
    modifies_text: bool = False
    publishes: bool = False
    whole_machine: bool = False


class CorpusStage(Stage):
    """A stage that needs the whole corpus. Its phases run one after the other, the tasks of each in parallel."""

    artifact_from: ClassVar[str | None] = None
    """Kind of the nearest node above whose published files this one reads (`tokenizer`), if any."""
    is_end: ClassVar[bool] = False
    """Whether a document that it keeps counts as kept by the run, whatever else the config has."""
    index: ClassVar[str | None] = None
    """The phase over partitions whose tables later runs may read, see `previous_runs`."""

    def previous_runs(self) -> Sequence[str]:
        """Folders of finished runs whose kept documents this stage takes into account; each has a stage of this class."""
        return ()

    def incompatibility(self, previous: Self) -> str | None:
        """Why the tables of a previous run's stage cannot be used with this one's, naming both settings; None if they can."""
        return None

    def phases(self) -> Sequence[Phase]:
        """The phases, in order; a function of the config alone."""
        raise NotImplementedError
