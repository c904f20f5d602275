"""A run as each of its stages is shown it, and what the stages say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.pipeline.storage.documents import read_columns
from tokenmill.pipeline.storage.parquet_io import open_parquet
from tokenmill.pipeline.storage.receipts import StageCount
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.stages.stage import Stage


class StageRunView:
    """`stages.report.StageRun` over a run's folder. `counts`: what the stage counted, by source."""

    def __init__(self, run: RunFolder, name: str, counts: Mapping[str, StageCount]) -> None:
        self.name = name
        self.sources = {source: (count.entered, count.kept) for source, count in counts.items()}
        self._run = run

    @cached_property
    def metrics(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """See `StageRun`."""
        return {
            step.removeprefix(f"{self.name}."): {receipt.task: receipt.metrics for receipt in found}
            for step, found in self._run.receipts.items()
            if step.rpartition(".")[0] == self.name and any(receipt.metrics for receipt in found)
        }

    def ledger(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `StageRun`."""
        names = {measure: column for column, measure in self._run.measure_columns(self.name).items()}
        wanted = [names.get(column, column) for column in columns]
        for path in self._run.ledger_paths if self._run.is_complete else ():
            with self._run.store.open(path) as file:
                parquet = open_parquet(file)
                if set(wanted) <= set(parquet.schema_arrow.names):
                    for batch in parquet.iter_batches(columns=wanted, use_threads=False):
                        yield batch.select(wanted).rename_columns(list(columns))

    @cached_property
    def _tables(self) -> dict[tuple[str, str], str]:
        return {
            (receipt.step, receipt.partition): receipt.outputs["table"].path
            for receipt in self._run.all_receipts
            if receipt.partition is not None and "table" in receipt.outputs
        }

    def table(self, phase: str, partition: str, columns: Sequence[str]) -> pa.Table | None:
        """See `StageRun`."""
        path = self._tables.get((f"{self.name}.{phase}", partition))
        store = self._run.store
        if path is None or store.local is None or not store.exists(path):
            return None
        return read_columns(store, path, list(columns))

    def file(self, name: str) -> BinaryIO | None:
        """See `StageRun`."""
        try:
            return self._run.store.open(f"{self.name}/{name}")
        except FileNotFoundError:
            return None


def load_stages(run: RunFolder) -> tuple[dict[str, Stage], list[str]]:
    """The stages of a run by name, and for each that cannot be loaded any more a sentence that says so: a module of the user's
    own, or a file that its config names, may be gone."""
    stages: dict[str, Stage] = {}
    lost = []
    for name, node in run.described["nodes"].items():
        try:
            stages[name] = StageSpec(node["uses"], orjson.dumps(node["config"]).decode()).load()
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            lost.append(f"{name}: cannot be loaded, so that this report does not have what it would say: {error}")
    return stages, lost


def column_of_one(run: RunFolder, measures: Mapping[str, str | None]) -> str | None:
    """The ledger's column of a measure that one stage has; None where none has it, or several. `measures`: by stage."""
    columns = [
        column
        for name, wanted in measures.items()
        for column, measure in run.measure_columns(name).items()
        if measure == wanted
    ]
    return columns[0] if len(columns) == 1 else None


def categorical_columns(run: RunFolder, stages: Mapping[str, Stage]) -> list[str]:
    """The ledger's columns of texts of which few differ: all measures that are texts, but for those that name documents."""
    named = {
        column
        for name, stage in stages.items()
        for column, measure in run.measure_columns(name).items()
        if measure not in stage.refers_to
    }
    texts: dict[str, None] = {}
    for path in run.ledger_paths:  # a file of which no document came to a stage lacks its measures
        with run.store.open(path) as file:
            texts |= dict.fromkeys(column.name for column in pq.read_schema(file) if column.type == pa.string())
    return [name for name in texts if name in named]
