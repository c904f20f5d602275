"""How the documents of a partition are stored and read back.

Text is written where it is made or changed (after extraction, after a transform); a filter writes only the positions that
it keeps and the columns that it adds. A *view* says which files together hold the documents at an edge of the DAG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.pipeline.storage.column_types import joined
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.stage import DATE

Positions = npt.NDArray[np.int32]

BATCH_TEXT_BYTES = 8 * 1024 * 1024
"""Batches written to document files hold about this much text."""


def open_table(store: Store, path: str, columns: Iterable[str] | None = None) -> pa.ipc.RecordBatchFileReader:
    """An Arrow IPC file, memory-mapped where the store is local, with those of some columns (None: all) that it has.

    What nobody asks for is not fetched over a network, and not decompressed.
    """
    file = pa.memory_map(str(store.local / path)) if store.local else pa.PythonFile(store.open(path))
    reader = pa.ipc.open_file(file)
    if columns is None:
        return reader
    fields = [reader.schema.get_field_index(name) for name in dict.fromkeys(columns) if name in reader.schema.names]
    return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields))


def read_columns(store: Store, path: str, columns: Sequence[str] | None) -> pa.Table:
    """Columns (None: all) of an Arrow IPC file."""
    with open_table(store, path, columns) as reader:
        table = reader.read_all()
    return table if columns is None else table.select(list(columns))


@dataclass(frozen=True)
class Stored:
    """Documents in a file of their own (`position`, `url`, `text` or `html`, ...), ascending by position."""

    path: str

    def positions(self, store: Store) -> Positions:
        """Positions of these documents, ascending."""
        return _column(store.root, self.path, "position")

    def batches(self, store: Store, columns: Sequence[str], wanted: Positions | None) -> Iterator[pa.RecordBatch]:
        """The documents (those at `wanted`, if given), ascending by position."""
        with open_table(store, self.path, ["position", *columns]) as reader:  # a file of no rows may not have them all
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                if wanted is not None:
                    position = batch.column("position").to_numpy()
                    mask = is_among(position, wanted)
                    if not mask.all():
                        batch = batch.filter(pa.array(mask))
                if batch.num_rows:
                    yield batch.select(list(columns))


@dataclass(frozen=True)
class Selected:
    """Some of the documents of another view: a file of `position` and added columns."""

    base: View
    path: str

    def positions(self, store: Store) -> Positions:
        """Positions of these documents, ascending."""
        return _column(store.root, self.path, "position")

    def batches(self, store: Store, columns: Sequence[str], wanted: Positions | None) -> Iterator[pa.RecordBatch]:
        """The documents (those at `wanted`, if given), ascending by position."""
        with open_table(store, self.path) as reader:
            names = reader.schema.names
        if set(columns) <= set(names):  # nothing of the base is asked for
            yield from Stored(self.path).batches(store, columns, wanted)
            return
        kept = self.positions(store)
        wanted = kept if wanted is None else np.intersect1d(kept, wanted, assume_unique=True)
        if not len(wanted):
            return
        here = [name for name in columns if name in names and name != "position"]
        added = read_columns(store, self.path, here) if here else None
        below = [name for name in columns if name not in here]
        for batch in self.base.batches(store, ["position", *(n for n in below if n != "position")], wanted):
            if added is not None:
                rows = pa.array(np.searchsorted(kept, batch.column("position").to_numpy()))
                for name in here:
                    batch = batch.append_column(name, added.column(name).take(rows).combine_chunks())
            yield batch.select(list(columns))


@dataclass(frozen=True)
class Union:
    """Documents of one partition that come by several ways; what comes by two is taken from the first that has it."""

    views: tuple[View, ...]

    def positions(self, store: Store) -> Positions:
        """Positions of these documents, ascending."""
        return np.unique(np.concatenate([view.positions(store) for view in self.views]))

    def batches(self, store: Store, columns: Sequence[str], wanted: Positions | None) -> Iterator[pa.RecordBatch]:
        """The documents (those at `wanted`, if given), ascending by position, merged batch by batch."""
        columns = ["position", *(name for name in columns if name != "position")]
        taken = np.empty(0, np.int32)
        streams = []
        for view in self.views:
            mine = np.setdiff1d(view.positions(store), taken, assume_unique=True)
            taken = np.union1d(taken, mine)
            mine = mine if wanted is None else np.intersect1d(mine, wanted, assume_unique=True)
            if len(mine):
                streams.append(view.batches(store, columns, mine))
        yield from merge_by_position(streams)


@dataclass(frozen=True)
class Routed:
    """The documents of another view in which a column has one of some values."""

    base: View
    column: str
    values: tuple[str, ...]

    def positions(self, store: Store) -> Positions:
        """Positions of these documents, ascending."""
        parts = [batch.column("position").to_numpy() for batch in self.batches(store, ["position"], None)]
        return np.concatenate([np.empty(0, np.int32), *parts])

    def batches(self, store: Store, columns: Sequence[str], wanted: Positions | None) -> Iterator[pa.RecordBatch]:
        """The documents (those at `wanted`, if given), ascending by position."""
        values = pa.array(self.values, pa.string())
        for batch in self.base.batches(store, list(dict.fromkeys([*columns, self.column])), wanted):
            routed = batch.filter(pc.is_in(batch.column(self.column), values))
            if routed.num_rows:
                yield routed.select(list(columns))


View = Stored | Selected | Union | Routed


def merge_by_position(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Merges streams of batches, each ascending by `position`, into one; holds one batch of each at a time."""
    waiting = [(stream, batch) for stream in streams if (batch := next(stream, None)) is not None]
    while len(waiting) > 1:
        bound = min(_last_position(batch) for _, batch in waiting)
        ready, rest = [], []
        for stream, batch in waiting:
            end = int(np.searchsorted(batch.column("position").to_numpy(), bound, "right"))
            if end:
                ready.append(batch.slice(0, end))
            left: pa.RecordBatch | None = batch.slice(end) if end < batch.num_rows else next(stream, None)
            if left is not None:
                rest.append((stream, left))
        merged = joined(ready).combine_chunks().sort_by("position")
        yield from merged.to_batches()
        waiting = rest
    for stream, batch in waiting:
        yield batch
        yield from stream


def is_among(values: Positions, ascending: Positions) -> npt.NDArray[np.bool_]:
    """For each value whether it stands in an ascending array."""
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[places] == values


def view_columns(store: Store, view: View) -> list[str]:
    """The columns that a view's files hold: of a union those that all its views have, but for views without documents, whose
    files need not have them."""
    match view:
        case Stored(path):
            with open_table(store, path) as reader:
                return list(reader.schema.names)
        case Selected(base, path):
            return list(dict.fromkeys([*view_columns(store, base), *view_columns(store, Stored(path))]))
        case Union(views):
            columns = [view_columns(store, one) for one in views if len(one.positions(store))] or [["position"]]
            return [name for name in columns[0] if all(name in other for other in columns)]
        case Routed(base):
            return view_columns(store, base)


def _last_position(batch: pa.RecordBatch) -> int:
    return int(batch.column("position")[-1].as_py())


@lru_cache(maxsize=64)
def _column(root: str, path: str, name: str) -> Positions:
    """One column of a committed file; such a file never changes (its name holds its fingerprint)."""
    with open_table(Store(root), path, [name]) as reader:
        parts = [reader.get_batch(number).column(name).to_numpy() for number in range(reader.num_record_batches)]
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


def view_digest(view: View, checksums: Mapping[str, str]) -> list[str]:
    """What decides a view's documents, for fingerprints: the checksums of all files that it reads, and its routes."""
    match view:
        case Stored(path):
            return [checksums[path]]
        case Selected(base, path):
            return [*view_digest(base, checksums), checksums[path]]
        case Union(views):
            return [part for one in views for part in view_digest(one, checksums)]
        case Routed(base, column, values):
            return [*view_digest(base, checksums), f"{column}: {','.join(values)}"]


def union_of(views: Sequence[View]) -> View:
    """One view over several."""
    return views[0] if len(views) == 1 else Union(tuple(views))


def in_bounded_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Joins small batches until they hold about `BATCH_TEXT_BYTES`, so that files have few, large ones."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if batch.num_rows:
            waiting.append(batch)
            size += batch.nbytes
        if size >= BATCH_TEXT_BYTES:
            yield joined(waiting).combine_chunks().to_batches()[0]
            waiting, size = [], 0
    if waiting:
        yield joined(waiting).combine_chunks().to_batches()[0]


EMPTY_SCHEMA = pa.schema(
    {
        "position": pa.int32(),
        "url": pa.string(),
        "date": DATE,
        "metadata": pa.string(),
        "text": pa.string(),
        "offset": pa.int64(),
    }
)
"""What a document file without documents holds: no batch told its columns."""

KNOWN_TYPES = {column.name: column.type for column in EMPTY_SCHEMA} | {"html": pa.binary(), "charset": pa.string()}
"""Types of the columns that every stage may read."""


def with_columns(documents: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """The documents with columns added, or replaced where they have one of the name."""
    arrays = dict(zip(documents.schema.names, documents.columns, strict=True)) | columns
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def with_known_types(documents: pa.RecordBatch, routed_by: str | None) -> pa.RecordBatch:
    """The documents that a stage gave back, where it left a column of the runner's own without a type because all is null.

    `routed_by`: the column that the stage routes by, whose values are strings.
    """
    known = KNOWN_TYPES if routed_by is None else KNOWN_TYPES | {routed_by: pa.string()}
    untyped = [column.name for column in documents.schema if column.type == pa.null() and column.name in known]
    return with_columns(documents, {name: documents.column(name).cast(known[name]) for name in untyped})


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of no rows."""
    return pa.RecordBatch.from_pylist([], schema)


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the schema that holds it, or with a wider one where that does not."""
    return joined([empty_batch(schema), batch]).combine_chunks().to_batches()[0]


def write_batches(file: Any, batches: Iterator[pa.RecordBatch], *, compression: str | None) -> pa.RecordBatch | None:
    """Writes batches as an Arrow IPC file; the first gives the schema, and none leaves a file of no rows.

    Ends at a batch that the schema does not hold, and gives that back.
    """
    options = pa.ipc.IpcWriteOptions(compression=compression)
    first = next(batches, None)
    schema = EMPTY_SCHEMA if first is None else first.schema
    with pa.ipc.new_file(file, schema, options=options) as writer:
        for batch in batches if first is None else chain([first], batches):
            fit = batch if batch.schema == schema else fitted(batch, schema)
            if fit.schema != schema:
                return batch
            writer.write_batch(fit)
    return None
