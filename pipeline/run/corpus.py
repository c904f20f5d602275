"""The corpus as the tasks of a corpus stage see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenmill.pipeline.graph.dag import Node
from tokenmill.pipeline.run.document_views import DocumentViews
from tokenmill.pipeline.run.finished_steps import FinishedSteps
from tokenmill.pipeline.run.run_setup import RunSetup
from tokenmill.pipeline.storage.receipts import fingerprint
from tokenmill.stages.stage import Corpus, PartitionInfo


def corpus_of(setup: RunSetup, finished: FinishedSteps, views: DocumentViews, node: Node) -> Corpus:
    """The partitions that reach a corpus stage, with the metrics of its finished phases."""
    partitions = setup.reaching(node.name)
    infos = [
        PartitionInfo(
            number,
            partition.name,
            partition.source,
            *views.counts_entering(node.inputs, partition),
            finished.sizes.get(partition.folder, 0),
            partition.path,
        )
        for number, partition in enumerate(partitions)
    ]
    numbers = {partition.folder: str(number) for number, partition in enumerate(partitions)}
    metrics: dict[str, dict[str, Mapping[str, Any]]] = {}
    for step in setup.steps:
        if step.phase and step.nodes[0].name == node.name and step.name in finished.receipts:
            is_over_keys = step.phase.keys is not None
            metrics[step.phase.name] = {
                task if is_over_keys else numbers[task]: receipt.metrics
                for task, receipt in finished.receipts[step.name].items()
            }
    previous = [files.part for files in setup.previous_runs[node.name]]
    return Corpus(infos, metrics, previous, sampled=setup.limit is not None)


def corpus_digest(corpus: Corpus) -> str:
    """What of a corpus decides the output of a task that looks at it, beside what it reads."""
    return fingerprint({"parts": [repr(part) for part in corpus.parts]} | ({"sampled": True} if corpus.sampled else {}))
