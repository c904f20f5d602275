"""The tasks of a step that works document by document: one a partition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenmill.pipeline.graph.dag import Step
from tokenmill.pipeline.run.document_views import DocumentViews
from tokenmill.pipeline.run.fingerprint import describe
from tokenmill.pipeline.run.run_setup import RunSetup
from tokenmill.pipeline.tasks.partition_task import PartitionTask
from tokenmill.stages.readers.options import READ_VERSION, ReadOptions


def partition_tasks(setup: RunSetup, views: DocumentViews, step: Step) -> Iterator[PartitionTask]:
    """In canonical order."""
    stages = tuple((node.name, node.spec) for node in step.nodes)
    described = [describe(name, spec) for name, spec in stages]
    options = {
        name: ReadOptions(**source.model_dump(exclude={"path"}))
        for name, source in setup.config.sources.items()
        if name in step.reads
    }
    for partition in setup.reaching(step.nodes[-1].name if step.nodes else step.inputs[0]):
        view = None
        inputs: dict[str, Any] = {"stages": described}
        if partition.source in options:
            inputs["read"] = {
                "version": READ_VERSION,
                "options": options[partition.source].model_dump(),
                "partition": partition.name,
                "file": partition.identity,
            }
            if setup.limit is not None:
                inputs["read"]["limit"] = setup.limit
        else:
            view = views.entering(step.inputs, partition)
            assert view is not None
            inputs["documents"] = views.digest(view)
        yield PartitionTask(
            store=setup.store,
            step=step.name,
            key=partition.folder,
            inputs=inputs,
            import_paths=setup.import_paths,
            partition=partition,
            options=options.get(partition.source),
            view=view,
            stages=stages,
            limit=setup.limit,
        )
