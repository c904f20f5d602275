"""One partition's way through neighbouring document-by-document stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.partitions import Partition, open_input
from tokenmill.pipeline.graph.routes import column_of
from tokenmill.pipeline.graph.sampling import head
from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.pipeline.storage.documents import View, view_columns, with_columns
from tokenmill.pipeline.storage.ledger_writer import (
    BatchLedger,
    LedgerWriter,
    account,
    account_routes,
    check_verdicts,
    content_bytes,
)
from tokenmill.pipeline.storage.receipts import READ, Receipt, StageCount
from tokenmill.pipeline.tasks.judge_batch import as_change, judge_batch
from tokenmill.pipeline.tasks.task import Task
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.registry import read_documents
from tokenmill.stages.stage import Filter, Transform


@dataclass(frozen=True)
class PartitionTask(Task):
    """Takes one partition through neighbouring document-by-document stages, reading it from its source or from a view."""

    partition: Partition = field(kw_only=True)
    options: ReadOptions | None = field(kw_only=True)
    view: View | None = field(kw_only=True)
    stages: tuple[tuple[str, StageSpec], ...] = field(kw_only=True)
    limit: int | None = field(kw_only=True)
    """Documents after which reading stops."""

    def fill(self, receipt: Receipt) -> None:
        """See `Task`."""
        receipt.partition = self.partition.name
        names = [READ] * (self.options is not None) + [name for name, _ in self.stages]
        receipt.stages = {name: StageCount() for name in names}
        loaded = self._load_stages()
        ledger_file = self.new_file(receipt, "ledger.arrows")
        ledger = LedgerWriter(ledger_file)
        holds_text = self.options is not None or any(
            isinstance(stage, Transform) and stage.modifies_text for _, stage in loaded
        )
        kind = "documents" if holds_text else "kept"
        added = dict.fromkeys(name for _, stage in loaded for name in stage.adds)  # two stages may add one column

        def kept_batches() -> Iterator[pa.RecordBatch]:
            types: dict[str, pa.DataType] = {}
            for documents, rows in self._batches(receipt):
                kept = self._judge(documents, rows, loaded, receipt, types)
                ledger.write(rows.table())
                receipt.failures += rows.failures(known=len(receipt.failures))
                if kept.num_rows:
                    yield kept if holds_text else kept.select(["position", *added])

        with ledger_file:
            documents_file = self.write_documents(
                receipt, f"{kind}.arrow", kept_batches(), compression="lz4" if holds_text else None
            )
            ledger.close()
        receipt.columns = ledger.columns
        receipt.outputs[kind] = documents_file.output
        receipt.outputs["ledger"] = ledger_file.output
        self._check(receipt, names)

    def _load_stages(self) -> list[tuple[str, Filter | Transform]]:
        loaded = []
        for name, spec in self.stages:
            stage = spec.load()
            assert isinstance(stage, Filter | Transform)
            loaded.append((name, stage))
        return loaded

    def _batches(self, receipt: Receipt) -> Iterator[tuple[pa.RecordBatch, BatchLedger]]:
        """Batches of documents, each with its ledger rows begun: what was read (and what became of it there)."""
        if self.options is not None:
            yield from self._read(self.options, receipt)
            return
        assert self.view is not None
        for documents in self.view.batches(self.store, view_columns(self.store, self.view), None):
            yield documents, BatchLedger(documents.column("position"))

    def _read(self, options: ReadOptions, receipt: Receipt) -> Iterator[tuple[pa.RecordBatch, BatchLedger]]:
        path, start, end = self.partition.path, self.partition.start, self.partition.end
        count = receipt.stages[READ]
        with open_input(path) as file:
            for documents, verdicts in read_documents(file, path=path, options=options, start=start, end=end):
                check_verdicts(READ, verdicts, documents.num_rows)
                if self.limit is not None:
                    documents, verdicts = head(documents, verdicts, self.limit - count.kept)
                rows = BatchLedger(documents.column("position"))
                if rows.positions.to_pylist()[:1] not in ([], [receipt.size]):
                    raise RunError(f"{self.partition.name}: positions do not go on where the last batch ended")
                receipt.size += documents.num_rows
                identity = {name: documents.column(name) for name in ("url", "date", "metadata")}
                rows.add(READ, np.arange(documents.num_rows), verdicts, identity | verdicts.measures)
                size = content_bytes(documents)
                kept = account(count, verdicts, size, size)
                located = with_columns(documents, {"offset": verdicts.measures["offset"]})
                yield located.filter(pa.array(kept)), rows
                if count.kept == self.limit:
                    return

    def _judge(
        self,
        documents: pa.RecordBatch,
        rows: BatchLedger,
        stages: list[tuple[str, Filter | Transform]],
        receipt: Receipt,
        types: dict[str, pa.DataType],
    ) -> pa.RecordBatch:
        """Takes a batch through the stages. None is given a batch without documents, which could tell nothing, and of whose
        columns Arrow would infer types that mean nothing. `types`: see `judge_batch`.
        """
        places = np.searchsorted(rows.positions.to_numpy(), documents.column("position").to_numpy())
        for name, stage in stages:
            if not documents.num_rows:
                break
            count = receipt.stages[name]
            added, column = stage.adds if isinstance(stage, Filter) else (), column_of(stage)
            documents, places = judge_batch(
                name, as_change(stage), documents, rows, places, count, types, added, column
            )
            if column is not None:
                account_routes(count, documents.column(column), content_bytes(documents))
        return documents

    def _check(self, receipt: Receipt, names: list[str]) -> None:
        for one, other in pairwise(names):
            if receipt.stages[one].kept != receipt.stages[other].entered:
                raise RunError(f"{self.partition.name}: {one!r} kept more or fewer documents than {other!r} saw")
