"""The ledger of a run: one Parquet file a partition, one row an input record, joined by position from what steps wrote.

Columns: `id` (partition#position), `source`, `path`, `position`, `url`, `date`, `offset`, `bytes`, `digest`, `metadata` (JSON);
`fate` (kept, dropped, failed) and, where it ended, `stage`, `rule`, `value`, `threshold`, `message`; then every measure of
every stage. All files of a run have the same columns and types: a measure that no document of a partition has is null there,
and one that no document of the run has a value of has Arrow's type null, if its stage did not say another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.partitions import Partition
from tokenmill.pipeline.graph.routes import NOT_TAKEN
from tokenmill.pipeline.storage.documents import View, is_among
from tokenmill.pipeline.storage.ledger_columns import ENDS, FATES, RECORD
from tokenmill.pipeline.storage.ledger_writer import read_streams
from tokenmill.pipeline.storage.receipts import LEDGER, Receipt, StageCount
from tokenmill.pipeline.storage.store import Store
from tokenmill.pipeline.tasks.task import Task
from tokenmill.stages.stage import FAILED, KEPT


class PositionStream:
    """A ledger part read forward: rows up to a position, then on from there. `types`: of its measures."""

    def __init__(self, store: Store, path: str, types: Mapping[str, pa.DataType]) -> None:
        self._tables = read_streams(store, path, types)
        self._waiting = next(self._tables)

    def until(self, bound: int) -> pa.Table:
        """The rows with position <= bound that were not given yet."""
        taken: list[pa.Table] = []
        while True:
            end = int(np.searchsorted(self._waiting.column("position").to_numpy(), bound, "right"))
            taken.append(self._waiting.slice(0, end))
            self._waiting = self._waiting.slice(end)
            if self._waiting.num_rows or (following := next(self._tables, None)) is None:
                break
            self._waiting = following
        return pa.concat_tables(taken, promote_options="default")

    def batches(self) -> Iterator[pa.Table]:
        """All rows, a row group at a time; a table of no rows where there are none."""
        yield self._waiting
        yield from self._tables


@dataclass(frozen=True)
class LedgerTask(Task):
    """Joins the ledger parts of one partition. `parts`: their files, first the one that read the partition; `stages`: the last
    stage of each one's step; `names`, `types`: of the measures "node:measure" of all partitions; `view`: the documents that
    reached a sink."""

    partition: Partition = field(kw_only=True)
    parts: tuple[str, ...] = field(kw_only=True)
    stages: tuple[str, ...] = field(kw_only=True)
    names: dict[str, str] = field(kw_only=True)
    types: dict[str, pa.DataType] = field(kw_only=True)
    view: View | None = field(kw_only=True)

    def fill(self, receipt: Receipt) -> None:
        """See `Task`."""
        receipt.partition = self.partition.name
        kept = self.view.positions(self.store) if self.view else np.empty(0, np.int32)
        streams = [PositionStream(self.store, path, self.types) for path in self.parts]
        count = StageCount()
        writer: pq.ParquetWriter | None = None
        with self.store.create(f"{LEDGER}/{self.key}.parquet") as file:
            for rows in streams[0].batches():
                table = self._joined(rows, streams[1:], kept).combine_chunks()
                fates = table.column("fate").value_counts().to_pylist()
                by_fate = {item["values"]: item["counts"] for item in fates}
                not_taken = pc.sum(pc.equal(table.column("rule"), NOT_TAKEN)).as_py() or 0
                count.add(
                    StageCount(
                        table.num_rows,
                        by_fate.get("kept", 0),
                        {"dropped": by_fate.get("dropped", 0) - not_taken}
                        | ({NOT_TAKEN: not_taken} if not_taken else {}),
                        {"failed": by_fate.get("failed", 0)},
                    )
                )
                writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
            assert writer is not None
            writer.close()
        if count.kept != len(kept):
            raise RunError(
                f"{self.partition.name}: the ledger keeps {count.kept} documents, the last stage {len(kept)}"
            )
        receipt.stages = {LEDGER: count}
        receipt.outputs["ledger"] = file.output

    def _joined(self, rows: pa.Table, streams: list[PositionStream], kept: np.ndarray) -> pa.Table:
        positions = rows.column("position").to_numpy()
        columns: dict[str, pa.ChunkedArray] = {}
        fate = rows.column("fate").to_numpy().copy()
        ends = {name: rows.column(name) for name in ENDS}
        last = np.zeros(len(positions), np.int64)
        self._take_measures(rows, None, columns)
        for number, stream in enumerate(streams, 1):
            part = stream.until(int(positions[-1]) if len(positions) else -1)
            places = np.searchsorted(part.column("position").to_numpy(), positions)
            found = is_among(positions, part.column("position").to_numpy())
            back = pa.array(places, mask=~found)
            theirs = part.column("fate").take(back).fill_null(KEPT).to_numpy()
            ended = pa.array(theirs != KEPT)
            fate = np.where(theirs != KEPT, theirs, fate)
            last[found & (theirs == KEPT)] = number
            ends = {name: pc.if_else(ended, part.column(name).take(back), ends[name]) for name in ENDS}
            self._take_measures(part, back, columns)
        reached = is_among(positions, kept)
        not_taken = pa.array((fate == KEPT) & ~reached)
        kept_by = pa.array(self.stages, pa.string()).take(pa.array(last))
        ends["stage"] = pc.if_else(not_taken, kept_by, ends["stage"])
        ends["rule"] = pc.if_else(not_taken, NOT_TAKEN, ends["rule"])
        fate = np.where(reached, KEPT, np.where(fate == FAILED, FAILED, 1)).astype(np.int32)
        ends = {
            name: pc.if_else(pa.array(reached), pa.scalar(None, column.type), column) for name, column in ends.items()
        }
        count = len(positions)
        identity = pc.binary_join_element_wise(
            pa.scalar(self.partition.name), pa.array(positions).cast(pa.string()), pa.scalar("#")
        )
        return pa.table(
            {
                "id": identity.cast(pa.string()),
                "source": pa.array([self.partition.source] * count, pa.string()).dictionary_encode(),
                "path": pa.array([self.partition.path] * count, pa.string()).dictionary_encode(),
                "position": rows.column("position"),
                **{
                    name: rows.column(name).cast(kind) if name in rows.column_names else pa.nulls(count, kind)
                    for name, kind in RECORD.items()
                },
                "fate": pa.DictionaryArray.from_arrays(pa.array(fate), list(FATES)).cast(pa.string()),
                **ends,
                **{
                    self.names[column]: columns.get(self.names[column], pa.nulls(count, kind))
                    for column, kind in self.types.items()
                },
            }
        )

    def _take_measures(self, part: pa.Table, back: pa.Array | None, columns: dict[str, pa.ChunkedArray]) -> None:
        for name in part.column_names:
            if name in self.names:
                columns[self.names[name]] = part.column(name) if back is None else part.column(name).take(back)
