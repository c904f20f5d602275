"""The tasks of one phase of a corpus stage: one a partition, or one a key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tokenmill.pipeline.graph.dag import Step
from tokenmill.pipeline.graph.partitions import Partition
from tokenmill.pipeline.run.corpus import corpus_digest, corpus_of
from tokenmill.pipeline.run.document_views import DocumentViews
from tokenmill.pipeline.run.fingerprint import describe
from tokenmill.pipeline.run.finished_steps import FinishedSteps
from tokenmill.pipeline.run.run_setup import RunSetup
from tokenmill.pipeline.storage.receipts import digest_of, fingerprint
from tokenmill.pipeline.storage.store import Output
from tokenmill.pipeline.tasks.phase_task import PhaseFacts, PhaseTask


def phase_tasks(setup: RunSetup, finished: FinishedSteps, views: DocumentViews, step: Step) -> Iterator[PhaseTask]:
    """In canonical order, or in that of the keys."""
    phase, node = step.phase, step.nodes[0]
    assert phase is not None
    corpus = corpus_of(setup, finished, views, node)
    digest_of_corpus = corpus_digest(corpus)
    described = describe(node.name, node.spec)
    previous = setup.previous_runs[node.name] if phase.reads_previous_runs else []
    digest_of_previous = fingerprint({"parts": [files.checksums for files in previous]})
    artifact = finished.published.get(node.artifact, {}) if node.artifact else {}
    partitions = setup.reaching(node.name)
    reads = _Reads(setup, finished, node.name, partitions)
    shared = PhaseFacts(corpus, reads.outputs, artifact, previous)
    places: list[tuple[str, Partition | None]]
    if phase.keys is None:
        places = [(str(number), partition) for number, partition in enumerate(partitions)]
    else:
        places = [(key, None) for key in phase.keys(corpus)]
    for key, partition in places:
        inputs: dict[str, Any] = {"stages": [described], "phase": phase.name, "task": "" if partition else key}
        inputs["reads"] = reads.digest(phase.reads(key, corpus))
        if phase.keys is not None or phase.uses_corpus:
            inputs["corpus"] = digest_of_corpus
        if previous:
            inputs["previous_runs"] = digest_of_previous
        if artifact:
            inputs["artifact"] = {name: output.checksum for name, output in sorted(artifact.items())}
        view = None
        if partition and (phase.reads_documents or phase.judges):
            view = views.entering(node.inputs, partition)
            assert view is not None
            inputs["documents"] = views.digest(view)
            inputs["partition"] = partition.name
        yield PhaseTask(
            store=setup.store,
            step=step.name,
            key=partition.folder if partition else key,
            inputs=inputs,
            import_paths=setup.import_paths,
            threads=0 if phase.whole_machine else 1,
            node=node.name,
            spec=node.spec,
            phase=phase.name,
            task=key,
            partition=partition.name if partition else None,
            view=view,
            shared=shared,
        )


class _Reads:
    """What the tasks of a corpus stage's finished phases left, by the keys that a phase names them by: a partition's number, or
    the key itself."""

    def __init__(self, setup: RunSetup, finished: FinishedSteps, node: str, partitions: list[Partition]) -> None:
        numbers = {partition.folder: str(number) for number, partition in enumerate(partitions)}
        self.outputs: dict[str, dict[str, dict[str, Output]]] = {}
        self._digests: dict[str, dict[str, str]] = {}
        self._whole: dict[int, tuple[Sequence[tuple[str, str]], str]] = {}
        for step in setup.steps:
            if step.phase is None or step.nodes[0].name != node or step.name not in finished.receipts:
                continue
            by_task, digests = finished.receipts[step.name], finished.digests[step.name]
            keys = {task: task if step.phase.keys is not None else numbers[task] for task in by_task}
            self.outputs[step.phase.name] = {keys[task]: receipt.outputs for task, receipt in by_task.items()}
            self._digests[step.phase.name] = {keys[task]: f"{task} {digest}" for task, digest in digests.items()}

    def digest(self, reads: Sequence[tuple[str, str]]) -> str:
        """What decides the outputs that a task reads. Tasks that read the same list (`Corpus.every`) share its digest."""
        known = self._whole.get(id(reads))
        if known is None:
            known = reads, digest_of(f"{phase} {self._digests[phase][key]}" for phase, key in reads)
            self._whole[id(reads)] = known  # with the list itself, so that no other takes its place in memory
        return known[1]
