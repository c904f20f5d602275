"""What a phase of a corpus stage says of a partition's documents: into the ledger, the counts and the file of the kept ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.storage.column_types import joined
from tokenmill.pipeline.storage.documents import Positions, View, view_columns
from tokenmill.pipeline.storage.ledger_writer import BatchLedger, LedgerWriter, content_bytes
from tokenmill.pipeline.storage.receipts import Receipt, StageCount
from tokenmill.pipeline.storage.store import AtomicFile, Store
from tokenmill.pipeline.tasks.judge_batch import Change, enter_verdicts, judge_batch
from tokenmill.stages.stage import Verdicts

EMPTY: Positions = np.empty(0, np.int32)


class JudgedDocuments:
    """Of a node, in one task: the ledger rows, the counts, and which documents are kept, with the columns that it `adds`."""

    def __init__(self, node: str, adds: Sequence[str], receipt: Receipt, ledger_file: AtomicFile) -> None:
        self._node = node
        self._receipt = receipt
        self._ledger = LedgerWriter(ledger_file)
        self._count = receipt.stages.setdefault(node, StageCount())
        self._judged: list[Positions] = [EMPTY]
        self._kept: list[pa.RecordBatch] = []
        self._adds = adds
        self._types: dict[str, pa.DataType] = {}

    def add(self, positions: Positions, verdicts: Verdicts) -> None:
        """Enters verdicts for some documents, whose bytes are not at hand."""
        if not len(positions):  # the measures of none have no types
            return
        rows = BatchLedger(pa.array(positions, pa.int32()))
        unknown = np.zeros(len(positions), np.int64)
        kept = enter_verdicts(self._node, verdicts, rows, np.arange(len(positions)), self._count, unknown, unknown)
        self._write(rows)
        self._judged.append(positions)
        added = {name: verdicts.measures[name] for name in self._adds}
        batch = pa.record_batch({"position": pa.array(positions, pa.int32()), **added})
        self._kept.append(batch.filter(pa.array(kept)))

    def edited(self, store: Store, view: View, change: Change) -> Iterator[pa.RecordBatch]:
        """Takes the documents of a view through a change, and gives those that are kept."""
        for documents in view.batches(store, view_columns(store, view), None):
            rows = BatchLedger(documents.column("position"))
            places = np.arange(documents.num_rows)
            kept, _ = judge_batch(self._node, change, documents, rows, places, self._count, self._types)
            self._write(rows)
            yield kept

    def _write(self, rows: BatchLedger) -> None:
        self._ledger.write(rows.table())

    def close(self) -> None:
        """Writes what is left of the ledger rows; a table of no rows where nothing was judged."""
        self._ledger.close()
        self._receipt.columns = self._ledger.columns

    def kept(self, store: Store, view: View) -> Iterator[pa.RecordBatch]:
        """The positions of the kept documents and the columns that the node adds; counts bytes of text.

        Raises `RunError` where not every document of the view was judged, ascending, once.
        """
        if not np.array_equal(np.concatenate(self._judged), view.positions(store)):
            partition = self._receipt.partition
            raise RunError(f"{self._node!r} must judge all documents of {partition}, ascending, once")
        whole = joined([pa.record_batch({"position": pa.array(EMPTY)}), *self._kept]).combine_chunks()
        self._count_bytes(store, view, whole.column("position").to_numpy())
        yield from whole.to_batches()

    def _count_bytes(self, store: Store, view: View, kept: npt.NDArray[np.int32]) -> None:
        for documents in view.batches(store, ["position", "text"], None):
            size = content_bytes(documents)
            self._count.bytes_entered += int(size.sum())
            is_kept = np.isin(documents.column("position").to_numpy(), kept, assume_unique=True)
            self._count.bytes_kept += int(size[is_kept].sum())
