"""The tasks that join the ledger: one a partition."""

from __future__ import annotations

from collections.abc import Iterator

from tokenmill.pipeline.run.document_views import DocumentViews
from tokenmill.pipeline.run.finished_steps import FinishedSteps
from tokenmill.pipeline.run.run_setup import RunSetup
from tokenmill.pipeline.storage.column_types import type_name
from tokenmill.pipeline.storage.ledger_columns import ledger_names, measure_types
from tokenmill.pipeline.storage.receipts import LEDGER
from tokenmill.pipeline.tasks.ledger_task import LedgerTask


def ledger_tasks(setup: RunSetup, finished: FinishedSteps, views: DocumentViews) -> Iterator[LedgerTask]:
    """In canonical order."""
    types = measure_types(finished.measures)
    names = ledger_names(types)
    sinks = setup.sinks()
    for partition in setup.partitions:
        parts = finished.ledger_parts.get(partition.folder, [])
        stages = [stage for _, stage in parts]
        view = views.entering(sinks, partition)
        yield LedgerTask(
            store=setup.store,
            step=LEDGER,
            key=partition.folder,
            inputs={
                "parts": [part.checksum for part, _ in parts],
                "stages": stages,
                "columns": names,
                "types": {column: type_name(kind) for column, kind in types.items()},
                "kept": views.digest(view) if view else [],
                "partition": partition.name,
            },
            import_paths=setup.import_paths,
            partition=partition,
            parts=tuple(part.path for part, _ in parts),
            stages=tuple(stages),
            names=names,
            types=types,
            view=view,
        )
