"""The phase `pack`: a task a shard copies its documents' tokens together, and writes the table of its documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenmill.model.data.shard_format import ShardWriter
from tokenmill.stages.stage import PartitionInfo, TaskContext
from tokenmill.stages.tokens.card import OCCURRENCES, added, as_table, counted_by_source
from tokenmill.stages.tokens.layout import SPLITS, TRAIN, Place
from tokenmill.stages.tokens.plan import shard_places
from tokenmill.stages.tokens.shuffle import shuffled_batches


def pack_shard(context: TaskContext, *, shuffles: bool) -> None:
    """Publishes the shard's `.bin`, `.idx` and documents table; writes how often each token occurs in it (`OCCURRENCES`)."""
    place = shard_places(context.corpus)[context.task]
    rows: list[pa.Table] = []
    size_in_bytes = written = 0
    occurrences = np.zeros(0, np.int64)
    writer: ShardWriter | None = None
    with context.create(f"{place.name}.bin") as bin_file, context.create(f"{place.name}.idx") as index_file:
        for parts, batch in _batches_of(context, place, shuffles=shuffles):
            tokens = batch.column("tokens").flatten().to_numpy()
            lengths = batch.column("length").to_numpy()
            writer = writer or ShardWriter(bin_file, index_file, tokens.dtype)
            writer.write(tokens, lengths)
            rows.append(document_rows(context.corpus.parts, parts, batch, written))
            written += len(tokens)
            occurrences = added(occurrences, np.bincount(tokens))
            size_in_bytes += pc.sum(batch.column("bytes")).as_py()
        assert writer is not None
        info = writer.close()
    documents = pa.concat_tables(rows).combine_chunks()  # or its pages would end where batches do
    with context.create(place.documents_file) as file:
        pq.write_table(documents, file, compression="zstd")
    context.write(as_table(occurrences), OCCURRENCES)
    context.add_metrics(
        shard={"name": place.name, "bytes": size_in_bytes, **asdict(info)}, sources=counted_by_source(documents)
    )


def _batches_of(
    context: TaskContext, place: Place, *, shuffles: bool
) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]:
    parts = (
        (number, context.table("encode", str(number)).to_batches())
        for number in range(place.first_part, place.last_part + 1)
    )
    if shuffles and place.split == SPLITS[TRAIN]:
        return shuffled_batches(parts, place, TRAIN)
    return batches_in_order(parts, place)


def batches_in_order(
    parts: Iterable[tuple[int, list[pa.RecordBatch]]], place: Place
) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]:
    """The rows of a shard, in order, with the number of their part for each; slices of memory-mapped batches."""
    for number, batches in parts:
        begin = place.first_row if number == place.first_part else 0
        end = place.end_row if number == place.last_part else None
        row = 0
        for batch in batches:
            if not batch.num_rows or SPLITS[batch.column("split")[0].as_py()] != place.split:
                continue
            low = max(begin - row, 0)
            high = batch.num_rows if end is None else min(end - row, batch.num_rows)
            row += batch.num_rows
            if low < high:
                yield np.full(high - low, number), batch.slice(low, high - low)


def document_rows(
    parts: Sequence[PartitionInfo], numbers: npt.NDArray[np.int64], batch: pa.RecordBatch, written: int
) -> pa.Table:
    """Rows of the documents table. `numbers`: of the part of each row; `written`: tokens of the shard before the batch."""
    lengths = batch.column("length").to_numpy().astype(np.int64)
    starts = written + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    mine, index = np.unique(numbers, return_inverse=True)

    def of_parts(field: str) -> pa.Array:
        return pa.array([getattr(parts[number], field) for number in mine], pa.string()).take(pa.array(index))

    identity = pc.binary_join_element_wise(of_parts("name"), batch.column("position").cast(pa.string()), pa.scalar("#"))
    return pa.table(
        {
            "token_start": pa.array(starts, pa.int64()),
            "tokens": batch.column("length"),
            "bytes": batch.column("bytes"),
            "id": identity,
            "url": batch.column("url"),
            "source": of_parts("source"),
            "path": of_parts("path"),
            "offset": batch.column("offset"),
        }
    )
