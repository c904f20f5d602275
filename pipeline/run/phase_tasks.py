"""The tasks of one phase of a corpus stage: one a partition, or one a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenmill.pipeline.graph.dag import Step
from tokenmill.pipeline.graph.partitions import Partition
from tokenmill.pipeline.run.corpus import corpus_digest, corpus_of
from tokenmill.pipeline.run.document_views import DocumentViews
from tokenmill.pipeline.run.fingerprint import describe
from tokenmill.pipeline.run.finished_steps import FinishedSteps
from tokenmill.pipeline.run.run_setup import RunSetup
from tokenmill.pipeline.storage.receipts import fingerprint
from tokenmill.pipeline.storage.store import Output
from tokenmill.pipeline.tasks.phase_task import PhaseTask


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
    task_names = _TaskNames(setup, node.name, partitions)
    places: list[tuple[str, Partition | None]]
    if phase.keys is None:
        places = [(str(number), partition) for number, partition in enumerate(partitions)]
    else:
        places = [(key, None) for key in phase.keys(corpus)]
    for key, partition in places:
        inputs: dict[str, Any] = {"stages": [described], "phase": phase.name, "task": "" if partition else key}
        reads: dict[tuple[str, str], dict[str, Output]] = {}
        digests: dict[str, str] = {}
        for read, read_key in phase.reads(key, corpus):
            read_step, task = f"{node.name}.{read}", task_names.of(read, read_key)
            reads[read, read_key] = finished.receipts[read_step][task].outputs
            digests[f"{read}/{task}"] = finished.digests[read_step][task]
        inputs["reads"] = fingerprint(digests)
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
            corpus=corpus,
            partition=partition.name if partition else None,
            view=view,
            reads=reads,
            artifact=artifact,
            previous=previous,
        )


class _TaskNames:
    """The folders of a corpus stage's tasks: a phase over partitions names them by number, one over keys by the key."""

    def __init__(self, setup: RunSetup, node: str, partitions: list[Partition]) -> None:
        self._folders = {str(number): partition.folder for number, partition in enumerate(partitions)}
        phases = (step.phase for step in setup.steps if step.phase and step.nodes[0].name == node)
        self._over_keys = {phase.name for phase in phases if phase.keys is not None}

    def of(self, phase: str, key: str) -> str:
        return key if phase in self._over_keys else self._folders[key]
