"""What a run consists of: for each step its tasks, each with everything that decides its output; and what is done already.

The state knows nothing of Ray: it makes tasks for a step once the receipts of the steps before are entered, and compares
their fingerprints with the receipts that lie in the run folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tokenmill.pipeline.graph.config import RunConfig
from tokenmill.pipeline.graph.dag import Dag, Node, Step, build_dag
from tokenmill.pipeline.graph.partitions import Partition, list_partitions
from tokenmill.pipeline.graph.routes import column_of, split_input
from tokenmill.pipeline.graph.sampling import sampled, share
from tokenmill.pipeline.run.fingerprint import describe
from tokenmill.pipeline.run.previous_runs import find_previous_runs
from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.documents import Held, Routed, Selected, View, union_of, view_digest
from tokenmill.pipeline.storage.ledger_columns import ledger_names
from tokenmill.pipeline.storage.receipts import READ, Receipt, fingerprint
from tokenmill.pipeline.storage.store import Output, Store
from tokenmill.pipeline.tasks.ledger_task import LedgerTask
from tokenmill.pipeline.tasks.partition_task import PartitionTask
from tokenmill.pipeline.tasks.phase_task import PhaseTask
from tokenmill.pipeline.tasks.previous_run_files import PreviousRunFiles
from tokenmill.pipeline.tasks.task import Task
from tokenmill.stages.readers.options import ReadOptions, format_of, provides
from tokenmill.stages.readers.reader import READ_VERSION
from tokenmill.stages.stage import Corpus, CorpusStage, PartitionInfo

LEDGER_STEP = "ledger"


def folder_name(partition: Partition) -> str:
    """A partition's folder: readable, and unique by a digest of the whole name."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", partition.name)[-80:].strip("-")
    return f"{readable}-{fingerprint({'name': partition.name})[:8]}"


@dataclass
class StepStatus:
    """The tasks of a step: those that are done, and for the others why they must run."""

    step: str
    done: list[tuple[Task, Receipt]] = field(default_factory=list)
    pending: list[tuple[Task, str]] = field(default_factory=list)


@dataclass
class RunState:
    """The plan of a run, and what is known of it so far."""

    config: RunConfig
    dag: Dag
    store: Store
    partitions: list[Partition]
    import_paths: tuple[str, ...] = ()
    receipts: dict[str, dict[str, Receipt]] = field(default_factory=dict)
    """Step -> task folder -> receipt, for the steps that are finished."""
    earlier: dict[str, list[PreviousRunFiles]] = field(default_factory=dict)
    """Node -> what it uses of earlier runs, in order."""

    @classmethod
    def of(cls, config: RunConfig, where: str) -> RunState:
        """Reads the inputs' names and checks the DAG. Raises `ConfigError`."""
        partitions = list_partitions(config.sources, where)
        given = {
            name: {provides(format_of(p.path, source)) for p in partitions if p.source == name}
            for name, source in config.sources.items()
        }
        dag = build_dag(config, where, given)
        earlier = {name: find_previous_runs(node, config.output, where) for name, node in dag.nodes.items()}
        read = partitions if config.sample is None else sampled(partitions)
        return cls(config, dag, Store(config.output), read, earlier=earlier)

    @property
    def limit(self) -> int | None:
        """Documents that reading keeps of each partition at most, in a run on a sample."""
        return None if self.config.sample is None else share(self.config.sample, len(self.partitions))

    @cached_property
    def steps(self) -> list[Step]:
        """The steps in order, without the final joining of the ledger."""
        return self.dag.steps()

    @cached_property
    def step_names(self) -> list[str]:
        """Names of all steps in order."""
        return [step.name for step in self.steps] + [LEDGER_STEP]

    def reaching(self, name: str) -> list[Partition]:
        """The partitions whose documents can reach a node, in canonical order."""
        sources = self.dag.sources_of(name)
        return [partition for partition in self.partitions if partition.source in sources]

    def status(self, name: str) -> StepStatus:
        """The tasks of a step, given that the steps before are finished."""
        status = StepStatus(name)
        for work in self.tasks(name):
            receipt = receipts.load(self.store, work.step, work.key)
            if receipt is None:
                status.pending.append((work, "not run yet"))
            elif receipt.fingerprint != fingerprint(work.inputs):
                cause = receipts.difference(receipt.inputs, work.inputs) or "its receipt was edited"
                status.pending.append((work, cause))
            elif missing := [o.path for o in receipt.outputs.values() if not self.store.exists(o.path)]:
                status.pending.append((work, f"{missing[0]} is gone"))
            else:
                status.done.append((work, receipt))
        return status

    def enter(self, step: str, finished: Mapping[str, Receipt]) -> None:
        """Tells the state that a step is finished."""
        self.receipts[step] = dict(finished)

    def tasks(self, name: str) -> Iterator[Task]:
        """All tasks of a step, in canonical order."""
        if name == LEDGER_STEP:
            yield from self._ledger_tasks()
            return
        step = next(step for step in self.steps if step.name == name)
        if step.phase is None:
            yield from self._partition_tasks(step)
        else:
            yield from self._gather_tasks(step)

    def view(self, name: str, partition: Partition) -> View | None:
        """The documents of a partition as they leave a source or a node; None where they are read on the way."""
        folder = folder_name(partition)
        if name in self.dag.sources:
            read = self.receipts.get(f"read-{name}", {}).get(folder)
            return Held(read.outputs["documents"].path) if read else None
        node = self.dag.nodes[name]
        receipt = next((r for r in (self.receipts[s].get(folder) for s in self._ends_in(name)) if r), None)
        if receipt and "documents" in receipt.outputs:
            return Held(receipt.outputs["documents"].path)
        base = self._view_of_inputs(self._chain_start(name), partition)
        if receipt is None or "kept" not in receipt.outputs or (isinstance(node.stage, CorpusStage) and base is None):
            return base
        assert base is not None
        return Selected(base, receipt.outputs["kept"].path)

    def _ends_in(self, name: str) -> list[str]:
        """The steps whose output is what the node gives: the one that it is fused into, or its judging phase."""
        return [
            step.name
            for step in self.steps
            if step.nodes and step.nodes[-1].name == name and (step.phase is None or step.phase.judges)
        ]

    def _chain_start(self, name: str) -> tuple[str, ...]:
        step = next(step for step in self.steps if step.nodes and step.nodes[-1].name == name)
        return step.inputs

    def _view_of_inputs(self, inputs: Sequence[str], partition: Partition) -> View | None:
        views: list[View] = []
        for name, values in map(split_input, inputs):
            reaches = partition.source in self.dag.sources_of(name)
            if reaches and (view := self.view(name, partition)) is not None:
                column = column_of(self.dag.nodes[name].stage) if values else None
                views.append(Routed(view, column, values) if column else view)
        return union_of(views) if views else None

    def _checksums(self, view: View) -> list[str]:
        known = {
            output.path: output.checksum
            for by_task in self.receipts.values()
            for receipt in by_task.values()
            for output in receipt.outputs.values()
        }
        return view_digest(view, known)

    @cached_property
    def _by_step(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    def _partition_tasks(self, step: Step) -> Iterator[Task]:
        stages = tuple((node.name, node.spec) for node in step.nodes)
        described = [describe(name, spec) for name, spec in stages]
        end = step.nodes[-1].name if step.nodes else step.inputs[0]
        for partition in self.reaching(end):
            view = None
            options = None
            inputs: dict[str, Any] = {"stages": described}
            if partition.source in step.reads:
                source = self.config.sources[partition.source]
                options = ReadOptions(**source.model_dump(exclude={"path"}))
                inputs["read"] = {
                    "version": READ_VERSION,
                    "options": options.model_dump(),
                    "partition": partition.name,
                    "file": partition.identity,
                }
                if self.limit is not None:
                    inputs["read"]["limit"] = self.limit
            else:
                view = self._view_of_inputs(step.inputs, partition)
                assert view is not None
                inputs["documents"] = self._checksums(view)
            yield PartitionTask(
                store=self.store,
                step=step.name,
                key=folder_name(partition),
                inputs=inputs,
                import_paths=self.import_paths,
                partition=partition,
                options=options,
                view=view,
                stages=stages,
                limit=self.limit,
            )

    def corpus(self, node: Node) -> Corpus:
        """The corpus as a gather sees it, with the notes of its finished phases."""
        parts = [
            PartitionInfo(number, p.name, p.source, *self._reaching_counts(node.inputs, p), self._size(p), p.path)
            for number, p in enumerate(self.reaching(node.name))
        ]
        numbers = {folder_name(p): str(number) for number, p in enumerate(self.reaching(node.name))}
        metrics: dict[str, dict[str, Mapping[str, Any]]] = {}
        for step in self.steps:
            if step.phase and step.nodes[0].name == node.name and step.name in self.receipts:
                keyed = step.phase.keys is not None
                metrics[step.phase.name] = {
                    folder if keyed else numbers[folder]: receipt.metrics
                    for folder, receipt in self.receipts[step.name].items()
                }
        earlier = [files.part for files in self.earlier[node.name]]
        return Corpus(parts, metrics, earlier, sampled=self.limit is not None)

    def _reaching_counts(self, inputs: Sequence[str], partition: Partition) -> tuple[int, int]:
        kept = size = 0
        for name, values in map(split_input, inputs):
            if partition.source in self.dag.sources_of(name):
                one = self._leaving_counts(name, values, partition)
                kept, size = kept + one[0], size + one[1]
        return kept, size

    def _leaving_counts(self, name: str, values: tuple[str, ...], partition: Partition) -> tuple[int, int]:
        folder = folder_name(partition)
        counted = READ if name in self.dag.sources else name
        for step in self.steps:
            receipt = self.receipts.get(step.name, {}).get(folder)
            mine = name in (node.name for node in step.nodes) or step.name == f"read-{name}"
            if mine and receipt and counted in receipt.stages:
                return receipt.stages[counted].kept_of(values)
        return self._reaching_counts(self.dag.nodes[name].inputs, partition)

    def _size(self, partition: Partition) -> int:
        folder = folder_name(partition)
        return max((by[folder].size for by in self.receipts.values() if folder in by), default=0)

    def _gather_tasks(self, step: Step) -> Iterator[Task]:
        phase, node = step.phase, step.nodes[0]
        assert phase is not None
        corpus = self.corpus(node)
        corpus_digest = fingerprint(
            {"parts": [repr(part) for part in corpus.parts]} | ({"sampled": True} if corpus.sampled else {})
        )
        partitions = self.reaching(node.name)
        folders = {str(number): folder_name(p) for number, p in enumerate(partitions)}
        described = describe(node.name, node.spec)
        earlier = self.earlier[node.name] if phase.reads_previous_runs else []
        artifact = self._published(node.artifact) if node.artifact else {}
        places: list[tuple[str, Partition | None]]
        if phase.keys is None:
            places = [(str(number), partition) for number, partition in enumerate(partitions)]
        else:
            places = [(key, None) for key in phase.keys(corpus)]
        for task, partition in places:
            inputs: dict[str, Any] = {"stages": [described], "phase": phase.name, "task": "" if partition else task}
            reads: dict[tuple[str, str], dict[str, Output]] = {}
            read_digests: dict[str, Any] = {}
            for other, key in phase.reads(task, corpus):
                over_keys = self._by_step[f"{node.name}.{other}"].phase.keys is not None  # type: ignore[union-attr]
                receipt = self.receipts[f"{node.name}.{other}"][key if over_keys else folders[key]]
                reads[other, key] = receipt.outputs
                read_digests[f"{other}/{key if over_keys else folders[key]}"] = receipt.digest()
            inputs["reads"] = fingerprint(read_digests)
            if phase.keys is not None or phase.uses_corpus:
                inputs["corpus"] = corpus_digest
            if earlier:
                inputs["earlier"] = fingerprint({"parts": [files.checksums for files in earlier]})
            if artifact:
                inputs["wired"] = {name: output.checksum for name, output in sorted(artifact.items())}
            view = None
            if partition and (phase.reads_documents or phase.judges):
                view = self._view_of_inputs(node.inputs, partition)
                assert view is not None
                inputs["documents"] = self._checksums(view)
                inputs["partition"] = partition.name
            yield PhaseTask(
                store=self.store,
                step=step.name,
                key=folder_name(partition) if partition else task,
                inputs=inputs,
                import_paths=self.import_paths,
                threads=0 if phase.whole_machine else 1,
                node=node.name,
                spec=node.spec,
                phase=phase.name,
                task=task,
                corpus=corpus,
                partition=partition.name if partition else None,
                view=view,
                reads=reads,
                wired_files=artifact,
                earlier=earlier,
            )

    def _published(self, name: str) -> dict[str, Output]:
        files: dict[str, Output] = {}
        for step in self.steps:
            if step.phase and step.phase.publishes and step.nodes[0].name == name:
                for receipt in self.receipts[step.name].values():
                    files |= {key: out for key, out in receipt.outputs.items() if key.startswith("file:")}
        return files

    def published_paths(self) -> dict[str, set[str]]:
        """For each publishing node the files that its folder should hold, and those of the ledger."""
        paths: dict[str, set[str]] = {}
        for step in self.steps:
            if step.phase and step.phase.publishes and step.name in self.receipts:
                mine = paths.setdefault(step.nodes[0].name, set())
                for receipt in self.receipts[step.name].values():
                    mine |= {o.path for key, o in receipt.outputs.items() if key.startswith("file:")}
        ledger = self.receipts.get(LEDGER_STEP, {})
        paths[LEDGER_STEP] = {output.path for receipt in ledger.values() for output in receipt.outputs.values()}
        return paths

    def sinks(self) -> list[str]:
        """The nodes at which a document counts as kept: those that make shards, else those that nothing follows."""
        shards = [
            node.name for node in self.dag.nodes.values() if isinstance(node.stage, CorpusStage) and node.artifact
        ]
        if shards:
            return shards
        return [name for name in self.dag.nodes if not self.dag.consumers(name)]

    def _ledger_tasks(self) -> Iterator[Task]:
        names = ledger_names(
            column for by_task in self.receipts.values() for receipt in by_task.values() for column in receipt.columns
        )
        for partition in self.partitions:
            folder = folder_name(partition)
            parts, stages = [], []
            for step in self.steps:
                receipt = self.receipts[step.name].get(folder)
                if receipt and "ledger" in receipt.outputs:
                    parts.append(receipt.outputs["ledger"])
                    stages.append(step.nodes[-1].name if step.nodes else READ)
            view = self._view_of_inputs(self.sinks(), partition)
            yield LedgerTask(
                store=self.store,
                step=LEDGER_STEP,
                key=folder,
                inputs={
                    "parts": [part.checksum for part in parts],
                    "stages": stages,
                    "columns": names,
                    "kept": self._checksums(view) if view else [],
                    "partition": partition.name,
                },
                import_paths=self.import_paths,
                partition=partition,
                parts=tuple(part.path for part in parts),
                stages=tuple(stages),
                names=names,
                view=view,
            )
