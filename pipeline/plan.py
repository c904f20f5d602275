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

import orjson

from pipeline import receipts
from pipeline.column_types import type_name
from pipeline.config import RunConfig
from pipeline.dag import Dag, Node, StageSpec, Step, build_dag, own_source_digest
from pipeline.documents import Held, Routed, Selected, View, union_of, view_digest
from pipeline.earlier import find_earlier
from pipeline.earlier_files import EarlierFiles
from pipeline.errors import ConfigError
from pipeline.ledger import LedgerWork, ledger_names, measure_types
from pipeline.partitions import Partition, list_partitions
from pipeline.receipts import Receipt, fingerprint
from pipeline.routes import column_of, split_input
from pipeline.sampling import sampled, share
from pipeline.store import Output, Store
from pipeline.tasks import READ, GatherWork, PartitionWork, Work
from stages.read import READ_VERSION, ReadOptions, format_of, provides
from stages.stage import Corpus, Gather, Part

LEDGER_STEP = "ledger"


def folder_name(partition: Partition) -> str:
    """A partition's folder: readable, and unique by a digest of the whole name."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", partition.name)[-80:].strip("-")
    return f"{readable}-{fingerprint({'name': partition.name})[:8]}"


@dataclass
class Survey:
    """The tasks of a step: those that are done, and for the others why they must run."""

    step: str
    done: list[tuple[Work, Receipt]] = field(default_factory=list)
    pending: list[tuple[Work, str]] = field(default_factory=list)


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
    earlier: dict[str, list[EarlierFiles]] = field(default_factory=dict)
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
        earlier = {name: find_earlier(node, config.output, where) for name, node in dag.nodes.items()}
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

    def survey(self, name: str) -> Survey:
        """The tasks of a step, given that the steps before are finished."""
        survey = Survey(name)
        for work in self.tasks(name):
            receipt = receipts.load(self.store, work.step, work.key)
            if receipt is None:
                survey.pending.append((work, "not run yet"))
            elif receipt.fingerprint != fingerprint(work.made_by):
                cause = receipts.difference(receipt.made_by, work.made_by) or "its receipt was edited"
                survey.pending.append((work, cause))
            elif missing := [o.path for o in receipt.outputs.values() if not self.store.exists(o.path)]:
                survey.pending.append((work, f"{missing[0]} is gone"))
            else:
                survey.done.append((work, receipt))
        return survey

    def enter(self, step: str, finished: Mapping[str, Receipt]) -> None:
        """Tells the state that a step is finished."""
        self.receipts[step] = dict(finished)

    def tasks(self, name: str) -> Iterator[Work]:
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
        if receipt is None or "kept" not in receipt.outputs or (isinstance(node.stage, Gather) and base is None):
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

    def _partition_tasks(self, step: Step) -> Iterator[Work]:
        stages = tuple((node.name, node.spec) for node in step.nodes)
        described = [describe(name, spec) for name, spec in stages]
        end = step.nodes[-1].name if step.nodes else step.inputs[0]
        for partition in self.reaching(end):
            view = None
            options = None
            made_by: dict[str, Any] = {"stages": described}
            if partition.source in step.reads:
                source = self.config.sources[partition.source]
                options = ReadOptions(**source.model_dump(exclude={"path"}))
                made_by["read"] = {
                    "version": READ_VERSION,
                    "options": options.model_dump(),
                    "partition": partition.name,
                    "file": partition.identity,
                }
                if self.limit is not None:
                    made_by["read"]["limit"] = self.limit
            else:
                view = self._view_of_inputs(step.inputs, partition)
                assert view is not None
                made_by["documents"] = self._checksums(view)
            yield PartitionWork(
                store=self.store,
                step=step.name,
                key=folder_name(partition),
                made_by=made_by,
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
            Part(number, p.name, p.source, *self._reaching_counts(node.inputs, p), self._size(p), p.path)
            for number, p in enumerate(self.reaching(node.name))
        ]
        numbers = {folder_name(p): str(number) for number, p in enumerate(self.reaching(node.name))}
        notes: dict[str, dict[str, Mapping[str, Any]]] = {}
        for step in self.steps:
            if step.phase and step.nodes[0].name == node.name and step.name in self.receipts:
                keyed = step.phase.keys is not None
                notes[step.phase.name] = {
                    folder if keyed else numbers[folder]: receipt.notes
                    for folder, receipt in self.receipts[step.name].items()
                }
        earlier = [files.part for files in self.earlier[node.name]]
        return Corpus(parts, notes, earlier, sampled=self.limit is not None)

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

    def _gather_tasks(self, step: Step) -> Iterator[Work]:
        phase, node = step.phase, step.nodes[0]
        assert phase is not None
        corpus = self.corpus(node)
        corpus_digest = fingerprint(
            {"parts": [repr(part) for part in corpus.parts]} | ({"sampled": True} if corpus.sampled else {})
        )
        partitions = self.reaching(node.name)
        folders = {str(number): folder_name(p) for number, p in enumerate(partitions)}
        described = describe(node.name, node.spec)
        earlier = self.earlier[node.name] if phase.reads_earlier else []
        wired = self._published(node.wired) if node.wired else {}
        places: list[tuple[str, Partition | None]]
        if phase.keys is None:
            places = [(str(number), partition) for number, partition in enumerate(partitions)]
        else:
            places = [(key, None) for key in phase.keys(corpus)]
        for task, partition in places:
            made_by: dict[str, Any] = {"stages": [described], "phase": phase.name, "task": "" if partition else task}
            reads: dict[tuple[str, str], dict[str, Output]] = {}
            read_digests: dict[str, Any] = {}
            for other, key in phase.reads(task, corpus):
                over_keys = self._by_step[f"{node.name}.{other}"].phase.keys is not None  # type: ignore[union-attr]
                receipt = self.receipts[f"{node.name}.{other}"][key if over_keys else folders[key]]
                reads[other, key] = receipt.outputs
                read_digests[f"{other}/{key if over_keys else folders[key]}"] = receipt.digest()
            made_by["reads"] = fingerprint(read_digests)
            if phase.keys is not None or phase.uses_corpus:
                made_by["corpus"] = corpus_digest
            if earlier:
                made_by["earlier"] = fingerprint({"parts": [files.checksums for files in earlier]})
            if wired:
                made_by["wired"] = {name: output.checksum for name, output in sorted(wired.items())}
            view = None
            if partition and (phase.reads_documents or phase.judges):
                view = self._view_of_inputs(node.inputs, partition)
                assert view is not None
                made_by["documents"] = self._checksums(view)
                made_by["partition"] = partition.name
            yield GatherWork(
                store=self.store,
                step=step.name,
                key=folder_name(partition) if partition else task,
                made_by=made_by,
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
                wired_files=wired,
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
        shards = [node.name for node in self.dag.nodes.values() if isinstance(node.stage, Gather) and node.wired]
        if shards:
            return shards
        return [name for name in self.dag.nodes if not self.dag.consumers(name)]

    def _ledger_tasks(self) -> Iterator[Work]:
        types = measure_types(receipt for by_task in self.receipts.values() for receipt in by_task.values())
        names = ledger_names(types)
        for partition in self.partitions:
            folder = folder_name(partition)
            parts, stages = [], []
            for step in self.steps:
                receipt = self.receipts[step.name].get(folder)
                if receipt and "ledger" in receipt.outputs:
                    parts.append(receipt.outputs["ledger"])
                    stages.append(step.nodes[-1].name if step.nodes else READ)
            view = self._view_of_inputs(self.sinks(), partition)
            yield LedgerWork(
                store=self.store,
                step=LEDGER_STEP,
                key=folder,
                made_by={
                    "parts": [part.checksum for part in parts],
                    "stages": stages,
                    "columns": names,
                    "types": {column: type_name(kind) for column, kind in types.items()},
                    "kept": self._checksums(view) if view else [],
                    "partition": partition.name,
                },
                import_paths=self.import_paths,
                partition=partition,
                parts=tuple(part.path for part in parts),
                stages=tuple(stages),
                names=names,
                types=types,
                view=view,
            )


def describe(name: str, spec: StageSpec) -> dict[str, Any]:
    """What of a stage decides its output: its class, version, config, model files, and for a user's own its code.

    Raises `ConfigError` for a model file that cannot be read, or that the stage cannot work with.
    """
    stage = spec.load()
    models = []
    for path in stage.model_files():
        try:
            models.append([path.name, receipts.file_digest(path)])
        except OSError as error:
            raise ConfigError(f"stages.{name}: {path}: cannot be read: {error.strerror}") from error
    try:
        stage.remarks()
    except ValueError as error:
        raise ConfigError(f"stages.{name}: {error}") from error
    described: dict[str, Any] = {
        "name": name,
        "class": spec.class_path,
        "version": stage.version,
        "config": orjson.loads(spec.config),
        "models": models,
    }
    if code := own_source_digest(spec.class_path):
        described["code"] = code
    return described
