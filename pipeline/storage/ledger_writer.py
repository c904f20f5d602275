"""The part of the ledger that one task writes: a row for each document that entered its step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.storage.column_types import type_name, widened, with_types
from tokenmill.pipeline.storage.ledger_columns import END_TYPES
from tokenmill.pipeline.storage.receipts import FAILURES_NAMED, StageCount
from tokenmill.pipeline.storage.store import AtomicFile, Store
from tokenmill.stages.stage import DROPPED, FAILED, KEPT, Verdicts

ROW_GROUP_ROWS = 65_536
"""Rows that a ledger, and each part of it, holds together; wherever batches end, so that the bytes do not depend on them."""


def content_bytes(documents: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Bytes of text of each document, or of HTML where it has no text yet; int64, shape (rows,)."""
    length = pa.nulls(documents.num_rows, pa.int64())
    for name in ("text", "html"):
        if name in documents.schema.names:
            length = pc.coalesce(length, pc.binary_length(documents.column(name)).cast(pa.int64()))
    return length.fill_null(0).to_numpy(zero_copy_only=False)


def account(
    count: StageCount, verdicts: Verdicts, before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Adds a batch's verdicts to a stage's count (`before`, `after`: content bytes) and returns which documents are kept."""
    kept = verdicts.fate == KEPT
    count.entered += len(kept)
    count.kept += int(kept.sum())
    count.bytes_entered += int(before.sum())
    count.bytes_kept += int(after[kept].sum())
    for fate, reasons in ((DROPPED, count.dropped), (FAILED, count.failed)):
        chosen = verdicts.rule.filter(pa.array(verdicts.fate == fate))
        for item in chosen.value_counts().to_pylist():
            reasons[item["values"]] = reasons.get(item["values"], 0) + item["counts"]
    return kept


def account_routes(count: StageCount, column: pa.Array, sizes: npt.NDArray[np.int64]) -> None:
    """Adds the documents that a stage kept to its count, by their values in the column that it routes by."""
    sums = pa.table([column, pa.array(sizes)], ["value", "size"]).group_by("value", use_threads=False)
    for row in sums.aggregate([("size", "count"), ("size", "sum")]).to_pylist():
        if row["value"] is not None:
            count.add(StageCount(routes={row["value"]: [row["size_count"], row["size_sum"]]}))


def check_verdicts(stage: str, verdicts: Verdicts, rows: int) -> None:
    """Raises `RunError` where a stage's answer does not fit the documents that it was given."""
    columns: dict[str, Any] = {
        "fate": verdicts.fate,
        "rule": verdicts.rule,
        "value": verdicts.value,
        "threshold": verdicts.threshold,
        "message": verdicts.message,
        **verdicts.measures,
    }
    for name, column in columns.items():
        if len(column) != rows:
            raise RunError(f"stage {stage!r} gave {len(column)} values of {name!r} for {rows} documents")
    ended = verdicts.fate != KEPT
    if verdicts.fate.size and int(verdicts.fate.max()) > FAILED:
        raise RunError(f"stage {stage!r} gave a fate that is none of KEPT, DROPPED, FAILED")
    if not np.array_equal(ended, pc.is_valid(verdicts.rule).to_numpy(zero_copy_only=False)):
        raise RunError(f"stage {stage!r} must name a rule for each document that it ends, and for no other")


@dataclass
class BatchLedger:
    """The ledger rows of one batch as it goes through the stages of a step."""

    positions: pa.Array
    columns: dict[str, pa.Array] = field(default_factory=dict)
    fate: npt.NDArray[np.uint8] = field(init=False)
    _ends: dict[str, list[pa.Array]] = field(init=False)

    def __post_init__(self) -> None:
        self.fate = np.zeros(len(self.positions), np.uint8)
        self._ends = {name: [] for name in END_TYPES}

    def add(
        self, stage: str, rows: npt.NDArray[np.int64], verdicts: Verdicts, measures: Mapping[str, pa.Array]
    ) -> None:
        """Enters a stage's verdicts for the documents at `rows` of this batch; `measures` under their ledger names."""
        places = np.full(len(self.positions), -1, np.int64)
        places[rows] = np.arange(len(rows))
        back = pa.array(places, mask=places < 0)
        self.fate[rows] = np.maximum(self.fate[rows], verdicts.fate)
        stages = pc.if_else(pa.array(verdicts.fate != KEPT), pa.scalar(stage), pa.scalar(None, pa.string()))
        ends = (stages, verdicts.rule, verdicts.value, verdicts.threshold, verdicts.message)
        for name, column in zip(self._ends, ends, strict=True):
            self._ends[name].append(column.cast(END_TYPES[name]).take(back))
        for name, column in measures.items():
            self.columns[name] = column.take(back)

    def table(self) -> pa.Table:
        """The rows as a table."""
        ends = {name: pc.coalesce(*columns) for name, columns in self._ends.items()}
        return pa.table({"position": self.positions, "fate": pa.array(self.fate), **ends, **self.columns})

    @staticmethod
    def empty() -> pa.Table:
        """No rows."""
        ledger = BatchLedger(pa.array([], pa.int32()))
        ledger.add("none", np.empty(0, np.int64), Verdicts.all_kept(0), {})
        return ledger.table()

    def failures(self, known: int) -> list[dict[str, Any]]:
        """The failed documents of this batch, to name in the receipt, given how many it names already."""
        failed = pa.array(self.fate == FAILED)
        table = self.table().filter(failed).slice(0, max(FAILURES_NAMED - known, 0))
        names = [n for n in ("position", "stage", "rule", "message", "url", "offset") if n in table.column_names]
        return table.select(names).to_pylist()


class LedgerWriter:
    """Writes ledger rows as Arrow IPC streams, one behind the other, each of `ROW_GROUP_ROWS` rows (the last of fewer).

    Each has a schema of its own, so that memory stays bounded where the type of a measure is not known yet, or no document
    has come to its stage: the column is null in this stream, or missing, and has its type in later ones. Who reads them
    (`read_streams`) gives all of them the type that the receipt tells.
    """

    def __init__(self, file: AtomicFile) -> None:
        self._file = file
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._types: dict[str, pa.DataType] = {}

    @property
    def columns(self) -> dict[str, str]:
        """The measures so far, as "stage:measure", and their types by name."""
        return {column: type_name(kind) for column, kind in self._types.items()}

    def write(self, table: pa.Table) -> None:
        """Adds rows. Raises `RunError` where a measure's type does not go together with that of rows before."""
        for column in table.schema:
            if ":" in column.name:
                before = self._types.get(column.name, column.type)
                self._types[column.name] = widened(before, column.type, column.name)
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= ROW_GROUP_ROWS:
            rows = self._joined()
            while rows.num_rows >= ROW_GROUP_ROWS:
                self._write_stream(rows.slice(0, ROW_GROUP_ROWS))
                rows = rows.slice(ROW_GROUP_ROWS)
            self._waiting, self._rows = [rows], rows.num_rows

    def _joined(self) -> pa.Table:
        typed = [with_types(table, self._types) for table in self._waiting]
        return pa.concat_tables(typed, promote_options="default")

    def _write_stream(self, rows: pa.Table) -> None:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(self._file, rows.schema, options=options) as writer:
            writer.write_table(rows.combine_chunks())

    def close(self) -> None:
        """Writes what is left. A task without documents leaves a stream of no rows."""
        if self._rows or not self._file.tell():
            self._write_stream(self._joined() if self._waiting else BatchLedger.empty())


def read_streams(store: Store, path: str, types: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """What a `LedgerWriter` wrote, stream by stream, the measures as these types; one stream at least."""
    with store.open(path) as held, pa.PythonFile(held) as file:
        size = file.size()
        while file.tell() < size:
            yield with_types(pa.ipc.open_stream(file).read_all(), types)
